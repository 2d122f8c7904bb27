package ledger

import (
	"context"
	"fmt"

	"example.com/usher/internal/store"
)

// RowState is where a recipient stands.
type RowState string

// The states of a recipient.
const (
	RowWaiting RowState = "waiting"
	RowOpen    RowState = "open" // in a call or a question to Clerk, or nobody knows what became of its last call
	RowSent    RowState = "sent"
	RowDead    RowState = "dead"
)

// Entry is a row and where it stands.
type Entry struct {
	Row
	State RowState
}

func entryOf(id, value string) (Entry, error) {
	row, err := decode(id, value)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Row: row}
	switch state, travel := value[0], Travel(value[1]); {
	case state == 's':
		e.State = RowSent
	case state == 'd':
		e.State = RowDead
	case state == 'o', state == 'w' && travel == Unsure:
		e.State = RowOpen
	case state == 'w':
		e.State = RowWaiting
	default:
		return Entry{}, fmt.Errorf("a recipient: %w", store.ErrGarbage)
	}
	return e, nil
}

// scanCount is how many rows are asked for at a time.
const scanCount = 500

// Each calls do for every recipient of a campaign once, in no order, until it returns an error, and gives that. A campaign that runs goes
// on meanwhile: each is told as it stands when it is read. None is no error.
func (l *Ledgers) Each(ctx context.Context, name string, do func(Entry) error) error {
	seen := make(map[string]struct{}) // HSCAN may give one twice; 16 bytes each
	for cursor := uint64(0); ; {
		flat, next, err := l.rdb.HScan(ctx, l.keys.Ledger(name, "rows"), cursor, "", scanCount).Result()
		if err != nil {
			return fmt.Errorf("reading the recipients of campaign %s: %w", name, err)
		}
		for i := 0; i+1 < len(flat); i += 2 {
			if _, again := seen[flat[i]]; again {
				continue
			}
			seen[flat[i]] = struct{}{}
			entry, err := entryOf(flat[i], flat[i+1])
			if err != nil {
				return fmt.Errorf("campaign %s: %w", name, err)
			}
			if err := do(entry); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Find gives those of some recipients that a campaign has, by id.
func (l *Ledgers) Find(ctx context.Context, name string, ids []store.AddressID) (map[store.AddressID]Entry, error) {
	found := make(map[store.AddressID]Entry, len(ids))
	for start := 0; start < len(ids); start += scanCount {
		chunk := ids[start:min(start+scanCount, len(ids))]
		fields := make([]string, len(chunk))
		for i, id := range chunk {
			fields[i] = string(id[:])
		}
		values, err := l.rdb.HMGet(ctx, l.keys.Ledger(name, "rows"), fields...).Result()
		if err != nil {
			return nil, fmt.Errorf("looking for recipients in campaign %s: %w", name, err)
		}
		for i, value := range values {
			text, there := value.(string)
			if !there {
				continue
			}
			entry, err := entryOf(fields[i], text)
			if err != nil {
				return nil, fmt.Errorf("campaign %s: %w", name, err)
			}
			found[chunk[i]] = entry
		}
	}
	return found, nil
}
