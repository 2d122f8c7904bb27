package ledger

import (
	"context"
	"fmt"
)

// Mark is a place in a reading of a campaign's recipients; the zero Mark is the beginning, and the end.
type Mark struct {
	Cursor uint64 // of a batch of rows, as Redis gives it
	Skip   int    // rows of the batch that were seen
}

// Scan reads some recipients of a campaign from a mark on: those that are wanted, until there are most of them or
// about look rows were seen. It gives how many it has seen, and where to go on. They come in no order, and one may come
// twice while others change. It holds a batch of rows, however large the campaign is.
func (l *Ledgers) Scan(
	ctx context.Context, name string, from Mark, most, look int, wanted func(Entry) bool,
) (found []Entry, seen int, next Mark, err error) {
	for {
		rows, cursor, err := l.page(ctx, name, from.Cursor)
		if err != nil {
			return nil, 0, Mark{}, err
		}
		for i := from.Skip; 2*i+1 < len(rows); i++ {
			entry, err := entryOf(rows[2*i], rows[2*i+1])
			if err != nil {
				return nil, 0, Mark{}, fmt.Errorf("campaign %s: %w", name, err)
			}
			if len(found) == most {
				return found, seen, Mark{from.Cursor, i}, nil
			}
			if seen++; wanted(entry) {
				found = append(found, entry)
			}
		}
		if from = (Mark{Cursor: cursor}); cursor == 0 || seen >= look {
			return found, seen, from, nil
		}
	}
}
