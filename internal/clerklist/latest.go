package clerklist

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// ErrSlid means that rows may have slid from one page to another, unseen.
var ErrSlid = errors.New("the list changed while it was read")

// Latest reads a list, the newest first, until rows are older than an instant or each wants no more. It does not go back: pages overlap,
// and if the last row of one is not in the next, rows may have been missed and the error is ErrSlid. It may also be what ask returned. Each
// gets no empty page, and rows again where pages overlap.
func Latest(ctx context.Context, ask Ask, status, query string, since time.Time, each func([]clerkclient.Invitation) (more bool)) error {
	q := clerkclient.ListQuery{Limit: policy.ListPage, Status: status, Query: query, OrderBy: "-created_at"}
	for last := ""; ; q.Offset += policy.ListPage - policy.ListOverlap {
		page, err := ask(ctx, q)
		if err != nil {
			return err
		}
		rows := page.Invitations
		if q.Offset > 0 && !slices.ContainsFunc(rows, func(inv clerkclient.Invitation) bool { return inv.ID == last }) {
			return ErrSlid
		}
		if len(rows) == 0 {
			return nil
		}
		end := rows[len(rows)-1]
		if more := each(rows); !more || len(rows) < policy.ListPage || end.CreatedAt.Before(since) {
			return nil
		}
		last = end.ID
	}
}
