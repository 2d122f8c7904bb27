// Package directory keeps the synced copy of Clerk's list of invitations. A new copy is written beside the old one and
// takes its place only when it is complete.
package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// draftKeep is how long a copy that was broken off is kept.
const draftKeep = 24 * time.Hour

// Invitation is an invitation as Clerk last showed it, without its ticket.
type Invitation struct {
	ID             string          `json:"id"`
	EmailAddress   string          `json:"email_address"`
	Status         string          `json:"status"` // pending, accepted, revoked or expired
	Revoked        bool            `json:"revoked"`
	PublicMetadata json.RawMessage `json:"public_metadata"`
	CreatedAt      time.Time       `json:"created_at"`
	UpdatedAt      time.Time       `json:"updated_at"`
	ExpiresAt      *time.Time      `json:"expires_at"`
}

// Directory is the copy of one namespace.
type Directory struct {
	rdb    redis.UniversalClient
	prefix string // with a hash tag, so that one script may touch all keys
}

// New gives the directory of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Directory {
	return &Directory{rdb: rdb, prefix: namespace + ":{directory}:"}
}

func (d *Directory) metaKey() string            { return d.prefix + "meta" }
func (d *Directory) copyKey(copy string) string { return d.prefix + "copy:" + copy }

// Draft is a copy that is being written.
type Draft struct {
	directory *Directory
	name      string
	startedAt time.Time
}

// Begin starts a new copy.
func (d *Directory) Begin() *Draft {
	return &Draft{directory: d, name: uuid.NewString(), startedAt: time.Now().UTC()}
}

// Add writes invitations into the draft; one that is there already is replaced.
func (w *Draft) Add(ctx context.Context, invitations []Invitation) error {
	if len(invitations) == 0 {
		return nil
	}
	values := make([]any, 0, 2*len(invitations))
	for _, inv := range invitations {
		data, err := json.Marshal(inv)
		if err != nil {
			return fmt.Errorf("encoding invitation %s: %w", inv.ID, err)
		}
		values = append(values, inv.ID, data)
	}
	key := w.directory.copyKey(w.name)
	pipe := w.directory.rdb.Pipeline()
	pipe.HSet(ctx, key, values...)
	pipe.Expire(ctx, key, draftKeep)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("writing the directory: %w", err)
	}
	return nil
}

// publishScript makes a draft the copy that counts and removes the one before.
// KEYS: meta, the draft. ARGV: the draft's name, when it was begun (ms), prefix of copies. Returns how many it holds.
// The old copy's key is built here and not passed: its name is known only inside; it has the same hash tag.
var publishScript = redis.NewScript(`
local old = redis.call('HGET', KEYS[1], 'copy')
redis.call('PERSIST', KEYS[2])
local count = redis.call('HLEN', KEYS[2])
redis.call('HSET', KEYS[1], 'copy', ARGV[1], 'synced_at', ARGV[2], 'count', count)
if old and old ~= ARGV[1] then redis.call('UNLINK', ARGV[3] .. old) end
return count
`)

// Publish makes the draft the copy that is read and gives how many invitations it holds.
func (w *Draft) Publish(ctx context.Context) (int, error) {
	d := w.directory
	keys := []string{d.metaKey(), d.copyKey(w.name)}
	count, err := publishScript.Run(ctx, d.rdb, keys, w.name, w.startedAt.UnixMilli(), d.copyKey("")).Int()
	if err != nil {
		return 0, fmt.Errorf("publishing the directory: %w", err)
	}
	return count, nil
}

// Filter chooses invitations; empty fields match all.
type Filter struct {
	Status string
	Query  string // a part of the address or id, in any case
}

func (f Filter) matches(inv Invitation) bool {
	if f.Status != "" && inv.Status != f.Status {
		return false
	}
	query := strings.ToLower(f.Query)
	return strings.Contains(strings.ToLower(inv.EmailAddress), query) || strings.Contains(strings.ToLower(inv.ID), query)
}

// scanCount is how many invitations are asked for at a time.
const scanCount = 500

// Each calls do for every invitation that matches, in no order, and gives when the copy was begun: zero if there is none.
func (d *Directory) Each(ctx context.Context, filter Filter, do func(Invitation) error) (syncedAt time.Time, err error) {
	meta, err := d.rdb.HGetAll(ctx, d.metaKey()).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the directory: %w", err)
	}
	if meta["copy"] == "" {
		return time.Time{}, nil
	}
	ms, err := strconv.ParseInt(meta["synced_at"], 10, 64)
	if err != nil {
		return time.Time{}, errors.New("the directory's head is garbage; run sync-list again")
	}
	syncedAt = time.UnixMilli(ms).UTC()
	seen := make(map[string]bool) // HSCAN may give one twice
	for cursor := uint64(0); ; {
		flat, next, err := d.rdb.HScan(ctx, d.copyKey(meta["copy"]), cursor, "", scanCount).Result()
		if err != nil {
			return syncedAt, fmt.Errorf("reading the directory: %w", err)
		}
		for i := 0; i+1 < len(flat); i += 2 {
			if seen[flat[i]] {
				continue
			}
			seen[flat[i]] = true
			var inv Invitation
			if err := json.Unmarshal([]byte(flat[i+1]), &inv); err != nil {
				return syncedAt, fmt.Errorf("the directory's copy of invitation %q is garbage; run sync-list again", flat[i])
			}
			if !filter.matches(inv) {
				continue
			}
			if err := do(inv); err != nil {
				return syncedAt, err
			}
		}
		if cursor = next; cursor == 0 {
			return syncedAt, nil
		}
	}
}

// Get gives the invitations with these ids, as far as the copy has them, and when the copy was begun: zero if there is none.
func (d *Directory) Get(ctx context.Context, ids []string) (found map[string]Invitation, syncedAt time.Time, err error) {
	found = make(map[string]Invitation, len(ids))
	meta, err := d.rdb.HGetAll(ctx, d.metaKey()).Result()
	if err != nil || meta["copy"] == "" || len(ids) == 0 {
		return found, time.Time{}, err
	}
	ms, err := strconv.ParseInt(meta["synced_at"], 10, 64)
	if err != nil {
		return nil, time.Time{}, errors.New("the directory's head is garbage; run sync-list again")
	}
	rows, err := d.rdb.HMGet(ctx, d.copyKey(meta["copy"]), ids...).Result()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the directory: %w", err)
	}
	for i, row := range rows {
		text, ok := row.(string)
		if !ok {
			continue
		}
		var inv Invitation
		if err := json.Unmarshal([]byte(text), &inv); err != nil {
			return nil, time.Time{}, fmt.Errorf("the directory's copy of invitation %q is garbage; run sync-list again", ids[i])
		}
		found[ids[i]] = inv
	}
	return found, time.UnixMilli(ms).UTC(), nil
}
