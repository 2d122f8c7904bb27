package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// CodeDuplicate is Clerk's refusal of a second invitation for an address (documented). One that was revoked may count, too (observed).
const CodeDuplicate = "duplicate_record"

// PendingOf asks Clerk for the pending invitations of a recipient's address and gives them, the newest first.
func (d *Dispatcher) PendingOf(ctx context.Context, r Recipient) ([]clerkclient.Invitation, error) {
	var queries []clerkclient.ListQuery
	for _, address := range r.spellings() {
		queries = append(queries, clerkclient.ListQuery{Limit: policy.ListPage, Status: "pending", Query: address})
	}
	listed, err := d.askAll(ctx, queries)
	if err != nil {
		return nil, fmt.Errorf("asking for the pending invitations of an address: %w", err)
	}
	var pending []clerkclient.Invitation
	for _, inv := range listed {
		known := slices.ContainsFunc(pending, func(other clerkclient.Invitation) bool { return other.ID == inv.ID })
		if tasks.FoldAddress(inv.EmailAddress) == r.folded && !known {
			pending = append(pending, inv)
		}
	}
	slices.SortFunc(pending, func(a, b clerkclient.Invitation) int {
		return cmp.Compare(b.CreatedAt.UnixMilli(), a.CreatedAt.UnixMilli())
	})
	return pending, nil
}
