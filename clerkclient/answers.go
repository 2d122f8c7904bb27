package clerkclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
)

// Invitation is an invitation as Clerk knows it, without its URL: with that, anybody can sign up as the address.
// It is safe to print: that leaves out the address and the metadata. Its JSON is complete.
type Invitation struct {
	ID             string          `json:"id"` // inv_ and 27 alphanumerics (observed)
	EmailAddress   string          `json:"email_address"`
	Status         string          `json:"status"` // pending, accepted, revoked or expired; empty: not a word
	Revoked        bool            `json:"revoked,omitempty"`
	PublicMetadata json.RawMessage `json:"public_metadata,omitempty"`
	CreatedAt      time.Time       `json:"created_at,omitzero"`
	UpdatedAt      time.Time       `json:"updated_at,omitzero"`
	ExpiresAt      time.Time       `json:"expires_at,omitzero"` // zero: never, or not known
}

// Format prints the id and the status of the invitation, and not its address.
func (i Invitation) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "clerkclient.Invitation{%s, %s}", redact(i.ID), redact(i.Status))
}

// Page is one page of a list.
type Page struct {
	Invitations []Invitation
	// TotalCount is how many rows match the query on all pages; -1 when Clerk does not say.
	TotalCount int
}

// Format prints how many invitations there are, and nothing of them.
func (p Page) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "clerkclient.Page{%d invitations of %d}", len(p.Invitations), p.TotalCount)
}

// invitationOf keeps what may be kept: not the URL. It reports whether that can be an invitation.
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
		return time.Time{} // JSON cannot carry such a year
	}
	return time.UnixMilli(ms).UTC()
}

// The functions below turn the body of a 2xx into a result, or say why it is not the answer to the call.

func readCreated(created *clerk.Invitation, asked string) (Invitation, string) {
	got, ok := invitationOf(created)
	switch {
	case !ok:
		return got, "it holds no invitation"
	case fold(got.EmailAddress) != fold(asked):
		return got, "its invitation is to another address"
	}
	return got, ""
}

// readBulk puts the invitations into the order of the folded addresses: Clerk does not promise an order.
func readBulk(created []*clerk.Invitation, asked []string) ([]Invitation, string) {
	if len(created) != len(asked) {
		return nil, fmt.Sprintf("it holds %d invitations where %d were asked for", len(created), len(asked))
	}
	got := make([]Invitation, len(asked))
	ids := make(map[string]bool, len(asked))
	for _, from := range created {
		one, ok := invitationOf(from)
		if !ok || ids[one.ID] {
			return nil, "one of its rows is no invitation, or is there twice"
		}
		at := slices.Index(asked, fold(one.EmailAddress))
		if at < 0 || got[at].ID != "" {
			return nil, "its invitations are to other addresses"
		}
		got[at], ids[one.ID] = one, true
	}
	return got, ""
}

func readRevoked(revoked *clerk.Invitation, id string) (Invitation, string) {
	got, ok := invitationOf(revoked)
	switch {
	case !ok || got.ID != id:
		return got, "it does not hold the invitation"
	case !got.Revoked && got.Status != "revoked":
		return got, "its invitation is not revoked"
	}
	return got, ""
}

// invitationList is a list in either of its forms: an object with a count, or a bare array.
type invitationList struct {
	Data       []*clerk.Invitation `json:"data"` // nil if there was no list
	TotalCount *int64              `json:"total_count"`
}

func (l *invitationList) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte("[")) {
		return json.Unmarshal(data, &l.Data)
	}
	type object invitationList // without this method
	return json.Unmarshal(data, (*object)(l))
}

func readPage(list invitationList, limit int) (Page, string) {
	switch {
	case list.Data == nil:
		return Page{}, "it holds no list"
	case len(list.Data) > limit:
		return Page{}, fmt.Sprintf("it has %d rows where at most %d were asked for", len(list.Data), limit)
	case list.TotalCount != nil && *list.TotalCount < 0:
		return Page{}, "its total count is negative"
	}
	page := Page{TotalCount: -1, Invitations: make([]Invitation, len(list.Data))}
	if list.TotalCount != nil {
		page.TotalCount = int(*list.TotalCount)
	}
	for i, row := range list.Data {
		var ok bool
		if page.Invitations[i], ok = invitationOf(row); !ok {
			return Page{}, "one of its rows is no invitation"
		}
	}
	return page, ""
}

// userRow is what is read of a user: the rest is personal, and its shape does not matter here.
type userRow struct {
	ID             string `json:"id"`
	EmailAddresses []struct {
		EmailAddress string `json:"email_address"`
		Reserved     bool   `json:"reserved"`
		Verification *struct {
			Status string `json:"status"`
		} `json:"verification"`
	} `json:"email_addresses"`
}

func readUsers(found []userRow, asked []string) ([]string, string) {
	if found == nil {
		return nil, "it holds no list"
	}
	var taken []string
	for _, u := range found {
		if !segmentForm.MatchString(u.ID) {
			return nil, "one of its rows is no user"
		}
		for _, a := range u.EmailAddresses {
			claimed := a.Reserved || a.Verification == nil || a.Verification.Status == "verified"
			if folded := fold(a.EmailAddress); claimed && slices.Contains(asked, folded) {
				taken = append(taken, folded)
			}
		}
	}
	slices.Sort(taken)
	return slices.Compact(taken), ""
}
