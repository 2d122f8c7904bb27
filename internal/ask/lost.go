package ask

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// Lost is an address of which nobody knows whether calls have made an invitation.
type Lost struct {
	Address string
	Since   time.Time // of the first such call, on our clock
}

// Found are the invitations that were made for one address.
type Found struct {
	IDs  []string // the oldest first, revoked and accepted ones too
	Gone []string // those that are revoked or expired
}

// FindLost asks Clerk which invitations were made for addresses since their first lost calls, by folded address.
// Absence is proved only without an error.
func (q *Questions) FindLost(ctx context.Context, lost []Lost) (map[string]Found, error) {
	ctx, cancel := context.WithTimeout(ctx, policy.LostPatience)
	defer cancel()
	since := make(map[string]time.Time, len(lost))
	earliest := time.Now()
	for _, l := range lost {
		since[tasks.FoldAddress(l.Address)] = l.Since
		if l.Since.Before(earliest) {
			earliest = l.Since
		}
	}
	invitations, err := q.madeSince(ctx, lost, earliest.Add(-policy.MaxSkew-policy.SkewMargin))
	if err != nil {
		return nil, fmt.Errorf("asking what became of %d calls: %w", len(lost), err)
	}
	found := map[string]Found{}
	for _, inv := range byAge(invitations) {
		folded := tasks.FoldAddress(inv.EmailAddress)
		if from, asked := since[folded]; asked && q.MadeSince(inv, from) {
			f := found[folded]
			if f.IDs = append(f.IDs, inv.ID); inv.Status == "revoked" || inv.Status == "expired" {
				f.Gone = append(f.Gone, inv.ID)
			}
			found[folded] = f
		}
	}
	return found, nil
}

// MadeSince tells whether a call since an instant may have made an invitation.
func (q *Questions) MadeSince(inv clerkclient.Invitation, since time.Time) bool {
	return !inv.CreatedAt.Before(q.earliest(since))
}

// PendingOf asks for the pending invitations of an address and gives them, the newest first.
func (q *Questions) PendingOf(ctx context.Context, address string) ([]clerkclient.Invitation, error) {
	listed, err := q.pages(ctx, queriesOf(address, "pending"))
	if err != nil {
		return nil, fmt.Errorf("asking for the pending invitations of an address: %w", err)
	}
	pending := slices.DeleteFunc(byAge(listed), func(inv clerkclient.Invitation) bool {
		return tasks.FoldAddress(inv.EmailAddress) != tasks.FoldAddress(address)
	})
	slices.Reverse(pending)
	return pending, nil
}

// byAge sorts invitations, the oldest first, and leaves out those that are there twice.
func byAge(invitations []clerkclient.Invitation) []clerkclient.Invitation {
	slices.SortFunc(invitations, func(a, b clerkclient.Invitation) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(invitations, func(a, b clerkclient.Invitation) bool { return a.ID == b.ID })
}

// madeSince asks in the way that takes fewer calls: for everything that was made since an instant, or, if that is
// long ago or the addresses are few, for each address.
func (q *Questions) madeSince(
	ctx context.Context, lost []Lost, earliest time.Time,
) (all []clerkclient.Invitation, err error) {
	var queries []clerkclient.ListQuery
	for _, status := range []string{"", "revoked"} {
		if len(lost) > policy.FewAddresses && time.Since(earliest) < policy.Lately {
			for rows, failure := range latest(ctx, q.Page, status, "", earliest) {
				all, err = append(all, rows...), failure
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, errSlid) {
				return nil, err
			}
		}
		for _, l := range lost {
			queries = append(queries, queriesOf(l.Address, status)...)
		}
	}
	found, err := q.pages(ctx, queries)
	return append(all, found...), err
}
