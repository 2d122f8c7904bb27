package deadletter

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"example.com/usher/internal/store"
)

// Cursor is a place in the list of dead letters: behind the letter of that time and id. The zero Cursor is the
// beginning.
type Cursor struct {
	At   int64  // Unix milliseconds
	ID   string // of the letter, outside
	Seal string // tells that it was given by CursorOf
}

// ErrCursor means that a cursor is none that was given. One that anybody could make would tell, bit by bit, between
// which ids inside those of others lie.
var ErrCursor = errors.New("no such place in the list of dead letters was ever given")

// String writes a cursor as ParseCursor reads it.
func (c Cursor) String() string { return strconv.FormatInt(c.At, 10) + ":" + c.Seal + ":" + c.ID }

// ParseCursor reads a cursor. What is none is the beginning.
func ParseCursor(text string) Cursor {
	at, rest, _ := strings.Cut(text, ":")
	seal, id, _ := strings.Cut(rest, ":")
	ms, err := strconv.ParseInt(at, 10, 64)
	if err != nil || ms <= 0 || ms > math.MaxInt32*1000 {
		return Cursor{}
	}
	return Cursor{ms, id, seal}
}

// CursorOf gives the place of a letter that was read.
func (s *Store) CursorOf(ctx context.Context, e Entry) (Cursor, error) {
	return s.sealed(ctx, e.FailedAt.UnixMilli(), e.ID)
}

// sealBytes is how much of a hash seals a cursor.
const sealBytes = 8

func (s *Store) sealed(ctx context.Context, at int64, id string) (Cursor, error) {
	key, err := s.secret.Derive(ctx, "cursors of dead letters")
	mac := hmac.New(sha256.New, key)
	fmt.Fprint(mac, at, " ", id)
	return Cursor{at, id, hex.EncodeToString(mac.Sum(nil)[:sealBytes])}, err
}

// Page is some dead letters.
type Page struct {
	Letters []Entry
	Looked  int    // so many were looked at
	Next    Cursor // the place behind them; zero if there are no more
}

// pageSlices is how many scripts look for letters, and Looks how many letters they look at, at most.
const (
	pageSlices = 5
	Looks      = pageSlices * siftLooks
)

// Newest reads at most n of the dead letters behind a cursor that a filter chooses, the newest first. It looks at
// Looks of them at most. A letter that cannot be read hides no other; the error, a *store.Partial, names it. It may be
// ErrCursor.
func (s *Store) Newest(ctx context.Context, f Filter, from Cursor, n int) (Page, error) {
	return s.page(ctx, sieve{Filter: f, newest: true, looks: siftLooks}, from, n)
}

// Oldest is Newest with the oldest first.
func (s *Store) Oldest(ctx context.Context, f Filter, from Cursor, n int) (Page, error) {
	return s.page(ctx, sieve{Filter: f, looks: siftLooks}, from, n)
}

func (s *Store) page(ctx context.Context, by sieve, from Cursor, n int) (page Page, err error) {
	if by.from, err = s.placeOf(ctx, from); err != nil {
		return page, err
	}
	var ids []string
	more := true
	for slice := 0; more && slice < pageSlices && len(ids) < n; slice++ {
		by.most = min(n-len(ids), siftMost)
		found, err := s.sift(ctx, by)
		if err != nil {
			return page, err
		}
		ids, by.from, page.Looked = append(ids, found.likely...), found.next, page.Looked+found.looked
		more = by.from != (place{})
	}
	found, unreadable, err := s.read(ctx, ids)
	if err != nil {
		return page, err
	}
	var partial store.Partial
	for _, id := range ids {
		if e, there := found[id]; there && by.Matches(e) {
			page.Letters = append(page.Letters, e)
		}
		partial.Add(unreadable[id])
	}
	if more {
		id, err := s.outside(ctx, by.from.ID)
		if err != nil {
			return page, err
		}
		if page.Next, err = s.sealed(ctx, by.from.At, id); err != nil {
			return page, err
		}
	}
	return page, partial.With(nil)
}

// placeOf gives the place in Redis's order that a cursor means: letters of one instant are in the order of their ids
// inside.
func (s *Store) placeOf(ctx context.Context, c Cursor) (place, error) {
	if c == (Cursor{}) {
		return place{}, nil
	}
	if given, err := s.sealed(ctx, c.At, c.ID); err != nil || !hmac.Equal([]byte(given.Seal), []byte(c.Seal)) {
		return place{}, cmp.Or(err, ErrCursor)
	}
	ids, err := s.inside(ctx, c.ID)
	return place{c.At, ids[0]}, err
}

// place is a place in Redis's order.
type place struct {
	At int64  // Unix milliseconds
	ID string // of the letter, inside
}
