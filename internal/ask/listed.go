package ask

import (
	"context"
	"slices"

	"example.com/usher/clerkclient"
	"example.com/usher/tasks"
)

// Listed gives every invitation of an address, or the one of an id, whatever its status. Exactly one of both is given.
func Listed(ctx context.Context, page PageFunc, address, id string) ([]clerkclient.Invitation, error) {
	folded := tasks.FoldAddress(address)
	other := func(inv clerkclient.Invitation) bool {
		return id != "" && inv.ID != id || id == "" && tasks.FoldAddress(inv.EmailAddress) != folded
	}
	queries := []string{id}
	if id == "" {
		queries = spellings(address)
	}
	var found []clerkclient.Invitation
	for _, status := range []string{"pending", "accepted", "revoked", "expired"} {
		for _, query := range queries {
			l := &Listing{Status: status, Query: query}
			l.Each = func(_ context.Context, rows []clerkclient.Invitation) error {
				found = append(found, slices.DeleteFunc(rows, other)...)
				return nil
			}
			if err := l.Read(ctx, page); err != nil {
				return nil, err
			}
		}
	}
	return byAge(found), nil
}
