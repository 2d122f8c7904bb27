package main

import (
	"encoding/csv"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"example.com/usher/internal/directory"
	"example.com/usher/internal/settings"
)

type invitationsCommand struct {
	Status string `placeholder:"S" help:"Only those that are pending, accepted, revoked or expired."`
	Query  string `placeholder:"Q" help:"Only those with this in their address or id."`
	CSV    bool   `name:"csv" help:"Write CSV."`
}

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
	var found []directory.Invitation
	dir := directory.New(a.rdb, a.namespace)
	syncedAt, err := dir.Each(a.ctx, directory.Filter{Status: c.Status, Query: c.Query}, func(inv directory.Invitation) error {
		found = append(found, inv)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(found, func(x, y directory.Invitation) int {
		if byTime := y.CreatedAt.Compare(x.CreatedAt); byTime != 0 {
			return byTime
		}
		return strings.Compare(x.ID, y.ID)
	})
	switch {
	case a.out.json:
		return c.writeJSON(a, found, syncedAt)
	case c.CSV:
		return c.writeCSV(a, found, syncedAt)
	case syncedAt.IsZero():
		a.out.say("The directory was never synced: run enqueue sync-list.")
		return nil
	}
	t := a.table("id", "address", "status", "created", "expires")
	for _, inv := range found {
		t.AppendRow(table.Row{inv.ID, inv.EmailAddress, inv.Status, local(inv.CreatedAt), expiry(inv, local)})
	}
	if len(found) > 0 {
		a.out.say("%s", t.Render())
	}
	a.out.say("%s, as synced at %s.", plural(len(found), "invitation"), local(syncedAt))
	return nil
}

func expiry(inv directory.Invitation, format func(time.Time) string) string {
	if inv.ExpiresAt == nil {
		return ""
	}
	return format(*inv.ExpiresAt)
}

func (c *invitationsCommand) writeJSON(a *app, found []directory.Invitation, syncedAt time.Time) error {
	for _, inv := range found {
		row := struct {
			directory.Invitation
			SyncedAt time.Time `json:"synced_at"`
		}{inv, syncedAt}
		if err := a.out.object(row); err != nil {
			return err
		}
	}
	return nil
}

func (c *invitationsCommand) writeCSV(a *app, found []directory.Invitation, syncedAt time.Time) error {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	w := csv.NewWriter(a.out.stdout)
	rows := [][]string{{"id", "email_address", "status", "public_metadata", "created_at", "updated_at", "expires_at", "synced_at"}}
	for _, inv := range found {
		rows = append(rows, []string{
			inv.ID, inv.EmailAddress, inv.Status, string(inv.PublicMetadata), stamp(inv.CreatedAt), stamp(inv.UpdatedAt), expiry(inv, stamp), stamp(syncedAt),
		})
	}
	return w.WriteAll(rows)
}
