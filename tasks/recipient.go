package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"example.com/usher/internal/address"
	"example.com/usher/internal/store"
)

// Bounds on one recipient. Those that Clerk documents are Clerk's; the others keep one recipient from filling a queue.
const (
	MaxAddressBytes  = address.MaxBytes // RFC 5321, 4.5.3.1.3 less the angle brackets
	MaxExpiresInDays = 365              // Clerk's own bound
	MaxMetadataBytes = 8 << 10          // Clerk's own bound, of the metadata as JSON
	MaxURLBytes      = 4 << 10          // ours
)

// maxStoredMetadata bounds the metadata that is read of what is queued. Earlier versions took more than Clerk takes;
// Clerk is the judge of those.
const maxStoredMetadata = 64 << 10

// Recipient is one address to invite, with the options of its invitation. The zero value of every option means
// Clerk's default.
type Recipient struct {
	EmailAddress string `json:"email_address"`
	// PublicMetadata becomes the user's public metadata at sign-up.
	PublicMetadata map[string]any `json:"public_metadata,omitempty"`
	// RedirectURL is where the link in the e-mail leads: an absolute URL, or a path that starts with a slash.
	RedirectURL string `json:"redirect_url,omitempty"`
	// NoNotify creates the invitation without sending an e-mail.
	NoNotify bool `json:"no_notify,omitempty"`
	// IgnoreExisting invites although an invitation for the address exists already.
	IgnoreExisting bool `json:"ignore_existing,omitempty"`
	// OnDuplicate says what becomes of the recipient if an invitation for the address is pending already. It and
	// IgnoreExisting exclude each other.
	OnDuplicate OnDuplicate `json:"on_duplicate,omitempty"`
	// OnExistingUser says what becomes of the recipient if the address belongs to a user already.
	OnExistingUser OnExistingUser `json:"on_existing_user,omitempty"`
	// ExpiresInDays is between 1 and 365; 0 means Clerk's default of 30.
	ExpiresInDays int `json:"expires_in_days,omitempty"`
	// TemplateSlug is "invitation" or "waitlist_invitation"; empty means Clerk's default.
	TemplateSlug string `json:"template_slug,omitempty"`
}

// OnDuplicate is what to do about a pending invitation that stands in the way of another.
type OnDuplicate string

// The ways to treat a duplicate.
const (
	DeadLetterDuplicate OnDuplicate = "dead-letter" // the recipient becomes a dead letter; this is the default
	AcceptDuplicate     OnDuplicate = "accept"      // the pending invitation counts as the recipient's
	ResendDuplicate     OnDuplicate = "resend"      // the pending invitation is revoked and a new one made
)

// OnDuplicates are the ways to treat a duplicate.
func OnDuplicates() []OnDuplicate {
	return []OnDuplicate{DeadLetterDuplicate, AcceptDuplicate, ResendDuplicate}
}

// OnExistingUser is what to do about an address that belongs to a user, whom Clerk does not invite.
type OnExistingUser string

// The ways to treat a user.
const (
	DeadLetterUser OnExistingUser = "dead-letter" // the recipient becomes a dead letter; this is the default
	SkipUser       OnExistingUser = "skip"        // the recipient is skipped: it is neither sent nor dead
)

// OnExistingUsers are the ways to treat a user.
func OnExistingUsers() []OnExistingUser { return []OnExistingUser{DeadLetterUser, SkipUser} }

// TemplateSlugs are the e-mail templates that Clerk knows.
func TemplateSlugs() []string { return []string{"invitation", "waitlist_invitation"} }

// InvalidError says which field of a request cannot be accepted, and why. In a bulk, Index is the recipient's place in
// the list, from 0; elsewhere it is -1.
type InvalidError struct {
	Index  int
	Field  string
	Reason string
}

func (e *InvalidError) Error() string {
	if e.Index >= 0 {
		return fmt.Sprintf("recipient %d: %s: %s", e.Index, e.Field, e.Reason)
	}
	return fmt.Sprintf("%s: %s", e.Field, e.Reason)
}

// invalid is about no recipient of a list.
func invalid(field, format string, args ...any) error {
	return &InvalidError{Index: -1, Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Faults gives each *InvalidError that an error of this package is or joins.
func Faults(err error) (faults []*InvalidError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			faults = append(faults, Faults(one)...)
		}
	} else if fault, ok := errors.AsType[*InvalidError](err); ok {
		faults = []*InvalidError{fault}
	}
	return faults
}

// CleanAddress removes what comes along at either end when an address is copied: blanks, no-break spaces, zero-width
// characters, byte order marks, and a leading mailto:. Everything that takes an address cleans it so.
func CleanAddress(text string) string { return address.Trim(text) }

// Normalize cleans the address, and leaves out what goes without saying. It is what Validate checks and what is
// enqueued.
func (r Recipient) Normalize() Recipient {
	r.EmailAddress = CleanAddress(r.EmailAddress)
	if r.OnDuplicate == DeadLetterDuplicate {
		r.OnDuplicate = ""
	}
	if r.OnExistingUser == DeadLetterUser {
		r.OnExistingUser = ""
	}
	return r
}

// MetadataJSON gives the metadata as it is sent to Clerk, which bounds its bytes.
func (r Recipient) MetadataJSON() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // < is one byte, not six
	err := encoder.Encode(r.PublicMetadata)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Validate reports everything that is wrong with the recipient, and for which Clerk is known to refuse it whoever it
// is: an *InvalidError with index -1 for each field, joined.
func (r Recipient) Validate() error { return r.validate(MaxMetadataBytes) }

// validateStored is Validate for what is queued already.
func (r Recipient) validateStored() error { return r.validate(maxStoredMetadata) }

func (r Recipient) validate(maxMetadata int) error {
	errs := []error{
		validateAddress(r.EmailAddress), r.validateMetadata(maxMetadata), validateRedirect(r.RedirectURL),
	}
	bad := func(field, format string, args ...any) { errs = append(errs, invalid(field, format, args...)) }
	if r.ExpiresInDays < 0 || r.ExpiresInDays > MaxExpiresInDays {
		bad("expires_in_days", "%d is not between 1 and %d", r.ExpiresInDays, MaxExpiresInDays)
	}
	if r.TemplateSlug != "" && !slices.Contains(TemplateSlugs(), r.TemplateSlug) {
		bad("template_slug", "%q is not one of %s", r.TemplateSlug, strings.Join(TemplateSlugs(), ", "))
	}
	switch {
	case r.OnDuplicate != "" && !slices.Contains(OnDuplicates(), r.OnDuplicate):
		bad("on_duplicate", "%.40q is not one of dead-letter, accept, resend", r.OnDuplicate)
	case r.IgnoreExisting && (r.OnDuplicate == AcceptDuplicate || r.OnDuplicate == ResendDuplicate):
		const format = "%s and ignore_existing exclude each other: with it no duplicate is ever met"
		bad("on_duplicate", format, r.OnDuplicate)
	}
	if r.OnExistingUser != "" && !slices.Contains(OnExistingUsers(), r.OnExistingUser) {
		bad("on_existing_user", "%.40q is not one of dead-letter, skip", r.OnExistingUser)
	}
	return errors.Join(errs...)
}

// FoldAddress gives the form under which two spellings are one recipient: Clerk matches addresses without regard to
// case.
func FoldAddress(address string) string { return store.Fold(address) }

func validateAddress(text string) error {
	if reason := address.Fault(text); reason != "" {
		return invalid("email_address", "%s", reason)
	}
	return nil
}

func (r Recipient) validateMetadata(most int) error {
	encoded, err := r.MetadataJSON()
	if err != nil {
		return invalid("public_metadata", "cannot be written as JSON: %v", err)
	}
	if len(encoded) > most {
		return invalid("public_metadata", "is %d bytes as JSON, at most %d are allowed", len(encoded), most)
	}
	return nil
}

func validateRedirect(redirect string) error {
	if redirect == "" {
		return nil
	}
	if len(redirect) > MaxURLBytes {
		return invalid("redirect_url", "is %d bytes long, at most %d are allowed", len(redirect), MaxURLBytes)
	}
	parsed, err := url.Parse(redirect)
	unprintable := func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }
	switch {
	case err != nil || strings.ContainsFunc(redirect, unprintable):
		return invalid("redirect_url", "is not a URL")
	case strings.HasPrefix(redirect, "/"), parsed.Scheme != "" && parsed.Host != "":
		return nil
	}
	return invalid("redirect_url", "is neither an absolute URL nor a path that starts with a slash")
}
