package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
)

// The types of tasks, as asynq knows them.
const (
	TypeInvite     = "invite"
	TypeBulkInvite = "bulk-invite"
	TypeRevoke     = "revoke"
	TypeDelete     = "delete"
	TypeSyncList   = "sync-list"
)

// Version is the newest version of payloads. A worker leaves a newer one queued than it knows, so each payload is
// written in the oldest version that can carry it.
const Version = 2

const (
	firstVersion = 1
	userVersion  = 2 // the first one with on_existing_user
)

// VersionOf is the oldest version of payloads that can carry a recipient.
func VersionOf(r Recipient) int {
	if r.OnExistingUser != "" {
		return userVersion
	}
	return firstVersion
}

// maxPayload bounds what is decoded of a payload: a recipient at its bounds, with room.
const maxPayload = 256 << 10

// ErrNewer means that a newer version of Usher wrote a payload.
var ErrNewer = errors.New("payload was written by a newer version")

// InvitePayload is what an invite task carries.
type InvitePayload struct {
	Version int `json:"v"`
	Recipient
	// EnqueuedAt is when the task was enqueued, in Unix milliseconds; 0 is unknown. No call was made for it before.
	EnqueuedAt int64 `json:"enqueued_at,omitempty"`
}

// NewInvitePayload gives the payload of an invite task that was enqueued at a time, in Unix milliseconds; 0 is unknown.
func NewInvitePayload(r Recipient, enqueuedAt int64) InvitePayload {
	return InvitePayload{Version: VersionOf(r), Recipient: r, EnqueuedAt: enqueuedAt}
}

// BulkInvitePayload is what a bulk-invite task carries: the name of the campaign whose ledger it works through.
type BulkInvitePayload struct {
	Version  int    `json:"v"`
	Campaign string `json:"campaign"`
}

// RevokePayload is what a revoke task carries: exactly one of an invitation, an address and a campaign.
type RevokePayload struct {
	Version      int    `json:"v"`
	InvitationID string `json:"invitation_id,omitempty"`
	// EmailAddress stands for every invitation of the address that is pending when the task runs.
	EmailAddress string `json:"email_address,omitempty"`
	// Campaign stands for every invitation that the campaign has sent and that is pending when the task runs.
	Campaign string `json:"campaign,omitempty"`
}

// Validate reports what is wrong with the payload, as an *InvalidError with index -1.
func (p RevokePayload) Validate() error {
	empty := func(s string) bool { return s == "" }
	given := slices.DeleteFunc([]string{p.InvitationID, p.EmailAddress, p.Campaign}, empty)
	switch {
	case len(given) > 1:
		const reason = "is one of several: give an invitation, an address or a campaign"
		return invalid("invitation_id", reason)
	case p.Campaign != "":
		return ValidateCampaign(p.Campaign)
	case p.EmailAddress != "":
		return validateAddress(p.EmailAddress)
	}
	return ValidateInvitationID(p.InvitationID)
}

// DeletePayload is what a delete task carries: an invitation or an address.
type DeletePayload struct {
	Version      int    `json:"v"`
	InvitationID string `json:"invitation_id,omitempty"`
	// EmailAddress stands for every invitation of the address, whatever its status.
	EmailAddress string `json:"email_address,omitempty"`
}

// Validate reports what is wrong with the payload, as an *InvalidError with index -1.
func (p DeletePayload) Validate() error {
	return RevokePayload{InvitationID: p.InvitationID, EmailAddress: p.EmailAddress}.Validate()
}

// SyncListPayload is what a sync-list task carries.
type SyncListPayload struct {
	Version int `json:"v"`
	// Whole is what producers of earlier versions may say. It means nothing: Clerk's list is always read whole.
	Whole bool `json:"whole,omitempty"`
}

// DecodeInvite reads and validates the payload of an invite task.
func DecodeInvite(data []byte) (InvitePayload, error) {
	return decode(data, func(p InvitePayload) error { return p.validateStored() })
}

// DecodeBulkInvite reads and validates the payload of a bulk-invite task.
func DecodeBulkInvite(data []byte) (BulkInvitePayload, error) {
	return decode(data, func(p BulkInvitePayload) error { return ValidateCampaign(p.Campaign) })
}

// DecodeRevoke reads and validates the payload of a revoke task.
func DecodeRevoke(data []byte) (RevokePayload, error) { return decode(data, RevokePayload.Validate) }

// DecodeDelete reads and validates the payload of a delete task.
func DecodeDelete(data []byte) (DeletePayload, error) { return decode(data, DeletePayload.Validate) }

// DecodeSyncList reads the payload of a sync-list task.
func DecodeSyncList(data []byte) (SyncListPayload, error) {
	return decode(data, func(SyncListPayload) error { return nil })
}

// DecodeRecipient reads and validates a recipient of a campaign, as its ledger keeps it.
func DecodeRecipient(data []byte) (Recipient, error) {
	var r Recipient
	if err := strictJSON(data, &r); err != nil {
		return r, err
	}
	return r, r.validateStored()
}

// decode looks at the version first: a newer payload may have fields that this version does not know.
func decode[P any](data []byte, validate func(P) error) (payload P, err error) {
	var head struct {
		Version *int `json:"v"`
	}
	if len(data) > maxPayload {
		return payload, fmt.Errorf("payload has %d bytes, at most %d are read", len(data), maxPayload)
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return payload, fmt.Errorf("payload is not a JSON object: %w", withoutContent(err))
	}
	switch {
	case head.Version == nil || *head.Version < 1:
		return payload, errors.New(`payload has no version ("v")`)
	case *head.Version > Version:
		return payload, fmt.Errorf("%w: it has version %d, this one knows %d", ErrNewer, *head.Version, Version)
	}
	if err := strictJSON(data, &payload); err != nil {
		return payload, err
	}
	return payload, validate(payload)
}

// strictJSON refuses unknown fields and anything behind the value; numbers of metadata keep all their digits.
func strictJSON(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("payload cannot be read: %w", withoutContent(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("payload has something behind its end")
	}
	return nil
}

// withoutContent keeps what a decoding error says of the place and drops what it quotes: a payload holds an address.
func withoutContent(err error) error {
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("JSON ends or breaks at byte %d", syntax.Offset)
	case errors.As(err, &mistyped):
		return fmt.Errorf("field %q has the wrong type", mistyped.Field)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("JSON ends too early")
	}
	return errors.New("it has a field that is unknown or malformed")
}

var (
	campaignName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	invitationID = regexp.MustCompile(`^inv_[A-Za-z0-9]{1,60}$`)
	taskID       = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
)

// ValidateCampaign checks a campaign's name: letters, digits, dot, underscore and hyphen, at most 64.
func ValidateCampaign(name string) error {
	return match(campaignName, "campaign", name, "a name of 1 to 64 letters, digits, dots, underscores and hyphens")
}

// ValidateInvitationID checks the form of an invitation's id, "inv_" and letters and digits (observed at Clerk).
func ValidateInvitationID(id string) error {
	return match(invitationID, "invitation_id", id, "an invitation id such as inv_2bF7…")
}

func validateTaskID(id string) error {
	return match(taskID, "id", id, "an id of 1 to 128 letters, digits, dots, underscores and hyphens")
}

func match(pattern *regexp.Regexp, field, text, want string) error {
	if pattern.MatchString(text) {
		return nil
	}
	return invalid(field, "%.140q is not %s", text, want)
}
