package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"example.com/usher/tasks"
)

// recipientFlags are the options of an invitation; in a bulk, the defaults of its rows.
type recipientFlags struct {
	RedirectURL    string `name:"redirect-url" placeholder:"URL" help:"Where the link in the e-mail leads: a URL, or a path."`
	Metadata       string `placeholder:"JSON" help:"Public metadata, a JSON object."`
	ExpiresInDays  *int   `placeholder:"N" help:"Days until the invitation expires, 1 to 365. Default: 30."`
	NoNotify       bool   `help:"Create the invitation without sending an e-mail."`
	IgnoreExisting bool   `help:"Invite although an invitation exists already."`
	TemplateSlug   string `placeholder:"S" help:"E-mail template: invitation or waitlist_invitation."`
	OnDuplicate    string `placeholder:"WHAT" help:"If an invitation is pending already: dead-letter (default), accept (it counts as this one) or resend (it is revoked, and a new one made)."`
}

func (f *recipientFlags) recipient(address string) (tasks.Recipient, error) {
	r := tasks.Recipient{
		EmailAddress: address, RedirectURL: f.RedirectURL, NoNotify: f.NoNotify,
		IgnoreExisting: f.IgnoreExisting, TemplateSlug: f.TemplateSlug, OnDuplicate: tasks.OnDuplicate(f.OnDuplicate),
	}
	if f.ExpiresInDays != nil {
		if r.ExpiresInDays = *f.ExpiresInDays; r.ExpiresInDays == 0 {
			return r, &tasks.InvalidError{Index: -1, Field: "expires_in_days", Reason: "0 is not between 1 and 365"}
		}
	}
	if f.Metadata == "" {
		return r, nil
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(f.Metadata)))
	decoder.UseNumber()
	err := decoder.Decode(&r.PublicMetadata)
	if _, behind := decoder.Token(); err != nil || r.PublicMetadata == nil || !errors.Is(behind, io.EOF) {
		return r, &tasks.InvalidError{Index: -1, Field: "public_metadata", Reason: `is not a JSON object such as {"plan":"pro"}`}
	}
	return r, nil
}
