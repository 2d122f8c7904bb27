package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

const (
	// draftKeep is how long a draft that was broken off is kept.
	draftKeep = 24 * time.Hour
	// readersKeep is how long a copy can be read after another one took its place: whoever has begun shall finish.
	readersKeep = 5 * time.Minute
)

// MaxTail is the most that Tail gives.
const MaxTail = pageRows

// ErrGone means that a draft is there no longer: Redis has lost it, or it was left alone for too long.
var ErrGone = errors.New("the directory's draft is gone")

// Draft is a copy that is being written.
type Draft struct {
	BegunAt time.Time // on Redis's clock

	directory *Directory
	name      string
	rows      bool // it has some
}

// Begin starts a new copy.
func (d *Directory) Begin(ctx context.Context) (*Draft, error) {
	now, err := d.rdb.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("beginning a copy of the directory: %w", err)
	}
	return &Draft{directory: d, name: layout + uuid.NewString(), BegunAt: now.UTC()}, nil
}

// keys are those of its rows and sorted sets.
func (w *Draft) keys() []string {
	d := w.directory
	return []string{d.keys.Copy(w.name), d.keys.CopyOrder(w.name), d.keys.CopyShown(w.name), d.keys.CopyRevoked(w.name)}
}

// addScript writes rows into a draft. It is the only way into a copy.
// KEYS: rows, order, shown, revoked, copies. ARGV: the draft's name, when it was begun (ms), how long it is kept (s), 1 if it has rows already;
// then for each row its id, its creation (ms), 1 if it is revoked, and its text. Returns 1, or 0 if the draft is gone.
var addScript = redis.NewScript(`
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[5], ARGV[2], ARGV[1])
for i = 5, #ARGV, 4 do
	redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 3])
	redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i])
	redis.call('ZADD', KEYS[ARGV[i + 2] == '1' and 4 or 3], ARGV[i + 1], ARGV[i])
end
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return 1
`)

// Add writes invitations into the draft; one that is there already is replaced. Of one about an address that was forgotten on request only the id,
// the status and the times are written. The error may be ErrGone.
func (w *Draft) Add(ctx context.Context, invitations []Invitation) error {
	if len(invitations) == 0 {
		return nil
	}
	forgotten, err := w.directory.forgotten(ctx, invitations)
	for err == nil {
		if err := w.write(ctx, withoutForgotten(invitations, forgotten)); err != nil {
			return err
		}
		// Whoever forgets an address meanwhile sets its tombstone and then looks here; one of both sees the other.
		var now []bool
		if now, err = w.directory.forgotten(ctx, invitations); err == nil && slices.Equal(now, forgotten) {
			return nil
		}
		forgotten = now
	}
	return fmt.Errorf("writing the directory: %w", err)
}

func (w *Draft) write(ctx context.Context, invitations []Invitation) error {
	args := make([]any, 0, 4+4*len(invitations))
	args = append(args, w.name, w.BegunAt.UnixMilli(), int(draftKeep.Seconds()), w.rows)
	for _, inv := range invitations {
		text, err := encode(inv)
		if err != nil {
			return fmt.Errorf("encoding invitation %s: %w", inv.ID, err)
		}
		args = append(args, inv.ID, inv.CreatedAt.UnixMilli(), inv.Revoked || inv.Status == "revoked", text)
	}
	there, err := addScript.Run(ctx, w.directory.rdb, append(w.keys(), w.directory.keys.Copies()), args...).Bool()
	switch {
	case err != nil:
		return fmt.Errorf("writing the directory: %w", err)
	case !there:
		return ErrGone
	}
	w.rows = true
	return nil
}

// final are the statuses that an invitation keeps, as far as is known of Clerk.
var final = []string{"accepted", "revoked", "expired"}

// Keep takes over from a copy, oldest first, what can have changed no more: until an instant, or until the first invitation that
// was still open. It gives the instant before which all was taken over. The error may be ErrReplaced.
func (w *Draft) Keep(ctx context.Context, from Copy, until time.Time) (before time.Time, err error) {
	before = until
	err = from.pages(ctx, w.directory.rdb.ZRange, func(rows []Invitation) (bool, error) {
		open := slices.IndexFunc(rows, func(inv Invitation) bool {
			return !inv.CreatedAt.Before(until) || !slices.Contains(final, inv.Status)
		})
		if open < 0 {
			return true, w.Add(ctx, rows)
		}
		if rows[open].CreatedAt.Before(until) {
			before = rows[open].CreatedAt
		}
		return false, w.Add(ctx, rows[:open])
	})
	return before, err
}

// list is the key of the ids that were seen in one of Clerk's two lists: that of the revoked, or that of all others.
func (w *Draft) list(revoked bool) string {
	if revoked {
		return w.directory.keys.CopyRevoked(w.name)
	}
	return w.directory.keys.CopyShown(w.name)
}

// Count tells how many invitations of one of Clerk's two lists the draft has.
func (w *Draft) Count(ctx context.Context, revoked bool) (int, error) {
	n, err := w.directory.rdb.ZCard(ctx, w.list(revoked)).Result()
	if err != nil {
		return 0, fmt.Errorf("counting the directory's draft: %w", err)
	}
	return int(n), nil
}

// Tail gives the ids of the last invitations of a list that were created before an instant, and how many come before those. They are at least
// as many as asked for, if there are so many, and begin where no other has the same time, so that their place in Clerk's list is certain; at
// most MaxTail are given.
func (w *Draft) Tail(ctx context.Context, revoked bool, before time.Time, atLeast int) (ids []string, offset int, err error) {
	rdb, key := w.directory.rdb, w.list(revoked)
	older := "(" + strconv.FormatInt(before.UnixMilli(), 10)
	last, err := rdb.ZRevRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{Min: "-inf", Max: older, Count: int64(atLeast)}).Result()
	if err != nil || len(last) == 0 {
		return nil, 0, wrapTail(err)
	}
	first := strconv.FormatInt(int64(last[len(last)-1].Score), 10)
	var skipped *redis.IntCmd
	var found *redis.StringSliceCmd
	_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		skipped = pipe.ZCount(ctx, key, "-inf", "("+first)
		found = pipe.ZRangeByScore(ctx, key, &redis.ZRangeBy{Min: first, Max: older, Count: MaxTail})
		return nil
	})
	if err != nil {
		return nil, 0, wrapTail(err)
	}
	return found.Val(), int(skipped.Val()), nil
}

func wrapTail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reading the directory's draft: %w", err)
}

// Statuses counts the draft's invitations by status.
func (w *Draft) Statuses(ctx context.Context) (map[string]int, error) {
	total, err := w.directory.rdb.ZCard(ctx, w.directory.keys.CopyOrder(w.name)).Result()
	if err != nil {
		return nil, fmt.Errorf("counting the directory's draft: %w", err)
	}
	counts := map[string]int{}
	all := Copy{directory: w.directory, name: w.name, count: int(total)}
	err = all.pages(ctx, w.directory.rdb.ZRange, func(rows []Invitation) (bool, error) {
		for _, inv := range rows {
			counts[inv.Status]++
		}
		return true, nil
	})
	return counts, err
}

// publishScript makes a draft the copy that counts; the one before can be read for a while yet. A draft that was begun before the
// copy that counts is thrown away. Publishing twice is as once.
// KEYS: meta, copies, rows, order, shown, revoked. ARGV: the draft's name, when it was begun (ms), when the whole was last read (ms), 1 if it
// has rows, how long the copy before can be read (s), the prefix of copies. Returns how many rows it has, -1 if a later one counts, -2 if it is gone.
// Keys of other copies are built here and not passed: their names are known only inside; they have the same hash tag.
var publishScript = redis.NewScript(`
local head = redis.call('HMGET', KEYS[1], 'copy', 'synced_at')
local old = head[1]
if old == ARGV[1] then return redis.call('ZCARD', KEYS[4]) end
if (tonumber(head[2] or '') or 0) > tonumber(ARGV[2]) then
	redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
	redis.call('ZREM', KEYS[2], ARGV[1])
	return -1
end
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[4]) == 0 then return -2 end
redis.call('UNLINK', KEYS[5], KEYS[6])
redis.call('PERSIST', KEYS[3])
redis.call('PERSIST', KEYS[4])
local count = redis.call('ZCARD', KEYS[4])
redis.call('HSET', KEYS[1], 'copy', ARGV[1], 'synced_at', ARGV[2], 'full_at', ARGV[3], 'count', count)
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
if old then
	redis.call('EXPIRE', ARGV[6] .. old, ARGV[5])
	redis.call('EXPIRE', ARGV[6] .. old .. ':order', ARGV[5])
end
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
	if name ~= ARGV[1] and redis.call('EXISTS', ARGV[6] .. name) == 0 then redis.call('ZREM', KEYS[2], name) end
end
return count
`)

// Publish makes the draft the copy that is read, unless one is that was begun later. It gives how many invitations it has, and whether it
// was published. fullAt is that of Copy. The error may be ErrGone.
func (w *Draft) Publish(ctx context.Context, fullAt time.Time) (count int, published bool, err error) {
	d := w.directory
	keys := append([]string{d.keys.Directory(), d.keys.Copies()}, w.keys()...)
	count, err = publishScript.Run(ctx, d.rdb, keys, w.name, w.BegunAt.UnixMilli(), fullAt.UnixMilli(), w.rows, int(readersKeep.Seconds()), d.keys.Copy("")).Int()
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("publishing the directory: %w", err)
	case count == -2:
		return 0, false, ErrGone
	case count == -1:
		return 0, false, nil
	}
	return count, true, nil
}

// Discard throws a draft away that will not be published.
func (w *Draft) Discard(ctx context.Context) error {
	pipe := w.directory.rdb.TxPipeline()
	pipe.Unlink(ctx, w.keys()...)
	pipe.ZRem(ctx, w.directory.keys.Copies(), w.name)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("throwing a draft of the directory away: %w", err)
	}
	return nil
}
