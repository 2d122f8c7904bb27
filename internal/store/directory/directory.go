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

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store"
)

var (
	// ErrNoCopy means that there is no copy to read; its text says what to do.
	ErrNoCopy = errors.New("the directory was never synced: run enqueue sync-list")
	// ErrReplaced means that another copy took this one's place, long enough ago that this one is gone.
	ErrReplaced = errors.New("the directory was synced again while its copy was read; run the command again")
	// ErrGarbage means that what is in Redis is not what was written.
	ErrGarbage = errors.New("the directory's copy is garbage; run enqueue sync-list")
)

// errEarlier is ErrNoCopy where there is one, in the layout of an earlier version.
const errEarlier = noCopy("the directory was synced by an earlier version of Usher: run enqueue sync-list")

type noCopy string

func (e noCopy) Error() string        { return string(e) }
func (e noCopy) Is(target error) bool { return target == ErrNoCopy }

// pageRows is how many invitations are read of a copy at once.
const pageRows = 500

// Directory is the copy of one namespace.
//
// Its head is the hash "meta": copy is the name of the copy that counts, synced_at that of Copy in Unix
// milliseconds, count the number of its rows. Workers of earlier versions also read full_at, which is the same as
// synced_at. A copy is a hash of rows by id, a sorted set of ids by creation, "order", and an index, "addresses". A
// draft has one more, "revoked". "copies" is a sorted set of the names of all copies and drafts that may exist, by when
// they were begun.
type Directory struct {
	db         store.DB
	tombstones *store.Tombstones
}

// New returns the directory of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Directory {
	return &Directory{store.Open(rdb, namespace), store.NewTombstones(rdb, namespace)}
}

// layout begins the names of copies that this version can read.
const layout = "2-"

// Copy is a copy that was published. It can be read for readersKeep after another one took its place.
type Copy struct {
	SyncedAt time.Time // when it was begun, on Redis's clock

	directory *Directory
	name      string
	count     int
}

// Count is how many invitations the copy has.
func (c Copy) Count() int { return c.count }

// Copy returns the copy that counts. The error is ErrNoCopy if there is none.
func (d *Directory) Copy(ctx context.Context) (Copy, error) {
	meta, err := d.db.HGetAll(ctx, d.db.Key.Directory()).Result()
	switch {
	case err != nil:
		return Copy{}, fmt.Errorf("reading the directory: %w", err)
	case meta["copy"] == "":
		return Copy{}, ErrNoCopy
	case !strings.HasPrefix(meta["copy"], layout):
		return Copy{}, errEarlier
	}
	synced, err1 := strconv.ParseInt(meta["synced_at"], 10, 64)
	count, err2 := strconv.Atoi(meta["count"])
	if errors.Join(err1, err2) != nil {
		return Copy{}, fmt.Errorf("its head cannot be read: %w", ErrGarbage)
	}
	return Copy{SyncedAt: time.UnixMilli(synced).UTC(), directory: d, name: meta["copy"], count: count}, nil
}

// Get returns the invitations with these ids that the copy has, and when the copy was begun: zero if there is none.
func (d *Directory) Get(ctx context.Context, ids []string) (map[string]clerkclient.Invitation, time.Time, error) {
	found := make(map[string]clerkclient.Invitation, len(ids))
	c, err := d.Copy(ctx)
	if errors.Is(err, ErrNoCopy) {
		return found, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	rows, err := c.rows(ctx, ids, Filter{})
	for _, inv := range rows {
		if !forgotten(inv) {
			found[inv.ID] = inv
		}
	}
	return found, c.SyncedAt, err
}

// Filter chooses invitations; empty fields match all.
type Filter struct {
	Status string
	Query  string // a part of the address or id, in any case
}

func (f Filter) matches(inv clerkclient.Invitation) bool {
	if f.Status != "" && inv.Status != f.Status {
		return false
	}
	has := func(text string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(f.Query)) }
	return has(inv.EmailAddress) || has(inv.ID)
}

// mayMatch tells whether a row may match as it is stored. Few do, and to decode all of them takes most of the time of a
// search. JSON writes some characters otherwise, so a query with one of them is found only in what is decoded.
func (f Filter) mayMatch(id, text string) bool {
	query := strings.ToLower(f.Query)
	plain := func(r rune) bool { return r > ' ' && r < 0x7f && !strings.ContainsRune(`<>&"\`, r) }
	if strings.ContainsFunc(query, func(r rune) bool { return !plain(r) }) {
		return true
	}
	return strings.Contains(strings.ToLower(text), query) || strings.Contains(strings.ToLower(id), query)
}

// Each calls do for every invitation that matches, the newest first. It holds a page of them at a time. The error
// may be ErrReplaced, after some were given.
func (c Copy) Each(ctx context.Context, filter Filter, do func(clerkclient.Invitation) error) error {
	_, err := c.From(ctx, 0, c.count, filter, func(_ int, inv clerkclient.Invitation) error { return do(inv) })
	return err
}

// PlaceOf gives the place of the first invitation that is not newer than an instant.
func (c Copy) PlaceOf(ctx context.Context, at time.Time) (int, error) {
	newer := "(" + strconv.FormatInt(at.UnixMilli(), 10)
	place, err := c.directory.db.ZCount(ctx, c.directory.db.Key.CopyOrder(c.name), newer, "+inf").Result()
	store.Wrap(&err, "reading the directory")
	return int(place), err
}

// From is Each for the invitations from a place on, 0 at first, that looks at a number of them at most. do gets the
// place of each, too. It gives how many were looked at.
func (c Copy) From(
	ctx context.Context, from, look int, filter Filter, do func(place int, inv clerkclient.Invitation) error,
) (looked int, err error) {
	d, end := c.directory, min(c.count, from+look)
	for start := from; start < end; start += pageRows {
		ids, err := d.db.ZRevRange(ctx, d.db.Key.CopyOrder(c.name), int64(start), int64(start+pageRows-1)).Result()
		if err != nil {
			return looked, fmt.Errorf("reading the directory: %w", err)
		}
		rows, err := c.rows(ctx, ids, filter)
		switch {
		case err != nil:
			return looked, err
		case len(rows) < min(pageRows, c.count-start):
			return looked, ErrReplaced
		}
		looked += len(rows)
		for i, inv := range rows {
			if forgotten(inv) || !filter.matches(inv) {
				continue
			}
			if err := do(start+i, inv); err != nil {
				return looked, err
			}
		}
	}
	return looked, nil
}

// rows returns the invitations with these ids in their order, without those that the copy does not have. One that
// cannot match is empty.
func (c Copy) rows(ctx context.Context, ids []string, filter Filter) (rows []clerkclient.Invitation, err error) {
	defer store.Wrap(&err, "reading the directory")
	db := c.directory.db
	err = store.EachField(ctx, db, db.Key.Copy(c.name), ids, func(id, text string) error {
		if !filter.mayMatch(id, text) {
			rows = append(rows, clerkclient.Invitation{})
			return nil
		}
		inv, err := decode(id, text)
		rows = append(rows, inv)
		return err
	})
	return rows, err
}

// forgotten tells whether a row is only what remains of an invitation: it counts, because Clerk counts it, but nobody
// is shown it.
func forgotten(inv clerkclient.Invitation) bool { return inv.EmailAddress == "" }

// row is an invitation as it is kept under its id: short names, because there are many.
type row struct {
	Address   string          `json:"a,omitempty"` // none: see forgotten
	Status    string          `json:"s"`
	Revoked   bool            `json:"r,omitempty"`
	Metadata  json.RawMessage `json:"m,omitempty"` // left out when it is {}
	CreatedAt int64           `json:"c"`           // this and the following: Unix milliseconds
	UpdatedAt int64           `json:"u"`
	ExpiresAt int64           `json:"e,omitempty"`
}

const noMetadata = "{}"

func encode(inv clerkclient.Invitation) ([]byte, error) {
	r := row{
		Address: inv.EmailAddress, Status: inv.Status, Revoked: inv.Revoked, Metadata: inv.PublicMetadata,
		CreatedAt: inv.CreatedAt.UnixMilli(), UpdatedAt: inv.UpdatedAt.UnixMilli(),
	}
	if len(r.Metadata) == 0 {
		r.Metadata = json.RawMessage("null")
	} else if string(r.Metadata) == noMetadata {
		r.Metadata = nil
	}
	if !inv.ExpiresAt.IsZero() {
		r.ExpiresAt = inv.ExpiresAt.UnixMilli()
	}
	return json.Marshal(r)
}

func decode(id, text string) (inv clerkclient.Invitation, err error) {
	r := row{Metadata: json.RawMessage(noMetadata)}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return inv, fmt.Errorf("invitation %.80q cannot be read: %w", id, ErrGarbage)
	}
	inv = clerkclient.Invitation{
		ID: id, EmailAddress: r.Address, Status: r.Status, Revoked: r.Revoked, PublicMetadata: r.Metadata,
		CreatedAt: time.UnixMilli(r.CreatedAt).UTC(), UpdatedAt: time.UnixMilli(r.UpdatedAt).UTC(),
	}
	if r.ExpiresAt != 0 {
		inv.ExpiresAt = time.UnixMilli(r.ExpiresAt).UTC()
	}
	return inv, nil
}
