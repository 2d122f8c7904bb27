// Package clerkclient speaks Clerk's invitation API: the official SDK's types over a Backend with stricter transport rules,
// and a typed outcome for every answer.
//
// Every method makes exactly one HTTP call. The deadline of its context is the call's: no byte is written after it.
// An error is always an *Error; nothing in it, and nothing that prints, holds the secret key, an address or a sign-up ticket.
// The package logs nothing.
package clerkclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/clerk/clerk-sdk-go/v2/user"
)

// Bounds of one call (documented).
const (
	MaxBulk          = 10  // invitations in one bulk
	MaxPage          = 500 // rows of one page of a list
	MaxUserAddresses = 100 // addresses in one look-up of users
)

// Client makes the five calls. It is safe for concurrent use.
type Client struct {
	backend     *Backend
	invitations *invitation.Client
}

// New checks the configuration and gives a client. It calls nobody.
func New(config Config) (*Client, error) {
	backend, err := NewBackend(config)
	if err != nil {
		return nil, err
	}
	return &Client{backend: backend, invitations: &invitation.Client{Backend: backend}}, nil
}

// Close closes the connections that are kept for later calls. Calls under way go on.
func (c *Client) Close() { c.backend.Close() }

// KeyFingerprint tells keys apart without showing them: the first 8 hexadecimal digits of the key's SHA-256.
func (c *Client) KeyFingerprint() string { return c.backend.key.fingerprint }

// KeyKind is "test" or "live", by the key's prefix (documented).
func (c *Client) KeyKind() string { return c.backend.key.kind }

// Format prints the client without its key, for every verb.
func (c Client) Format(f fmt.State, verb rune) {
	printPlain(f, verb, fmt.Sprintf("clerkclient.Client{host %s, %s key %s}",
		c.backend.base.Host, c.backend.key.kind, c.backend.key.fingerprint))
}

// Answer is what is known of an HTTP answer besides its body. It is zero when none came.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Date is the server's clock when it answered, with a resolution of 1 s; zero when it did not say.
	Date time.Time
	// TraceID names the call to Clerk's support.
	TraceID string
}

// answerOf gathers the answer of a call from whichever of the two the backend gave.
func answerOf(response *clerk.APIResponse, err error) Answer {
	if e, ok := errors.AsType[*Error](err); ok {
		return Answer{Status: e.Status, Date: e.date, TraceID: e.TraceID}
	}
	if response == nil {
		return Answer{}
	}
	return Answer{Status: response.StatusCode, Date: answer{header: response.Header}.date(), TraceID: response.TraceID}
}

const (
	opCreate = "POST /invitations"
	opBulk   = "POST /invitations/bulk"
	opRevoke = "POST /invitations/{id}/revoke"
	opList   = "GET /invitations"
	opUsers  = "GET /users"
)

// Create creates one invitation. A 2xx is believed only if it is about the address that was asked for.
func (c *Client) Create(ctx context.Context, params *invitation.CreateParams) (Invitation, Answer, error) {
	if params == nil || params.EmailAddress == "" {
		return Invitation{}, Answer{}, refused(opCreate, "the invitation has no address")
	}
	created, err := c.invitations.Create(ctx, params)
	answer := answerOf(created.Response, err)
	if err != nil {
		return Invitation{}, answer, err
	}
	got, err := readCreated(created, params.EmailAddress)
	return got, answer, err
}

// CreateBulk creates 1 to MaxBulk invitations, all or none (assumed), and gives them in the order in which they were asked for.
// A 2xx is believed only if it is about exactly the addresses that were asked for.
func (c *Client) CreateBulk(ctx context.Context, params []*invitation.CreateParams) ([]Invitation, Answer, error) {
	if len(params) == 0 || len(params) > MaxBulk {
		return nil, Answer{}, refused(opBulk, "a bulk of %d invitations: it takes 1 to %d", len(params), MaxBulk)
	}
	asked := make([]string, len(params))
	for i, p := range params {
		if p == nil || p.EmailAddress == "" {
			return nil, Answer{}, refused(opBulk, "invitation %d of %d has no address", i+1, len(params))
		}
		asked[i] = fold(p.EmailAddress)
		if at := slices.Index(asked[:i], asked[i]); at >= 0 {
			return nil, Answer{}, refused(opBulk, "invitations %d and %d of %d are to the same address", at+1, i+1, len(params))
		}
	}
	created, err := c.invitations.BulkCreate(ctx, &invitation.BulkCreateParams{Invitations: params})
	if err != nil {
		return nil, answerOf(nil, err), err
	}
	got, err := readBulk(created, asked)
	return got, answerOf(created.Response, nil), err
}

// Revoke revokes a pending invitation. An id that is not 1 to 64 letters, digits, _ or - is refused unsent.
func (c *Client) Revoke(ctx context.Context, id string) (Invitation, Answer, error) {
	if !segmentForm.MatchString(id) {
		return Invitation{}, Answer{}, refused(opRevoke, "that is not the id of an invitation: one looks like inv_2Q…")
	}
	revoked, err := c.invitations.Revoke(ctx, id)
	answer := answerOf(revoked.Response, err)
	if err != nil {
		return Invitation{}, answer, err
	}
	got, err := readRevoked(revoked, id)
	return got, answer, err
}

// ListQuery chooses a page of invitations. The zero value asks for Clerk's defaults. It can be printed: Query is left out.
type ListQuery struct {
	Limit  int // rows, 1 to MaxPage; 0 means Clerk's default of 10
	Offset int // rows to skip
	// Status is pending, accepted, revoked or expired; empty means all but revoked ones (documented).
	Status string
	// Query matches parts of addresses, and ids.
	Query string
	// OrderBy is created_at, email_address or expires_at, after an optional + or -; empty means -created_at.
	OrderBy string
}

// Format prints the query without the address that Query may be.
func (q ListQuery) Format(f fmt.State, verb rune) {
	text := fmt.Sprintf("clerkclient.ListQuery{limit %d, offset %d", q.Limit, q.Offset)
	if q.Status != "" {
		text += ", status " + redact(q.Status)
	}
	if q.OrderBy != "" {
		text += ", order by " + redact(q.OrderBy)
	}
	if q.Query != "" {
		text += ", query [withheld]"
	}
	printPlain(f, verb, text+"}")
}

var orderForm = regexp.MustCompile(`^[+-]?(created_at|email_address|expires_at)$`)

// params checks the query and puts it in the SDK's words.
func (q ListQuery) params() (*invitation.ListParams, *Error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxPage:
		return nil, refused(opList, "a limit of %d: it is 1 to %d", q.Limit, MaxPage)
	case q.Offset < 0:
		return nil, refused(opList, "an offset of %d: it is 0 or more", q.Offset)
	case q.Status != "" && !slices.Contains([]string{"pending", "accepted", "revoked", "expired"}, q.Status):
		return nil, refused(opList, "the status is none of pending, accepted, revoked, expired")
	case q.OrderBy != "" && !orderForm.MatchString(q.OrderBy):
		return nil, refused(opList, "the order is none of created_at, email_address, expires_at, with or without + or -")
	}
	params := &invitation.ListParams{}
	if q.Limit > 0 {
		params.Limit = clerk.Int64(int64(q.Limit))
	}
	if q.Offset > 0 {
		params.Offset = clerk.Int64(int64(q.Offset))
	}
	if q.Status != "" {
		params.Statuses = []string{q.Status}
	}
	if q.Query != "" {
		params.Query = &q.Query
	}
	if q.OrderBy != "" {
		params.OrderBy = &q.OrderBy
	}
	return params, nil
}

// List gives one page of invitations. An answer that is no list is an error, never an empty page: an empty page is evidence that an
// invitation does not exist.
func (c *Client) List(ctx context.Context, query ListQuery) (Page, Answer, error) {
	params, fault := query.params()
	if fault != nil {
		return Page{}, Answer{}, fault
	}
	// The SDK's own path and parameters, with a reader that takes a bare array too: that paginated gives {data, total_count} is
	// observed, and Clerk's document says an array.
	request := clerk.NewAPIRequest(http.MethodGet, "/invitations?paginated=true")
	request.SetParams(params)
	list := &listAnswer{}
	err := c.backend.Call(ctx, request, list)
	answer := answerOf(list.Response, err)
	if err != nil {
		return Page{}, answer, err
	}
	page, err := readPage(list, query.Limit)
	return page, answer, err
}

// UsersByEmail tells which of 1 to MaxUserAddresses addresses belong to users: those addresses, folded (trimmed and lower-cased) and sorted.
// An address that a user has entered but not verified does not count: Clerk lets somebody else claim it (assumed), so that
// an invitation to it may succeed.
func (c *Client) UsersByEmail(ctx context.Context, addresses []string) ([]string, Answer, error) {
	if len(addresses) == 0 || len(addresses) > MaxUserAddresses {
		return nil, Answer{}, refused(opUsers, "a look-up of %d addresses: it takes 1 to %d", len(addresses), MaxUserAddresses)
	}
	asked := make([]string, len(addresses))
	for i, address := range addresses {
		if asked[i] = fold(address); asked[i] == "" {
			return nil, Answer{}, refused(opUsers, "address %d of %d is empty", i+1, len(addresses))
		}
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	// Not the SDK's List: it makes a second call, for the count. The limit is not to be left out: it would be 10.
	request := clerk.NewAPIRequest(http.MethodGet, "/users")
	request.SetParams(&user.ListParams{ListParams: clerk.ListParams{Limit: clerk.Int64(MaxPage)}, EmailAddresses: asked})
	found := &userAnswer{}
	err := c.backend.Call(ctx, request, found)
	answer := answerOf(found.Response, err)
	if err != nil {
		return nil, answer, err
	}
	taken, err := readUsers(found, asked)
	return taken, answer, err
}
