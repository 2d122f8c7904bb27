package dispatch

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// Recipient is one to invite.
type Recipient struct {
	tasks.Recipient
	folded  string // the address
	alone   bool   // may not share a call
	doubted bool   // was refused, and nobody knows for whose sake
	params  *invitation.CreateParams
}

// NewRecipient puts a recipient into Clerk's words. It leaves out what is zero, so that Clerk's default counts.
func NewRecipient(r tasks.Recipient) (Recipient, error) {
	params := &invitation.CreateParams{
		EmailAddress: r.EmailAddress, RedirectURL: unlessZero(r.RedirectURL), TemplateSlug: unlessZero(r.TemplateSlug),
		IgnoreExisting: unlessZero(r.IgnoreExisting), ExpiresInDays: unlessZero(int64(r.ExpiresInDays)),
	}
	if r.NoNotify {
		params.Notify = clerk.Bool(false)
	}
	if r.PublicMetadata != nil {
		data, err := r.MetadataJSON()
		if err != nil {
			return Recipient{Recipient: r}, fmt.Errorf("encoding public_metadata: %w", err)
		}
		raw := json.RawMessage(data)
		params.PublicMetadata = &raw
	}
	return Recipient{Recipient: r, folded: tasks.FoldAddress(r.EmailAddress), params: params}, nil
}

func unlessZero[T comparable](value T) *T {
	if value == *new(T) {
		return nil
	}
	return &value
}

// ReadRow gives the recipient of a ledger's row. With an error it gives what it could read.
func ReadRow(row ledger.Row) (Recipient, error) {
	r, err := tasks.DecodeRecipient(row.Recipient)
	if err != nil {
		return Recipient{Recipient: r}, err
	}
	recipient, err := NewRecipient(r)
	if err != nil {
		return recipient, err
	}
	return recipient.As(row.State), nil
}

// As gives the recipient as its life has made it: one that may not share a call, or whose next call makes an
// invitation although there is or was another.
func (r Recipient) As(life fate.State) Recipient {
	r.alone, r.doubted = life.Alone, life.Doubt != nil
	if life.Cleared {
		params := *r.params
		params.IgnoreExisting = clerk.Bool(true)
		r.IgnoreExisting, r.params = true, &params
	}
	return r
}

// Folded is the folded address.
func (r Recipient) Folded() string { return r.folded }

// HasMetadata tells whether the recipient carries metadata, which a bulk may not be trusted with.
func (r Recipient) HasMetadata() bool { return len(r.PublicMetadata) > 0 }

// options names the options of the recipient's request that a plan or an instance may not allow.
func (r Recipient) options() string {
	text := fmt.Sprintln(r.TemplateSlug, r.ExpiresInDays, r.NoNotify, r.RedirectURL != "", r.HasMetadata())
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(text))
	return strconv.FormatUint(uint64(sum.Sum32()), 16)
}

// Result is what became of the recipient of an invite task.
type Result struct {
	// Answer is that of the call.
	Answer fate.Answer
	// LookUp is what a look-up before any call has found in the way.
	LookUp *fate.LookUp
	// Claim is what became of the claim of the address. Unless it was granted there was no call.
	Claim intent.Claim
}
