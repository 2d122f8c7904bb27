package ask

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// Finder finds the pending invitations of an address or a campaign, in bounded memory and without missing one: what
// it finds is to be revoked. An invitation that Clerk's list does not show yet has no CreatedAt.
type Finder struct {
	List      PageFunc
	Redis     redis.UniversalClient
	Namespace string
	// Lag is how long Clerk's list may not show a new invitation. Those that are younger are found by what Usher
	// knows.
	Lag time.Duration
}

// Pending gives the pending invitations of an address, whatever the case of its letters, or those that a campaign has
// sent. The error is ledger.ErrNotFound or store.ErrNewer if the campaign cannot be read.
func (f Finder) Pending(ctx context.Context, of tasks.RevokePayload) ([]clerkclient.Invitation, error) {
	if of.Campaign != "" {
		return f.ofCampaign(ctx, of.Campaign)
	}
	return f.ofAddress(ctx, of.EmailAddress)
}

func (f Finder) ofAddress(ctx context.Context, address string) ([]clerkclient.Invitation, error) {
	folded := tasks.FoldAddress(address)
	queries := spellings(strings.TrimSpace(address))
	return f.find(ctx, queries, folded, isTo(folded), func(since time.Time) (gathered, error) {
		ids, err := intent.NewTasks(f.Redis, f.Namespace).Settled(ctx, store.IDOf(folded), since)
		young := gathered{}
		for _, id := range ids {
			young[id] = clerkclient.Invitation{ID: id, EmailAddress: folded}
		}
		return young, err
	})
}

func (f Finder) ofCampaign(ctx context.Context, name string) ([]clerkclient.Invitation, error) {
	ledgers := ledger.New(f.Redis, f.Namespace)
	if _, err := ledgers.Get(ctx, name); err != nil {
		return nil, err
	}
	sent := func(ctx context.Context, rows []clerkclient.Invitation) ([]clerkclient.Invitation, error) {
		return SentBy(ctx, ledgers, name, rows)
	}
	return f.find(ctx, []string{""}, "", sent, func(since time.Time) (gathered, error) {
		young := gathered{}
		err := ledgers.Each(ctx, name, func(e ledger.Entry) error {
			if !made(e) || e.SettledAt < since.Unix() || e.InvitationID == "" {
				return nil
			}
			if r, err := tasks.DecodeRecipient(e.Recipient); err == nil {
				young[e.InvitationID] = clerkclient.Invitation{ID: e.InvitationID, EmailAddress: r.EmailAddress}
			}
			return nil
		})
		return young, err
	})
}

// Listed gives every invitation of an address, or the one of an id, whatever its status. Exactly one of both is given.
func Listed(ctx context.Context, page PageFunc, address, id string) ([]clerkclient.Invitation, error) {
	queries, wanted := []string{id}, hasID(id)
	if id == "" {
		queries, wanted = spellings(address), isTo(tasks.FoldAddress(address))
	}
	found, err := gather(ctx, page, []string{"pending", "accepted", "revoked", "expired"}, queries, wanted)
	return byAge(slices.Collect(maps.Values(found))), err
}

// SentBy gives those of some invitations that a campaign has sent. It finds them by their addresses and compares
// their ids: an address may have had another invitation before.
func SentBy(
	ctx context.Context, ledgers *ledger.Ledgers, name string, rows []clerkclient.Invitation,
) ([]clerkclient.Invitation, error) {
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

// made tells whether the campaign has made the recipient's invitation. It has not if an earlier one counts as that.
func made(e ledger.Entry) bool { return e.State == ledger.RowSent && !e.Foreign }

// gathered are invitations by id.
type gathered map[string]clerkclient.Invitation

// choose gives the wanted ones of some invitations.
type choose func(context.Context, []clerkclient.Invitation) ([]clerkclient.Invitation, error)

// isTo chooses the invitations to a folded address.
func isTo(folded string) choose {
	return func(_ context.Context, rows []clerkclient.Invitation) ([]clerkclient.Invitation, error) {
		return slices.DeleteFunc(rows, func(inv clerkclient.Invitation) bool {
			return tasks.FoldAddress(inv.EmailAddress) != folded
		}), nil
	}
}

// hasID chooses the invitation of an id.
func hasID(id string) choose {
	return func(_ context.Context, rows []clerkclient.Invitation) ([]clerkclient.Invitation, error) {
		return slices.DeleteFunc(rows, func(inv clerkclient.Invitation) bool { return inv.ID != id }), nil
	}
}

// find gives the wanted ones of the pending invitations that match queries. It adds what was made so lately that the
// list of pending ones may lack it, unless Clerk shows, to another query, that it is not pending by now.
func (f Finder) find(
	ctx context.Context, queries []string, another string, wanted choose,
	lately func(since time.Time) (gathered, error),
) ([]clerkclient.Invitation, error) {
	found, err := gather(ctx, f.page, []string{"pending"}, queries, wanted)
	if err != nil {
		return nil, err
	}
	young, err := lately(time.Now().Add(-f.Lag))
	for id := range found {
		delete(young, id)
	}
	for _, status := range []string{"", "revoked"} {
		if err == nil {
			err = f.sift(ctx, young, status, another)
		}
	}
	maps.Copy(found, young)
	return byAge(slices.Collect(maps.Values(found))), err
}

// gather collects the wanted ones of the invitations that match queries and have one of some statuses.
func gather(ctx context.Context, page PageFunc, statuses, queries []string, wanted choose) (gathered, error) {
	found := gathered{}
	each := func(ctx context.Context, rows []clerkclient.Invitation) error {
		mine, err := wanted(ctx, rows)
		for _, inv := range mine {
			inv.PublicMetadata = nil // large, and of no use here
			found[inv.ID] = inv
		}
		return err
	}
	for _, status := range statuses {
		for _, query := range queries {
			l := &Listing{Status: status, Query: query, Each: each}
			if err := l.Read(ctx, page); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// sift takes out those that Clerk shows and that are not pending. It may miss some: Clerk refuses to revoke those.
func (f Finder) sift(ctx context.Context, young gathered, status, query string) error {
	if len(young) == 0 {
		return nil
	}
	horizon := time.Now().Add(-f.Lag - policy.MaxSkew)
	for rows, err := range latest(ctx, f.page, status, query, horizon) {
		if errors.Is(err, errSlid) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, inv := range rows {
			if _, mine := young[inv.ID]; mine && inv.Status == "pending" {
				young[inv.ID] = inv
			} else {
				delete(young, inv.ID)
			}
		}
		if len(young) == 0 {
			return nil
		}
	}
	return nil
}

// page asks for a page of Clerk's list.
func (f Finder) page(ctx context.Context, query clerkclient.ListQuery) (clerkclient.Page, error) {
	page, err := f.List(ctx, query)
	if err != nil {
		err = fmt.Errorf("reading Clerk's list of invitations: %w", err)
	}
	return page, err
}
