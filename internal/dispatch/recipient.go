package dispatch

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store/intent"
	"example.com/usher/tasks"
)

// Clerk is what the dispatcher asks of Clerk.
type Clerk interface {
	Create(ctx context.Context, params *invitation.CreateParams) (clerkclient.Invitation, clerkclient.Answer, error)
	CreateBulk(ctx context.Context, params []*invitation.CreateParams) ([]clerkclient.Invitation, clerkclient.Answer, error)
	List(ctx context.Context, query clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error)
	UsersByEmail(ctx context.Context, addresses []string) ([]string, clerkclient.Answer, error)
}

// Recipient is one to invite.
type Recipient struct {
	folded         string
	ignoreExisting bool
	metadata       bool
	alone          bool
	onDuplicate    tasks.OnDuplicate
	params         *invitation.CreateParams
}

// NewRecipient says of a recipient what Clerk asks for; what is zero is left out, so that Clerk's default counts.
func NewRecipient(r tasks.Recipient) (Recipient, error) {
	params := &invitation.CreateParams{EmailAddress: r.EmailAddress}
	if r.PublicMetadata != nil {
		data, err := json.Marshal(r.PublicMetadata)
		if err != nil {
			return Recipient{}, fmt.Errorf("encoding public_metadata: %w", err)
		}
		params.PublicMetadata = (*json.RawMessage)(&data)
	}
	if r.RedirectURL != "" {
		params.RedirectURL = &r.RedirectURL
	}
	if r.NoNotify {
		params.Notify = clerk.Bool(false)
	}
	if r.IgnoreExisting {
		params.IgnoreExisting = clerk.Bool(true)
	}
	if r.ExpiresInDays != 0 {
		params.ExpiresInDays = clerk.Int64(int64(r.ExpiresInDays))
	}
	if r.TemplateSlug != "" {
		params.TemplateSlug = &r.TemplateSlug
	}
	return Recipient{
		folded: tasks.FoldAddress(r.EmailAddress), ignoreExisting: r.IgnoreExisting, metadata: len(r.PublicMetadata) > 0,
		onDuplicate: r.OnDuplicate, params: params,
	}, nil
}

// Alone gives the recipient as one that may not share a call.
func (r Recipient) Alone() Recipient {
	r.alone = true
	return r
}

// spellings are those under which Clerk may list the address.
func (r Recipient) spellings() []string { return Spellings(r.params.EmailAddress) }

// Spellings are those under which Clerk may list an address: whether it keeps upper case, and whether a query minds it, is not known.
func Spellings(address string) []string {
	folded := tasks.FoldAddress(address)
	if folded == address {
		return []string{folded}
	}
	return []string{folded, address}
}

// Folded is the folded address.
func (r Recipient) Folded() string { return r.folded }

// IgnoresExisting tells whether a second call for the recipient would make a second invitation. Without it Clerk refuses.
func (r Recipient) IgnoresExisting() bool { return r.ignoreExisting }

// OnDuplicate says what is to become of the recipient if an invitation is pending already.
func (r Recipient) OnDuplicate() tasks.OnDuplicate { return r.onDuplicate }

// IgnoringExisting gives the recipient as one whose next call makes an invitation although there is or was another.
func (r Recipient) IgnoringExisting() Recipient {
	params := *r.params
	params.IgnoreExisting = clerk.Bool(true)
	r.ignoreExisting, r.params = true, &params
	return r
}

// HasMetadata tells whether the recipient carries metadata, which a bulk may not be trusted with.
func (r Recipient) HasMetadata() bool { return r.metadata }

// Result is what became of a recipient in a call, or in a look-up before one.
type Result struct {
	InvitationID string
	// Refusal is why no invitation was made; nil if one was, or if the recipient travels again.
	Refusal *clerkclient.Error
	// Found: it was refused by a look-up, before any call. If that was for a pending invitation, InvitationID is that one's.
	Found bool
	// Again: the call says nothing about this recipient and has made nothing; it travels again, uncounted.
	Again bool
	// Doubt: the call was refused for another's sake. It should have made nothing, but Clerk is to be asked.
	Doubt bool
	// Alone: from now on it may not share a call.
	Alone bool
	// Claim is what became of the claim for the call. Unless it was granted there was no call.
	Claim intent.Claim
}
