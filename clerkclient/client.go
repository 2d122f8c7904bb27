// Package clerkclient speaks Clerk's invitation API: it takes the official SDK's types, has stricter rules for the
// connection, and gives every answer a typed outcome.
//
// Every method makes exactly one HTTP call. The deadline of its context is the call's: no byte is written after it.
// An error is always an *Error. Whatever the package prints holds no secret key, no address and no sign-up ticket.
// The package logs nothing.
package clerkclient

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/clerk/clerk-sdk-go/v2/user"
)

// The most that one call carries (documented).
const (
	MaxBulk          = 10  // invitations in one bulk
	MaxPage          = 500 // rows on one page of a list
	MaxUserAddresses = 100 // addresses in one look-up of users
)

// Client makes the six calls. It is safe for concurrent use.
//
// It is also a clerk.Backend, so any client of Clerk's SDK can call through it: see [Client.Call].
type Client struct {
	base      *url.URL
	key       key
	userAgent string
	timeout   time.Duration
	transport *http.Transport
}

var _ clerk.Backend = (*Client)(nil)

// New checks the configuration and returns a client. It makes no call. An error says which setting is wrong and never
// holds the key.
func New(config Config) (*Client, error) {
	secret, err := parseKey(config.Key)
	if err != nil {
		return nil, err
	}
	base, err := parseBaseURL(config.BaseURL)
	if err != nil {
		return nil, err
	}
	agent, err := userAgent(cmp.Or(config.Version, "dev"))
	if err != nil {
		return nil, err
	}
	if config.Timeout < 0 {
		return nil, fmt.Errorf("the timeout of a call is %s: it must be positive", config.Timeout)
	}
	timeout := cmp.Or(config.Timeout, DefaultTimeout)
	return &Client{base: base, key: secret, userAgent: agent, timeout: timeout, transport: newTransport()}, nil
}

// Close closes the connections that are kept for later calls. Calls under way go on.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// KeyFingerprint tells keys apart without showing them: the first 8 hexadecimal digits of the key's SHA-256.
func (c *Client) KeyFingerprint() string { return c.key.fingerprint }

// KeyKind is "test" or "live", by the key's prefix (documented).
func (c *Client) KeyKind() string { return c.key.kind }

// Answer is what an HTTP answer says besides its body. It is zero when no answer came.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Date is the server's clock when it answered, to the second. It is zero when the server did not say.
	Date time.Time
	// TraceID names the call to Clerk's support.
	TraceID string
}

// The operations, as errors name them.
const (
	opCreate = "POST /invitations"
	opBulk   = "POST /invitations/bulk"
	opRevoke = "POST /invitations/{id}/revoke"
	opDelete = "DELETE /invitations/{id}"
	opList   = "GET /invitations"
	opUsers  = "GET /users"
)

// ask makes the call of an operation. It decodes the body of a 2xx as A, and read turns that into the result. If the
// body is not a plausible answer, read says why.
func ask[A, R any](
	ctx context.Context, c *Client, op string, params clerk.Params, read func(A) (R, string),
) (R, Answer, error) {
	method, path, _ := strings.Cut(op, " ")
	request := clerk.NewAPIRequest(method, path)
	request.SetParams(params)
	a, op, fault := c.send(ctx, request)
	var body A
	if fault == nil {
		fault = decode(op, a, &body)
	}
	if fault == nil {
		result, why := read(body)
		if why == "" {
			return result, Answer{Status: a.status, Date: dateOf(a.header), TraceID: a.traceID()}, nil
		}
		fault = unreadable(op, a, why)
	}
	var none R
	return none, Answer{Status: fault.Status, Date: fault.date, TraceID: fault.TraceID}, fault
}

// Create creates one invitation. It believes a 2xx only if that is about the address it asked for.
func (c *Client) Create(ctx context.Context, params *invitation.CreateParams) (Invitation, Answer, error) {
	if params == nil || params.EmailAddress == "" {
		return Invitation{}, Answer{}, refused(opCreate, "the invitation has no address")
	}
	return ask(ctx, c, opCreate, params, func(created *clerk.Invitation) (Invitation, string) {
		return readCreated(created, params.EmailAddress)
	})
}

// CreateBulk creates 1 to MaxBulk invitations, all or none (assumed), and returns them in the order of params.
// It believes a 2xx only if that is about exactly the addresses it asked for.
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
		if first := slices.Index(asked, asked[i]); first < i {
			const twins = "invitations %d and %d of %d are to the same address"
			return nil, Answer{}, refused(opBulk, twins, first+1, i+1, len(params))
		}
	}
	bulk := &invitation.BulkCreateParams{Invitations: params}
	return ask(ctx, c, opBulk, bulk, func(created []*clerk.Invitation) ([]Invitation, string) {
		return readBulk(created, asked)
	})
}

const notAnID = "that is not the id of an invitation: one looks like inv_2Q…"

// CodeNotFound is Clerk's refusal of an id that it does not know (documented).
const CodeNotFound = "resource_not_found"

// Clerk's refusals of the revocation of an invitation that is not pending any more (documented). Of an expired one it
// is not known.
const (
	CodeAlreadyRevoked  = "invitation_already_revoked"
	CodeAlreadyAccepted = "invitation_already_accepted"
)

// Revoke revokes a pending invitation. It sends nothing if the id is not 1 to 64 letters, digits, _ or -.
func (c *Client) Revoke(ctx context.Context, id string) (Invitation, Answer, error) {
	if !segmentForm.MatchString(id) {
		return Invitation{}, Answer{}, refused(opRevoke, notAnID)
	}
	op := strings.Replace(opRevoke, "{id}", id, 1)
	return ask(ctx, c, op, nil, func(revoked *clerk.Invitation) (Invitation, string) {
		return readRevoked(revoked, id)
	})
}

// Delete deletes an invitation of any status for good, and the copies of its e-mail that Clerk stored. The user of its
// address stays (Clerk's documentation as of 2026-08-21). It sends nothing if the id is not 1 to 64 letters, digits, _
// or -.
//
// A second Delete is a 404 with the code resource_not_found (assumed). Any other 404 means that this Clerk does not
// offer it: Clerk's OpenAPI document of version 2026-05-12 does not have it.
func (c *Client) Delete(ctx context.Context, id string) (Answer, error) {
	if !segmentForm.MatchString(id) {
		return Answer{}, refused(opDelete, notAnID)
	}
	op := strings.Replace(opDelete, "{id}", id, 1)
	_, answer, err := ask(ctx, c, op, nil, func(gone deletedObject) (bool, string) {
		if gone.ID != id || !gone.Deleted {
			return false, "it does not say that the invitation is deleted"
		}
		return true, ""
	})
	return answer, err
}

// deletedObject is what is left of something that Clerk has deleted.
type deletedObject struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

// ListQuery chooses a page of invitations. The zero value asks for Clerk's defaults. It is safe to print: that leaves
// out every text.
type ListQuery struct {
	Limit  int // rows, 1 to MaxPage; 0 means Clerk's default of 10
	Offset int // rows to skip
	// Status is pending, accepted, revoked or expired. Empty means all but the revoked ones (documented).
	Status string
	// Query matches parts of addresses, and ids.
	Query string
	// OrderBy is created_at, email_address or expires_at, after an optional + or -. Empty means -created_at.
	OrderBy string
}

// Format prints the numbers of the query: its texts may hold an address.
func (q ListQuery) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "clerkclient.ListQuery{limit %d, offset %d}", q.Limit, q.Offset)
}

var orderForm = regexp.MustCompile(`^[+-]?(created_at|email_address|expires_at)$`)

// fault says what is wrong with the query; empty if nothing is.
func (q ListQuery) fault() string {
	switch {
	case q.Limit < 0 || q.Limit > MaxPage:
		return fmt.Sprintf("a limit of %d: it is 1 to %d", q.Limit, MaxPage)
	case q.Offset < 0:
		return fmt.Sprintf("an offset of %d: it is 0 or more", q.Offset)
	case q.Status != "" && !slices.Contains([]string{"pending", "accepted", "revoked", "expired"}, q.Status):
		return "the status is none of pending, accepted, revoked, expired"
	case q.OrderBy != "" && !orderForm.MatchString(q.OrderBy):
		return "the order is none of created_at, email_address, expires_at, with or without + or -"
	}
	return ""
}

// listParams is a ListQuery as the SDK takes parameters.
type listParams struct {
	clerk.APIParams
	ListQuery
}

// ToQuery asks for a page with a total count. That paginated does so is observed; Clerk's document shows an array.
func (p *listParams) ToQuery() url.Values {
	values := url.Values{"paginated": {"true"}}
	set := func(name, value string, given bool) {
		if given {
			values.Set(name, value)
		}
	}
	set("limit", strconv.Itoa(p.Limit), p.Limit > 0)
	set("offset", strconv.Itoa(p.Offset), p.Offset > 0)
	set("status", p.Status, p.Status != "")
	set("query", p.Query, p.Query != "")
	set("order_by", p.OrderBy, p.OrderBy != "")
	return values
}

// List returns one page of invitations. An answer that is no list is an error and never an empty page, because an
// empty page shows that an invitation does not exist.
func (c *Client) List(ctx context.Context, query ListQuery) (Page, Answer, error) {
	if fault := query.fault(); fault != "" {
		return Page{}, Answer{}, refused(opList, "%s", fault)
	}
	return ask(ctx, c, opList, &listParams{ListQuery: query}, func(list invitationList) (Page, string) {
		return readPage(list, cmp.Or(query.Limit, MaxPage))
	})
}

// UsersByEmail returns those of 1 to MaxUserAddresses addresses that belong to users, folded (trimmed and in lower
// case) and sorted.
//
// An address that a user has entered but not verified does not count. Clerk lets somebody else claim it (assumed), so
// an invitation to it may succeed.
func (c *Client) UsersByEmail(ctx context.Context, addresses []string) ([]string, Answer, error) {
	n := len(addresses)
	if n == 0 || n > MaxUserAddresses {
		return nil, Answer{}, refused(opUsers, "a look-up of %d addresses: it takes 1 to %d", n, MaxUserAddresses)
	}
	asked := make([]string, n)
	for i, address := range addresses {
		if asked[i] = fold(address); asked[i] == "" {
			return nil, Answer{}, refused(opUsers, "address %d of %d is empty", i+1, n)
		}
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	// The limit must be given: without it Clerk answers with 10. The SDK's own List would make a second call, for the
	// count.
	params := &user.ListParams{ListParams: clerk.ListParams{Limit: clerk.Int64(MaxPage)}, EmailAddresses: asked}
	return ask(ctx, c, opUsers, params, func(found []userRow) ([]string, string) { return readUsers(found, asked) })
}
