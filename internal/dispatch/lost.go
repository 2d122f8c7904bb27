package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/clerklist"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// Lost is a recipient of whom nobody knows whether a call has made an invitation.
type Lost struct {
	Recipient Recipient
	Since     time.Time // of its first such call, on our clock
}

// FindLost asks Clerk for invitations that were made for recipients since their calls, by folded address, the oldest first; revoked ones
// and accepted ones too. Anything that could not be asked is an error: an answer proves absence only if it is whole.
func (d *Dispatcher) FindLost(ctx context.Context, lost []Lost) (map[string][]clerkclient.Invitation, error) {
	ctx, cancel := context.WithTimeout(ctx, policy.LostPatience)
	defer cancel()
	since := make(map[string]time.Time, len(lost))
	earliest := time.Now()
	for _, l := range lost {
		since[l.Recipient.folded] = l.Since
		if l.Since.Before(earliest) {
			earliest = l.Since
		}
	}
	invitations, err := d.madeSince(ctx, lost, earliest.Add(-policy.MaxSkew-policy.SkewMargin))
	if err != nil {
		return nil, fmt.Errorf("asking what became of %d calls: %w", len(lost), err)
	}
	found := map[string][]clerkclient.Invitation{}
	for _, inv := range invitations {
		folded := tasks.FoldAddress(inv.EmailAddress)
		known := slices.ContainsFunc(found[folded], func(other clerkclient.Invitation) bool { return other.ID == inv.ID })
		if from, asked := since[folded]; asked && !known && !inv.CreatedAt.Before(d.skew.earliest(from)) {
			found[folded] = append(found[folded], inv)
		}
	}
	for _, list := range found {
		slices.SortFunc(list, func(a, b clerkclient.Invitation) int {
			return cmp.Compare(a.CreatedAt.UnixMilli(), b.CreatedAt.UnixMilli())
		})
	}
	return found, nil
}

// madeSince asks in the way that takes fewer calls: for few addresses or a long time each by itself, else for all that was
// made lately.
func (d *Dispatcher) madeSince(ctx context.Context, lost []Lost, earliest time.Time) ([]clerkclient.Invitation, error) {
	var all []clerkclient.Invitation
	var queries []clerkclient.ListQuery
	for _, status := range []string{"", "revoked"} {
		if len(lost) > policy.FewAddresses && time.Since(earliest) < policy.Lately {
			var lately []clerkclient.Invitation
			err := clerklist.Latest(ctx, d.page, status, "", earliest, func(rows []clerkclient.Invitation) (more bool) {
				lately = append(lately, rows...)
				return true
			})
			if err == nil {
				all = append(all, lately...)
				continue
			}
			if !errors.Is(err, clerklist.ErrSlid) {
				return nil, err
			}
		}
		for _, l := range lost {
			for _, address := range l.Recipient.spellings() {
				queries = append(queries, clerkclient.ListQuery{Limit: policy.ListPage, Status: status, Query: address})
			}
		}
	}
	found, err := d.askAll(ctx, queries)
	return append(all, found...), err
}
