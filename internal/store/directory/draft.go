package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store"
)

const (
	// writeChunk is how many rows are written at once: few enough that Redis does not stand still for others.
	writeChunk = 250
	// draftKeep is how long a draft that was broken off is kept.
	draftKeep = 24 * time.Hour
	// readersKeep is how long a copy can be read after another one took its place, so that readers can finish.
	readersKeep = 5 * time.Minute
)

// ErrGone means that a draft is gone: Redis has lost it, or it expired.
var ErrGone = errors.New("the directory's draft is gone")

// Draft is a copy that is being written.
type Draft struct {
	BegunAt time.Time // on Redis's clock

	directory *Directory
	name      string
	rows      bool // it has some
}

// Begin starts a new copy.
func (d *Directory) Begin(ctx context.Context) (_ *Draft, err error) {
	defer store.Wrap(&err, "beginning a copy of the directory")
	now, err := d.db.Time(ctx).Result()
	return &Draft{directory: d, name: layout + uuid.NewString(), BegunAt: now.UTC()}, err
}

// keys are those of its rows, its order, its revoked invitations and its addresses.
func (w *Draft) keys() []string {
	k := w.directory.db.Key
	return []string{k.Copy(w.name), k.CopyOrder(w.name), k.CopyRevoked(w.name), k.CopyAddresses(w.name)}
}

// addScript writes rows into a draft. It is the only way into a copy.
//
// KEYS[1] -> usher:{directory}:copy:NAME          of the draft
// KEYS[2] -> usher:{directory}:copy:NAME:order
// KEYS[3] -> usher:{directory}:copy:NAME:revoked
// KEYS[4] -> usher:{directory}:copy:NAME:addresses
// KEYS[5] -> usher:{directory}:copies
// --
// ARGV[1] -> the draft's name
// ARGV[2] -> when it was begun (ms)
// ARGV[3] -> how long it is kept (s)
// ARGV[4] -> 1 if it has rows already
// ARGV[5], [11] … -> id of each invitation
// ARGV[6], [12] … -> when it was created (ms)
// ARGV[7], [13] … -> 1 if it is revoked
// ARGV[8], [14] … -> its text
// ARGV[9], [15] … -> the bucket of its address
// ARGV[10], [16] … -> its record there, or only the hash in it if the address was forgotten on request
// --
// Returns 1, or 0 if the draft is gone.
var addScript = redis.NewScript(addressesLua + `
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[5], ARGV[2], ARGV[1])
for i = 5, #ARGV, 6 do
	redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 3])
	redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i])
	if ARGV[i + 2] == '1' then redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i]) end
	if #ARGV[i + 5] == record_bytes then
		note_address(KEYS[4], ARGV[i + 4], ARGV[i + 5])
	else
		drop_address(KEYS[4], ARGV[i + 4], ARGV[i + 5])
	end
end
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return 1
`)

// Add writes invitations into the draft; one that is there already is replaced. Of one about an address that was
// forgotten on request only the id, the status and the times are written. The error may be ErrGone.
func (w *Draft) Add(ctx context.Context, invitations []clerkclient.Invitation) (err error) {
	defer store.Wrap(&err, "writing the directory")
	if len(invitations) == 0 {
		return nil
	}
	// Forgetting an address sets its tombstone first and then looks here; one of both sees the other.
	var written []bool
	for {
		forgotten, err := w.directory.forgotten(ctx, invitations)
		if err != nil || slices.Equal(forgotten, written) {
			return err
		}
		for from := 0; from < len(invitations); from += writeChunk {
			to := min(from+writeChunk, len(invitations))
			if err := w.write(ctx, invitations[from:to], forgotten[from:to]); err != nil {
				return err
			}
		}
		written = forgotten
	}
}

func (w *Draft) write(ctx context.Context, invitations []clerkclient.Invitation, forgotten []bool) error {
	args := []any{w.name, w.BegunAt.UnixMilli(), int(draftKeep.Seconds()), w.rows}
	for i, inv := range invitations {
		bucket, record := placeOf(inv.EmailAddress)
		if forgotten[i] {
			inv = anonymous(inv)
		} else {
			record = recordOf(record, inv.CreatedAt)
		}
		text, err := encode(inv)
		if err != nil {
			return fmt.Errorf("encoding invitation %s: %w", inv.ID, err)
		}
		args = append(args, inv.ID, inv.CreatedAt.UnixMilli(), inv.Revoked || inv.Status == "revoked", text, bucket, record)
	}
	there, err := addScript.Run(ctx, w.directory.db, append(w.keys(), w.directory.db.Key.Copies()), args...).Bool()
	if err == nil && !there {
		err = ErrGone
	}
	w.rows = w.rows || err == nil
	return err
}

// Count returns how many invitations the draft has, or how many of them are revoked.
func (w *Draft) Count(ctx context.Context, revoked bool) (count int, err error) {
	defer store.Wrap(&err, "counting the directory's draft")
	key := w.directory.db.Key.CopyOrder(w.name)
	if revoked {
		key = w.directory.db.Key.CopyRevoked(w.name)
	}
	n, err := w.directory.db.ZCard(ctx, key).Result()
	return int(n), err
}

// publishScript makes a draft the copy that counts; the one before can be read for a while yet. A draft that was
// begun before the copy that counts is thrown away. Publishing twice is the same as once.
//
// Keys of other copies are built here and not passed: their names are known only inside; they have the same hash tag.
//
// KEYS[1] -> usher:{directory}:meta
// KEYS[2] -> usher:{directory}:copies
// KEYS[3] -> usher:{directory}:copy:NAME          of the draft
// KEYS[4] -> usher:{directory}:copy:NAME:order
// KEYS[5] -> usher:{directory}:copy:NAME:revoked
// KEYS[6] -> usher:{directory}:copy:NAME:addresses
// --
// ARGV[1] -> the draft's name
// ARGV[2] -> when it was begun (ms)
// ARGV[3] -> 1 if it has rows
// ARGV[4] -> how long the copy before can be read (s)
// ARGV[5] -> what the keys of copies begin with
// ARGV[6] -> how long its addresses are kept (s)
// --
// Returns how many rows it has, -1 if a later one counts, -2 if it is gone.
var publishScript = redis.NewScript(`
local head = redis.call('HMGET', KEYS[1], 'copy', 'synced_at')
local old = head[1]
if old == ARGV[1] then return redis.call('ZCARD', KEYS[4]) end
if (tonumber(head[2] or '') or 0) > tonumber(ARGV[2]) then
	redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
	redis.call('ZREM', KEYS[2], ARGV[1])
	return -1
end
if ARGV[3] == '1' and redis.call('EXISTS', KEYS[4]) == 0 then return -2 end
redis.call('UNLINK', KEYS[5])
redis.call('PERSIST', KEYS[3])
redis.call('PERSIST', KEYS[4])
redis.call('EXPIRE', KEYS[6], ARGV[6])
local count = redis.call('ZCARD', KEYS[4])
redis.call('HSET', KEYS[1], 'copy', ARGV[1], 'synced_at', ARGV[2], 'full_at', ARGV[2], 'count', count)
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
if old then
	redis.call('EXPIRE', ARGV[5] .. old, ARGV[4])
	redis.call('EXPIRE', ARGV[5] .. old .. ':order', ARGV[4])
	redis.call('EXPIRE', ARGV[5] .. old .. ':addresses', ARGV[4])
end
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
	if name ~= ARGV[1] and redis.call('EXISTS', ARGV[5] .. name) == 0 then redis.call('ZREM', KEYS[2], name) end
end
return count
`)

// Publish makes the draft the copy that is read, unless one is that was begun later. It returns how many invitations
// it has, and whether it was published. The error may be ErrGone.
func (w *Draft) Publish(ctx context.Context) (count int, published bool, err error) {
	defer store.Wrap(&err, "publishing the directory")
	d := w.directory
	keys := append([]string{d.db.Key.Directory(), d.db.Key.Copies()}, w.keys()...)
	count, err = publishScript.Run(ctx, d.db, keys,
		w.name, w.BegunAt.UnixMilli(), w.rows, int(readersKeep.Seconds()), d.db.Key.Copy(""),
		int(addressesKeep.Seconds())).Int()
	if count == -2 {
		err = ErrGone
	}
	return max(count, 0), err == nil && count >= 0, err
}

// Discard throws a draft away that will not be published.
func (w *Draft) Discard(ctx context.Context) (err error) {
	defer store.Wrap(&err, "throwing a draft of the directory away")
	_, err = w.directory.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Unlink(ctx, w.keys()...)
		pipe.ZRem(ctx, w.directory.db.Key.Copies(), w.name)
		return nil
	})
	return err
}
