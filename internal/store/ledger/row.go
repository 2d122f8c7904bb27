package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

// List is where a recipient waits, by how it may be sent.
type List byte

// The lists.
const (
	Waiting List = 'b' // together with others, after a look-up
	Ready   List = 'r' // together with others: it was looked up
	Singles List = 's' // alone: it may spoil a bulk, or a bulk may lose its metadata
	Unsure  List = 'u' // not before Clerk was asked what became of its last call
)

// Row is one recipient of a campaign, and what has become of it so far.
type Row struct {
	ID        store.AddressID `json:"-"`
	Recipient json.RawMessage `json:"r"`
	fate.State
	InvitationID string `json:"i,omitempty"`
	// SettledAt is when its outcome was recorded, in Unix seconds.
	SettledAt int64 `json:"t,omitempty"`
	// Code is the cause of a dead or skipped one.
	Code string `json:"c,omitempty"`
	// Place is its number in the order of uploading, from 1; 0 if an earlier version uploaded it. It is written last,
	// where scripts and placeOf look for it.
	Place int `json:"l,omitempty"`
	// Intent is how its intent stands, if it was taken for a call or is unsure.
	Intent intent.Standing `json:"-"`
	// Hold is the token of the call or question that holds it, if it was taken.
	Hold string `json:"-"`
}

// encode gives a row as it is stored: its state and its list as one byte each, then JSON.
func encode(state byte, list List, row Row) (string, error) {
	data, err := json.Marshal(row)
	if err != nil {
		return "", fmt.Errorf("encoding a recipient: %w", err)
	}
	return string([]byte{state, byte(list)}) + string(data), nil
}

func decode(id, value string) (Row, error) {
	var row Row
	if len(id) != len(row.ID) || len(value) < 2 || json.Unmarshal([]byte(value[2:]), &row) != nil {
		return Row{}, fmt.Errorf("a recipient: %w", store.ErrGarbage)
	}
	row.ID = store.AddressID([]byte(id))
	return row, nil
}

// RowState is where a recipient stands.
type RowState string

// The states of a recipient.
const (
	RowWaiting RowState = "waiting"
	RowOpen    RowState = "open" // in a call or a question to Clerk, or nobody knows what became of its last call
	RowSent    RowState = "sent"
	RowDead    RowState = "dead"
	RowSkipped RowState = "skipped"
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
	states := map[byte]RowState{'w': RowWaiting, 'o': RowOpen, 's': RowSent, 'd': RowDead, 'k': RowSkipped}
	state, known := states[value[0]]
	if !known {
		return Entry{}, fmt.Errorf("a recipient: %w", store.ErrGarbage)
	}
	if state == RowWaiting && List(value[1]) == Unsure {
		state = RowOpen
	}
	return Entry{Row: row, State: state}, nil
}

// scanCount is how many rows are asked for at a time.
const scanCount = 500

// Each calls do for every recipient of a campaign once, in no order, until it returns an error, and gives that. A
// campaign that runs goes on meanwhile: each is told as it stands when it is read. None is no error, but a campaign
// that is deleted meanwhile, or was before, is a *DeletedError.
func (l *Ledgers) Each(ctx context.Context, name string, do func(Entry) error) error {
	seen := make(map[store.AddressID]struct{}) // HSCAN may give one twice
	for cursor, more := uint64(0), true; more; more = cursor != 0 {
		rows, next, err := l.page(ctx, name, cursor)
		if err != nil {
			return err
		}
		cursor = next
		for i := 0; i+1 < len(rows); i += 2 {
			entry, err := entryOf(rows[i], rows[i+1])
			if err != nil {
				return fmt.Errorf("campaign %s: %w", name, err)
			}
			if _, again := seen[entry.ID]; again {
				continue
			}
			seen[entry.ID] = struct{}{}
			if err := do(entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeOf reads the place of a row as it is stored, without decoding the row.
func placeOf(value string) int {
	_, text, _ := strings.Cut(value[max(0, len(value)-placeBytes):], placeField)
	place, err := strconv.Atoi(strings.TrimSuffix(text, "}"))
	if err != nil {
		return 0
	}
	return place
}

const (
	placeField = `,"l":`
	placeBytes = len(placeField) + len("1234567890}")
)

// Placed is a recipient and its place in the order of uploading.
type Placed struct {
	Place int
	ID    store.AddressID
}

// InOrder is Each in the order of uploading. It holds the ids of all recipients, and a few hundred of them. Who takes
// another one's place meanwhile comes in that place.
func (l *Ledgers) InOrder(ctx context.Context, name string, do func(Entry) error) error {
	order, err := l.Order(ctx, name)
	if err != nil {
		return err
	}
	return l.EachPlaced(ctx, name, order, scanCount, do)
}

// Order gives all recipients of a campaign in the order of uploading. It reads all rows. Recipients whom earlier
// versions have uploaded may share a place.
func (l *Ledgers) Order(ctx context.Context, name string) (order []Placed, err error) {
	for cursor, more := uint64(0), true; more; more = cursor != 0 {
		rows, next, err := l.page(ctx, name, cursor)
		if err != nil {
			return nil, err
		}
		cursor = next
		for i := 0; i+1 < len(rows); i += 2 {
			if len(rows[i]) != len(store.AddressID{}) {
				return nil, fmt.Errorf("campaign %s: a recipient: %w", name, store.ErrGarbage)
			}
			order = append(order, Placed{placeOf(rows[i+1]), store.AddressID([]byte(rows[i]))})
		}
	}
	slices.SortFunc(order, func(a, b Placed) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return slices.Compact(order), nil // HSCAN may give one twice
}

// EachPlaced calls do for some recipients of a campaign, in their order, and reads so many at once. Those that are
// gone are left out.
func (l *Ledgers) EachPlaced(
	ctx context.Context, name string, some []Placed, atOnce int, do func(Entry) error,
) error {
	ids := make([]string, 0, atOnce)
	for chunk := range slices.Chunk(some, atOnce) {
		ids = ids[:0]
		for _, p := range chunk {
			ids = append(ids, string(p.ID[:]))
		}
		if err := l.some(ctx, name, ids, do); err != nil {
			return err
		}
	}
	return nil
}

// some calls do for some recipients of a campaign, in the order of their ids. Those that are gone are left out.
func (l *Ledgers) some(ctx context.Context, name string, ids []string, do func(Entry) error) error {
	found, err := l.values(ctx, name, ids)
	for i, value := range found {
		text, there := value.(string)
		if !there {
			continue
		}
		entry, err := entryOf(ids[i], text)
		if err != nil {
			return fmt.Errorf("campaign %s: %w", name, err)
		}
		if err := do(entry); err != nil {
			return err
		}
	}
	return err
}

// values reads some rows of a campaign. Of an id that another one has replaced it is that one's row, and its id is put
// into ids.
func (l *Ledgers) values(ctx context.Context, name string, ids []string) (values []any, err error) {
	defer store.Wrap(&err, "reading the recipients of campaign %s", name)
	for {
		var rows, replaced *redis.SliceCmd
		err := l.whileThere(ctx, name, func(pipe redis.Pipeliner) {
			rows = pipe.HMGet(ctx, l.db.Key.Ledger(name, "rows"), ids...)
			replaced = pipe.HMGet(ctx, l.db.Key.Ledger(name, "mended"), ids...)
		})
		if err != nil {
			return nil, err
		}
		again := false
		for i, value := range rows.Val() {
			if id, mended := replaced.Val()[i].(string); value == nil && mended && id != "" && id != ids[i] {
				ids[i], again = id, true
			}
		}
		if !again {
			return rows.Val(), nil
		}
	}
}

// page reads some rows of a campaign, ids and values in turn, and where to go on: 0 if these were the last.
func (l *Ledgers) page(ctx context.Context, name string, cursor uint64) (rows []string, next uint64, err error) {
	defer store.Wrap(&err, "reading the recipients of campaign %s", name)
	var page *redis.ScanCmd
	err = l.whileThere(ctx, name, func(pipe redis.Pipeliner) {
		page = pipe.HScan(ctx, l.db.Key.Ledger(name, "rows"), cursor, "", scanCount)
	})
	if err != nil {
		return nil, 0, err
	}
	return page.Result()
}

// whileThere reads something of a campaign. Its state is read after that, so that what is left of a campaign that is
// deleted is not taken for all there is: the error is a *DeletedError then.
func (l *Ledgers) whileThere(ctx context.Context, name string, read func(redis.Pipeliner)) error {
	var state *redis.StringCmd
	_, err := l.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		read(pipe)
		state = pipe.HGet(ctx, l.db.Key.Ledger(name, "meta"), "state")
		return nil
	})
	switch gone := errors.Is(state.Err(), redis.Nil); {
	case err != nil && !errors.Is(err, redis.Nil):
		return err
	case gone, state.Val() == string(deleting):
		return l.deleted(ctx, name)
	}
	return state.Err()
}

// fieldsOf gives the fields of recipients in a hash: a prefix, and the id of each.
func fieldsOf(prefix string, ids []store.AddressID) []string {
	fields := make([]string, len(ids))
	for i, id := range ids {
		fields[i] = prefix + string(id[:])
	}
	return fields
}

// Find gives those of some recipients that a campaign has, by id.
func (l *Ledgers) Find(
	ctx context.Context, name string, ids []store.AddressID,
) (found map[store.AddressID]Entry, err error) {
	defer store.Wrap(&err, "looking for recipients in campaign %s", name)
	found = make(map[store.AddressID]Entry, len(ids))
	err = store.EachField(ctx, l.db, l.db.Key.Ledger(name, "rows"), fieldsOf("", ids), func(id, row string) error {
		entry, err := entryOf(id, row)
		found[entry.ID] = entry
		return err
	})
	return found, err
}

// Has tells which of some recipients an upload would find in a campaign already: its own, and those in whose place
// another one is.
func (l *Ledgers) Has(
	ctx context.Context, name string, ids []store.AddressID,
) (has map[store.AddressID]bool, err error) {
	defer store.Wrap(&err, "looking for recipients in campaign %s", name)
	has = make(map[store.AddressID]bool, len(ids))
	fields := fieldsOf("", ids)
	for _, part := range []string{"rows", "mended"} {
		err = store.EachField(ctx, l.db, l.db.Key.Ledger(name, part), fields, func(id, _ string) error {
			has[store.AddressID([]byte(id))] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return has, nil
}

// campaignsAtOnce is how many campaigns are asked for a recipient in one round trip.
const campaignsAtOnce = 250

// EachID calls do for the ids of the recipients of all campaigns and uploads, and of addresses that were replaced by
// others, some at a time, until it returns an error, and gives that. It may give one more than once.
func (l *Ledgers) EachID(ctx context.Context, do func(ids []store.AddressID) error) (err error) {
	defer store.Wrap(&err, "reading who is in campaigns")
	names, err := l.db.ZRange(ctx, l.db.Key.Campaigns(), 0, -1).Result()
	if err != nil {
		return err
	}
	for _, name := range names {
		for _, part := range []string{"rows", "mended"} {
			if err := l.eachIDOf(ctx, l.db.Key.Ledger(name, part), do); err != nil {
				return fmt.Errorf("campaign %s: %w", name, err)
			}
		}
	}
	stages, err := store.ScanKeys(ctx, l.db.UniversalClient, l.db.Key.Stage("*", "*"))
	for _, stage := range stages {
		values, err := l.db.LRange(ctx, stage, 0, -1).Result()
		if err == nil {
			err = do(store.IDsAmong(values))
		}
		if err != nil {
			return err
		}
	}
	return err
}

// eachIDOf calls do for the ids among the fields and values of a hash.
func (l *Ledgers) eachIDOf(ctx context.Context, key string, do func(ids []store.AddressID) error) error {
	for cursor, more := uint64(0), true; more; more = cursor != 0 {
		values, next, err := l.db.HScan(ctx, key, cursor, "", scanCount).Result()
		if err == nil {
			err = do(store.IDsAmong(values))
		}
		if err != nil {
			return err
		}
		cursor = next
	}
	return nil
}

// Containing calls do for every campaign that has a recipient, the oldest first, until it returns an error.
func (l *Ledgers) Containing(ctx context.Context, id store.AddressID, do func(Campaign, Entry) error) (err error) {
	defer store.Wrap(&err, "looking for a recipient in all campaigns")
	names, err := l.db.ZRange(ctx, l.db.Key.Campaigns(), 0, -1).Result()
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(names, campaignsAtOnce) {
		rows := make([]*redis.SliceCmd, len(chunk))
		_, err := l.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, name := range chunk {
				rows[i] = pipe.HMGet(ctx, l.db.Key.Ledger(name, "rows"), string(id[:]))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, name := range chunk {
			text, there := rows[i].Val()[0].(string)
			if !there {
				continue
			}
			entry, err := entryOf(string(id[:]), text)
			if err != nil {
				return fmt.Errorf("campaign %s: %w", name, err)
			}
			head, err := l.Get(ctx, name)
			if err == nil {
				err = do(head, entry)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseScript removes a recipient that was forgotten on request.
//
// KEYS[13] -> usher:{once}:c:NAME:request:TOKEN  there if it was removed, for a repeated request
// --
// ARGV[5] -> id
// --
// Returns 1 if it was there.
var eraseScript = redis.NewScript(prelude + `
if erase(ARGV[5]) == 1 then redis.call('SET', KEYS[13], 1, 'PX', request_keep) end
return redis.call('EXISTS', KEYS[13])
`)

// Erase removes a recipient that was forgotten on request from every campaign, and says from how many. Its tombstone
// is there already.
func (l *Ledgers) Erase(ctx context.Context, id store.AddressID) (campaigns int, err error) {
	defer store.Wrap(&err, "erasing a recipient of campaigns")
	names := l.db.ZScan(ctx, l.db.Key.Campaigns(), 0, "", scanCount).Iterator()
	for names.Next(ctx) {
		name := names.Val()
		if !names.Next(ctx) { // its score
			break
		}
		more := []string{l.db.Key.Ledger(name, request+uuid.NewString())}
		n, err := l.run(ctx, eraseScript, name, more, string(id[:])).Int()
		if err != nil {
			return campaigns, fmt.Errorf("campaign %s: %w", name, err)
		}
		campaigns += n
	}
	return campaigns, names.Err()
}

// eraseStagedScript empties a recipient's row in a staged upload. Its id stays, and moveScript leaves it out.
//
// KEYS[1] -> usher:{once}:c:NAME:stage:UPLOAD
// KEYS[2] -> usher:{once}:c:NAME:request:TOKEN  there if it was emptied, for a repeated request; NAME is empty
// --
// ARGV[1] -> id
// --
// Returns 1 if it was there.
var eraseStagedScript = redis.NewScript(store.RequestKeep + `
local at = redis.call('LPOS', KEYS[1], ARGV[1])
if at and redis.call('LINDEX', KEYS[1], at + 1) ~= '' then
  redis.call('LSET', KEYS[1], at + 1, '')
  redis.call('SET', KEYS[2], 1, 'PX', request_keep)
end
return redis.call('EXISTS', KEYS[2])
`)

// EraseStaged empties a recipient's row in uploads that are under way or were broken off, and says in how many.
func (l *Ledgers) EraseStaged(ctx context.Context, id store.AddressID) (uploads int, err error) {
	defer store.Wrap(&err, "erasing a recipient of uploads")
	stages, err := store.ScanKeys(ctx, l.db.UniversalClient, l.db.Key.Stage("*", "*"))
	for _, stage := range stages {
		keys := []string{stage, l.db.Key.Ledger("", request+uuid.NewString())}
		n, err := eraseStagedScript.Run(ctx, l.db, keys, string(id[:])).Int()
		if err != nil {
			return uploads, err
		}
		uploads += n
	}
	return uploads, err
}
