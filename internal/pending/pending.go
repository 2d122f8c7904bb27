// Package pending finds the pending invitations of an address or a campaign at Clerk, in bounded memory and none missed: what is found
// is to be revoked.
package pending

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/clerklist"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// Finder finds pending invitations.
type Finder struct {
	List      clerklist.Ask
	Redis     redis.UniversalClient
	Namespace string
	// Lag is how long Clerk's list may not show what it has made. What was made since is found by what Usher knows of it.
	Lag time.Duration
}

// OfAddress gives the pending invitations of an address, whatever the case of its letters. One that Clerk's list does not show yet has no
// CreatedAt.
func (f Finder) OfAddress(ctx context.Context, address string) ([]clerkclient.Invitation, error) {
	folded := tasks.FoldAddress(address)
	mine := func(_ context.Context, rows []clerkclient.Invitation) ([]clerkclient.Invitation, error) {
		return slices.DeleteFunc(rows, func(inv clerkclient.Invitation) bool { return tasks.FoldAddress(inv.EmailAddress) != folded }), nil
	}
	found := gathered{}
	for _, spelling := range dispatch.Spellings(strings.TrimSpace(address)) {
		if err := f.gather(ctx, spelling, mine, found); err != nil {
			return nil, err
		}
	}
	ids, err := intent.NewTasks(f.Redis, f.Namespace).Settled(ctx, store.IDOf(folded), time.Now().Add(-f.Lag))
	if err != nil {
		return nil, err
	}
	young := gathered{}
	for _, id := range ids {
		young[id] = clerkclient.Invitation{ID: id, EmailAddress: folded}
	}
	return f.withYoung(ctx, found, young, folded)
}

// OfCampaign gives the pending invitations that a campaign has sent. One that Clerk's list does not show yet has no CreatedAt. The error is
// ledger.ErrNotFound or store.ErrNewer where the campaign cannot be read.
func (f Finder) OfCampaign(ctx context.Context, name string) ([]clerkclient.Invitation, error) {
	ledgers := ledger.New(f.Redis, f.Namespace)
	if _, err := ledgers.Get(ctx, name); err != nil {
		return nil, err
	}
	found, young := gathered{}, gathered{}
	sent := func(ctx context.Context, rows []clerkclient.Invitation) ([]clerkclient.Invitation, error) {
		return SentBy(ctx, ledgers, name, rows)
	}
	if err := f.gather(ctx, "", sent, found); err != nil {
		return nil, err
	}
	since := time.Now().Add(-f.Lag).Unix()
	err := ledgers.Each(ctx, name, func(e ledger.Entry) error {
		if !made(e) || e.SettledAt < since || e.InvitationID == "" {
			return nil
		}
		recipient, err := tasks.DecodeRecipient(e.Recipient)
		if err == nil {
			young[e.InvitationID] = clerkclient.Invitation{ID: e.InvitationID, EmailAddress: recipient.EmailAddress}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.withYoung(ctx, found, young, "")
}

// SentBy gives those of some invitations that a campaign has sent. They are found by their addresses, and belong to it by their ids: an
// address may have had an invitation before.
func SentBy(ctx context.Context, ledgers *ledger.Ledgers, name string, rows []clerkclient.Invitation) ([]clerkclient.Invitation, error) {
	ids := make([]store.AddressID, len(rows))
	for i, inv := range rows {
		ids[i] = store.IDOf(inv.EmailAddress)
	}
	entries, err := ledgers.Find(ctx, name, ids)
	if err != nil {
		return nil, err
	}
	var sent []clerkclient.Invitation
	for i, inv := range rows {
		if e, ok := entries[ids[i]]; ok && made(e) && e.InvitationID == inv.ID {
			sent = append(sent, inv)
		}
	}
	return sent, nil
}

// made tells whether the campaign has made the recipient's invitation. One that was there before and counts as the recipient's is another's.
func made(e ledger.Entry) bool { return e.State == ledger.RowSent && !e.Foreign }

// gathered are invitations by id.
type gathered map[string]clerkclient.Invitation

// gather collects those of the pending invitations that a query matches which are wanted. The oldest come first, so that what is made
// meanwhile comes last.
func (f Finder) gather(ctx context.Context, query string, wanted func(context.Context, []clerkclient.Invitation) ([]clerkclient.Invitation, error), into gathered) error {
	l := &clerklist.Listing{Status: "pending", Query: query, Each: func(ctx context.Context, rows []clerkclient.Invitation) error {
		mine, err := wanted(ctx, rows)
		for _, inv := range mine {
			inv.PublicMetadata = nil // large, and of no use here
			into[inv.ID] = inv
		}
		return err
	}}
	return l.Read(ctx, f.page)
}

// withYoung adds what was made so lately that the list of pending ones may lack it, unless Clerk shows by now that it is not pending.
func (f Finder) withYoung(ctx context.Context, found, young gathered, query string) ([]clerkclient.Invitation, error) {
	for id := range found {
		delete(young, id)
	}
	for _, status := range []string{"", "revoked"} {
		if err := f.sift(ctx, young, status, query); err != nil {
			return nil, err
		}
	}
	all := slices.Collect(maps.Values(found))
	all = slices.AppendSeq(all, maps.Values(young))
	slices.SortFunc(all, func(a, b clerkclient.Invitation) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// sift takes out those that Clerk shows and that are not pending, as well as it can: one that stays is refused when it is revoked.
func (f Finder) sift(ctx context.Context, young gathered, status, query string) error {
	if len(young) == 0 {
		return nil
	}
	horizon := time.Now().Add(-f.Lag - policy.MaxSkew)
	err := clerklist.Latest(ctx, f.page, status, query, horizon, func(rows []clerkclient.Invitation) (more bool) {
		for _, inv := range rows {
			switch _, mine := young[inv.ID]; {
			case mine && inv.Status == "pending":
				young[inv.ID] = inv
			case mine:
				delete(young, inv.ID)
			}
		}
		return len(young) > 0
	})
	if errors.Is(err, clerklist.ErrSlid) {
		return nil
	}
	return err
}

// page asks for a page of Clerk's list.
func (f Finder) page(ctx context.Context, query clerkclient.ListQuery) (clerkclient.Page, error) {
	page, err := f.List(ctx, query)
	if err != nil {
		return clerkclient.Page{}, fmt.Errorf("reading Clerk's list of invitations: %w", err)
	}
	return page, nil
}
