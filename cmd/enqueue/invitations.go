package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/directory"
)

type invitationsCommand struct {
	Status string `placeholder:"S" help:"Only those that are pending, accepted, revoked or expired."`
	Query  string `placeholder:"Q" help:"Only those with this in their address or id."`
	CSV    bool   `name:"csv" help:"Write all as CSV."`
}

// shownInvitations is how many a person is shown.
const shownInvitations = 200

// Run is called by kong.
func (c *invitationsCommand) Run(a *app) error {
	if c.CSV && a.out.json {
		return &usageError{errors.New("--csv and --json exclude each other")}
	}
	if c.Status != "" {
		status, err := settings.OneOf("--status", c.Status, "pending", "accepted", "revoked", "expired")
		if err != nil {
			return err
		}
		c.Status = status
	}
	copy, err := directory.New(a.rdb, a.namespace).Copy(a.ctx)
	if errors.Is(err, directory.ErrNoCopy) {
		return c.noCopy(a, err)
	}
	if err != nil {
		return err
	}
	filter := directory.Filter{Status: c.Status, Query: c.Query}
	switch {
	case a.out.json:
		return writeJSON(a, copy, filter)
	case c.CSV:
		return writeCSV(a, copy, filter)
	}
	return show(a, copy, filter)
}

// noCopy says that there is nothing to list, which is not the same as an empty list.
func (c *invitationsCommand) noCopy(a *app, why error) error {
	switch {
	case a.out.json:
		return json.NewEncoder(a.out.stderr).Encode(map[string]any{"code": "never_synced", "message": why.Error(), "rows": []badRow{}})
	case c.CSV:
		a.out.note("%s", sentence(why.Error()))
		return nil
	}
	a.out.say("%s", sentence(why.Error()))
	return nil
}

// show lists the newest for a person, and tells how many there are and how old the copy is.
func show(a *app, copy directory.Copy, filter directory.Filter) error {
	t := a.table("id", "address", "status", "created", "expires")
	found := 0
	err := copy.Each(a.ctx, filter, func(inv directory.Invitation) error {
		if found++; found <= shownInvitations {
			t.AppendRow(table.Row{inv.ID, inv.EmailAddress, inv.Status, local(inv.CreatedAt), expiry(inv, local)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if found > 0 {
		a.out.say("%s", t.Render())
	}
	if more := found - shownInvitations; more > 0 {
		a.out.say("… and %d older ones; --csv or --json lists all.", more)
	}
	age := max(0, time.Since(copy.SyncedAt)).Truncate(time.Second)
	a.out.say("%s, as synced at %s, %s ago.", plural(found, "invitation"), local(copy.SyncedAt), settings.FormatDuration(age))
	return nil
}

func expiry(inv directory.Invitation, format func(time.Time) string) string {
	if inv.ExpiresAt == nil {
		return ""
	}
	return format(*inv.ExpiresAt)
}

func writeJSON(a *app, copy directory.Copy, filter directory.Filter) error {
	buffered := bufio.NewWriter(a.out.stdout)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	err := copy.Each(a.ctx, filter, func(inv directory.Invitation) error {
		return encoder.Encode(struct {
			directory.Invitation
			SyncedAt time.Time `json:"synced_at"`
		}{inv, copy.SyncedAt})
	})
	return errors.Join(err, buffered.Flush())
}

func writeCSV(a *app, copy directory.Copy, filter directory.Filter) error {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	w := csv.NewWriter(a.out.stdout)
	if err := w.Write([]string{"id", "email_address", "status", "public_metadata", "created_at", "updated_at", "expires_at", "synced_at"}); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	err := copy.Each(a.ctx, filter, func(inv directory.Invitation) error {
		return w.Write([]string{
			inv.ID, inv.EmailAddress, inv.Status, string(inv.PublicMetadata), stamp(inv.CreatedAt), stamp(inv.UpdatedAt), expiry(inv, stamp), stamp(copy.SyncedAt),
		})
	})
	w.Flush()
	return errors.Join(err, w.Error())
}
