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

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// Cursor is a place in the list of dead letters, the newest first: behind the letter of that time and id. The zero
// Cursor is the beginning.
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

// Newest reads at most n dead letters behind a cursor, the newest first, and gives the place behind them: zero if there
// are no more. A letter that cannot be read hides no other; the error, a *store.Partial, names it. It may be ErrCursor.
func (s *Store) Newest(ctx context.Context, from Cursor, n int) (page []Entry, next Cursor, err error) {
	behind, err := s.placeOf(ctx, from)
	if err != nil {
		return nil, Cursor{}, err
	}
	places, err := s.places(ctx, behind, n)
	if err != nil || len(places) == 0 {
		return nil, Cursor{}, err
	}
	ids := make([]string, len(places))
	for i, place := range places {
		ids[i] = place.ID
	}
	found, unreadable, err := s.read(ctx, ids)
	if err != nil {
		return nil, Cursor{}, err
	}
	var partial store.Partial
	for _, id := range ids {
		if e, there := found[id]; there {
			page = append(page, e)
		}
		partial.Add(unreadable[id])
	}
	if len(places) == n {
		last := places[n-1]
		id, err := s.outside(ctx, last.ID)
		if err != nil {
			return nil, Cursor{}, err
		}
		if next, err = s.sealed(ctx, last.At, id); err != nil {
			return nil, Cursor{}, err
		}
	}
	return page, next, partial.With(nil)
}

// Behind gives a function that tells whether a letter comes behind a cursor where the oldest is first, as in Read. The
// error may be ErrCursor.
func (s *Store) Behind(ctx context.Context, from Cursor) (func(Entry) bool, error) {
	place, err := s.placeOf(ctx, from)
	return func(e Entry) bool {
		return cmp.Or(cmp.Compare(e.FailedAt.UnixMilli(), place.At), cmp.Compare(e.Inside(), place.ID)) > 0
	}, err
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

// places gives the places of at most n letters behind a cursor.
func (s *Store) places(ctx context.Context, from place, n int) (places []place, err error) {
	defer store.Wrap(&err, "listing dead letters")
	end := "+inf"
	if from != (place{}) {
		end = strconv.FormatInt(from.At, 10)
	}
	for offset := int64(0); len(places) < n; offset += int64(n) { // letters of one instant may lie before the cursor
		rows, err := s.db.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: s.db.Key.Letters(), Start: end, Stop: "-inf", ByScore: true, Rev: true, Offset: offset, Count: int64(n),
		}).Result()
		if err != nil {
			return nil, err
		}
		for _, z := range rows {
			id, isText := z.Member.(string)
			if !isText {
				return nil, errors.New("an id is no text")
			}
			at := place{int64(z.Score), id}
			if from != (place{}) && at.At == from.At && at.ID >= from.ID || len(places) == n {
				continue
			}
			places = append(places, at)
		}
		if len(rows) < n {
			break
		}
	}
	return places, nil
}
