package clerkclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
)

// Invitation is an invitation as Clerk knows it, without its URL: whoever has that can sign up as the address.
// It can be printed: the address and the metadata are left out. Marshalled, it is whole.
type Invitation struct {
	ID             string          `json:"id"` // inv_ and 27 alphanumerics (observed)
	EmailAddress   string          `json:"email_address"`
	Status         string          `json:"status"` // pending, accepted, revoked, expired; empty when Clerk says something else
	Revoked        bool            `json:"revoked,omitempty"`
	PublicMetadata json.RawMessage `json:"public_metadata,omitempty"`
	CreatedAt      time.Time       `json:"created_at,omitzero"`
	UpdatedAt      time.Time       `json:"updated_at,omitzero"`
	ExpiresAt      time.Time       `json:"expires_at,omitzero"` // zero: never, or not known
}

// Format prints which invitation it is, not whose.
func (i Invitation) Format(f fmt.State, verb rune) {
	printPlain(f, verb, fmt.Sprintf("clerkclient.Invitation{%s, %s}", redact(i.ID), redact(i.Status)))
}

// Page is one page of a list.
type Page struct {
	Invitations []Invitation
	// TotalCount is how many rows match the query on all pages; -1 when Clerk does not say.
	TotalCount int
}

// Format prints how much it is, not whose.
func (p Page) Format(f fmt.State, verb rune) {
	printPlain(f, verb, fmt.Sprintf("clerkclient.Page{%d invitations of %d}", len(p.Invitations), p.TotalCount))
}

// invitationOf drops what must not be kept, the URL first. It reports whether the rest can be an invitation.
func invitationOf(from *clerk.Invitation) (Invitation, bool) {
	if from == nil || !segmentForm.MatchString(from.ID) || from.EmailAddress == "" {
		return Invitation{}, false
	}
	i := Invitation{
		ID: from.ID, EmailAddress: from.EmailAddress, Status: matching(codeForm, from.Status), Revoked: from.Revoked,
		PublicMetadata: from.PublicMetadata, CreatedAt: millis(from.CreatedAt), UpdatedAt: millis(from.UpdatedAt),
	}
	if from.ExpiresAt != nil {
		i.ExpiresAt = millis(*from.ExpiresAt)
	}
	return i, true
}

// millis reads a time in milliseconds since 1970 (observed; the document says "Unix timestamp").
func millis(ms int64) time.Time {
	if ms <= 0 || ms > time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMilli() {
		return time.Time{} // years that JSON cannot carry
	}
	return time.UnixMilli(ms).UTC()
}

func readCreated(created *clerk.Invitation, asked string) (Invitation, error) {
	got, ok := invitationOf(created)
	switch {
	case !ok:
		return Invitation{}, implausible(opCreate, created.Response, "it holds no invitation")
	case fold(got.EmailAddress) != fold(asked):
		return Invitation{}, implausible(opCreate, created.Response, "its invitation is to another address")
	}
	return got, nil
}

// readBulk puts the invitations into the order of the folded addresses asked for: Clerk's order is not promised.
func readBulk(created *clerk.Invitations, asked []string) ([]Invitation, error) {
	if len(created.Invitations) != len(asked) {
		return nil, implausible(opBulk, created.Response,
			fmt.Sprintf("it holds %d invitations where %d were asked for", len(created.Invitations), len(asked)))
	}
	got := make([]Invitation, len(asked))
	ids := make(map[string]bool, len(asked))
	for _, from := range created.Invitations {
		one, ok := invitationOf(from)
		if !ok || ids[one.ID] {
			return nil, implausible(opBulk, created.Response, "one of its rows is no invitation, or one is there twice")
		}
		at := slices.Index(asked, fold(one.EmailAddress))
		if at < 0 || got[at].ID != "" {
			return nil, implausible(opBulk, created.Response, "its invitations are to other addresses")
		}
		got[at], ids[one.ID] = one, true
	}
	return got, nil
}

func readRevoked(revoked *clerk.Invitation, id string) (Invitation, error) {
	got, ok := invitationOf(revoked)
	switch {
	case !ok || got.ID != id:
		return Invitation{}, implausible(opRevoke, revoked.Response, "it does not hold the invitation")
	case !got.Revoked && got.Status != "revoked":
		return Invitation{}, implausible(opRevoke, revoked.Response, "its invitation is not revoked")
	}
	return got, nil
}

// listAnswer reads both forms of a list.
type listAnswer struct {
	clerk.APIResource
	rows  []*clerk.Invitation // nil unless there was a list
	total *int64
}

func (l *listAnswer) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte("[")) {
		return json.Unmarshal(data, &l.rows)
	}
	var page struct {
		Data       []*clerk.Invitation `json:"data"`
		TotalCount *int64              `json:"total_count"`
	}
	err := json.Unmarshal(data, &page)
	l.rows, l.total = page.Data, page.TotalCount
	return err
}

func readPage(list *listAnswer, limit int) (Page, error) {
	if limit == 0 {
		limit = MaxPage
	}
	page := Page{TotalCount: -1}
	if list.total != nil {
		page.TotalCount = int(*list.total)
	}
	switch {
	case list.rows == nil:
		return Page{}, implausible(opList, list.Response, "it holds no list")
	case len(list.rows) > limit:
		return Page{}, implausible(opList, list.Response, fmt.Sprintf("it has %d rows where at most %d were asked for", len(list.rows), limit))
	case list.total != nil && *list.total < 0:
		return Page{}, implausible(opList, list.Response, "its total count is negative")
	}
	page.Invitations = make([]Invitation, 0, len(list.rows))
	for _, row := range list.rows {
		one, ok := invitationOf(row)
		if !ok {
			return Page{}, implausible(opList, list.Response, "one of its rows is no invitation")
		}
		page.Invitations = append(page.Invitations, one)
	}
	return page, nil
}

// userAnswer reads of users only what is asked about them: the rest is personal, and its shape is not our concern.
type userAnswer struct {
	clerk.APIResource
	users []struct {
		ID             string `json:"id"`
		EmailAddresses []struct {
			EmailAddress string `json:"email_address"`
			Reserved     bool   `json:"reserved"`
			Verification *struct {
				Status string `json:"status"`
			} `json:"verification"`
		} `json:"email_addresses"`
	}
}

func (u *userAnswer) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &u.users) }

func readUsers(found *userAnswer, asked []string) ([]string, error) {
	if found.users == nil {
		return nil, implausible(opUsers, found.Response, "it holds no list")
	}
	var taken []string
	for _, u := range found.users {
		if !segmentForm.MatchString(u.ID) {
			return nil, implausible(opUsers, found.Response, "one of its rows is no user")
		}
		for _, a := range u.EmailAddresses {
			claimed := a.Reserved || a.Verification == nil || a.Verification.Status == "verified"
			if folded := fold(a.EmailAddress); claimed && slices.Contains(asked, folded) {
				taken = append(taken, folded)
			}
		}
	}
	slices.Sort(taken)
	return slices.Compact(taken), nil
}
