package ratelimit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrUnavailable means that Redis could not be asked, or that its answer makes no sense. No permit was given. The
// caller decides whether to try again.
var ErrUnavailable = errors.New("ratelimit: redis cannot answer")

const (
	// maxSpan bounds every duration, so that sums of them are exact in Lua's numbers (2^53 µs are 285 years).
	maxSpan = 366 * 24 * time.Hour

	// maxPlaces bounds N. Each place is an entry in Redis.
	maxPlaces = 1_000_000_000

	// scriptTimeout bounds one script, retries of the client included. The limiter waits for a script that was sent
	// even if the caller has left, because only the answer tells whether a place must be given back.
	scriptTimeout = 5 * time.Second

	// minSleep keeps a waiter from asking in a tight loop when its instant is a rounding error away.
	minSleep = time.Millisecond
)

var (
	nameRule   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	prefixRule = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`) // no braces: they would move the hash tag
)

// Limit allows N calls in any window. If N is zero the limit is switched off: it counts nothing and bounds nothing,
// but the rest after a refused call (see [Permit.Refuse]) still holds for everybody.
type Limit struct {
	Name   string        // letters, digits, '.', '_', '-'; at most 64
	N      int           // calls
	Window time.Duration // at least a microsecond, which is the resolution, and at most 366 days
}

// Want names one limit that a call needs a place in.
type Want struct {
	Limit string
	// Share makes the call one of a group, if it is not empty. The calls of a group together hold at most Max places
	// of the limit in any window, calls in flight included. The other places are for calls outside the group.
	Share string
	Max   int // 1 to the limit's N; only with a Share
}

// Limiter gives permits. It shares its limits with every other Limiter that has the same Redis and prefix.
// All methods may be called from any number of goroutines.
type Limiter struct {
	rdb    redis.UniversalClient
	prefix string
	limits map[string]Limit
	now    func() time.Time

	mu        sync.Mutex
	queues    map[string]*queue  // by request.queue
	successes map[string]*shared // by request.queue and the limit that they are about
}

// New returns a limiter. The prefix separates sets of limits on one Redis. Each process obeys its own figures over the
// shared log, so processes with different figures can run side by side.
func New(rdb redis.UniversalClient, prefix string, limits ...Limit) (*Limiter, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	l := &Limiter{
		rdb: rdb, prefix: prefix, limits: map[string]Limit{}, now: time.Now,
		queues: map[string]*queue{}, successes: map[string]*shared{},
	}
	for _, limit := range limits {
		if err := limit.check(); err != nil {
			return nil, err
		}
		if _, twice := l.limits[limit.Name]; twice {
			return nil, fmt.Errorf("ratelimit: limit %s is given twice", limit.Name)
		}
		l.limits[limit.Name] = limit
	}
	return l, nil
}

func checkPrefix(prefix string) error {
	if !prefixRule.MatchString(prefix) {
		return fmt.Errorf("ratelimit: prefix %q: want 1 to 128 letters, digits, '.', '_', ':' or '-'", prefix)
	}
	return nil
}

func (limit Limit) check() error {
	switch {
	case !nameRule.MatchString(limit.Name):
		return fmt.Errorf("ratelimit: limit name %q: want 1 to 64 letters, digits, '.', '_' or '-'", limit.Name)
	case limit.N < 0 || limit.N > maxPlaces:
		return fmt.Errorf("ratelimit: limit %s: N is %d, want 0 (switched off) to %d", limit.Name, limit.N, maxPlaces)
	case limit.Window < 0 || limit.Window > maxSpan:
		return fmt.Errorf("ratelimit: limit %s: window is %v, want at most %v", limit.Name, limit.Window, maxSpan)
	case limit.N > 0 && limit.Window < time.Microsecond:
		return fmt.Errorf("ratelimit: limit %s: window is %v, want at least a microsecond", limit.Name, limit.Window)
	}
	return nil
}

// request is a checked set of wants, with the keys and arguments that every script takes of it.
type request struct {
	hold    time.Duration
	queue   string   // equal for equal sets of wants
	names   []string // of the limits, sorted
	keys    []string // three per want: state, log, log of the share (the log again if there is none)
	args    []any    // four per want: N, window in µs, share, max
	counted bool     // at least one of the limits is switched on
}

func (l *Limiter) request(hold time.Duration, wants []Want) (*request, error) {
	if hold < time.Microsecond || hold > maxSpan {
		return nil, fmt.Errorf("ratelimit: hold is %v, want a microsecond to %v", hold, maxSpan)
	}
	if len(wants) == 0 {
		return nil, errors.New("ratelimit: no limit wanted: name at least one")
	}
	wants = slices.SortedFunc(slices.Values(wants), func(a, b Want) int { return cmp.Compare(a.Limit, b.Limit) })
	r := &request{hold: hold, queue: fmt.Sprint(wants)}
	for _, want := range wants {
		limit, err := l.checkWant(want)
		if err != nil {
			return nil, err
		}
		if slices.Contains(r.names, want.Limit) {
			return nil, fmt.Errorf("ratelimit: limit %s is wanted twice by one call", want.Limit)
		}
		r.names = append(r.names, want.Limit)
		r.keys = append(r.keys, stateKey(l.prefix, want.Limit), logKey(l.prefix, want.Limit),
			shareKey(l.prefix, want.Limit, want.Share))
		r.args = append(r.args, limit.N, limit.Window.Microseconds(), want.Share, want.Max)
		r.counted = r.counted || limit.N > 0
	}
	return r, nil
}

func (l *Limiter) checkWant(want Want) (Limit, error) {
	limit, ok := l.limits[want.Limit]
	switch {
	case !ok:
		return limit, fmt.Errorf("ratelimit: no limit is called %q; there are: %s", want.Limit,
			strings.Join(slices.Sorted(maps.Keys(l.limits)), ", "))
	case want.Share == "" && want.Max != 0:
		return limit, fmt.Errorf("ratelimit: limit %s: Max is %d but no Share is named", want.Limit, want.Max)
	case want.Share != "" && !nameRule.MatchString(want.Share):
		return limit, fmt.Errorf("ratelimit: limit %s: share %q: want 1 to 64 letters, digits, '.', '_' or '-'",
			want.Limit, want.Share)
	case want.Share != "" && limit.N > 0 && (want.Max < 1 || want.Max > limit.N):
		return limit, fmt.Errorf("ratelimit: limit %s: share %s may hold %d places, want 1 to %d",
			want.Limit, want.Share, want.Max, limit.N)
	}
	return limit, nil
}

// Every key carries the hash tag {limits}, so that in a cluster one script reaches all of them.

func figuresKey(prefix string) string      { return limitKey(prefix, "figures") }
func limitKey(prefix, limit string) string { return prefix + ":{limits}:" + limit }
func stateKey(prefix, limit string) string { return limitKey(prefix, limit) + ":state" }
func toldKey(prefix, id string) string     { return limitKey(prefix, "told:") + id }
func logKey(prefix, limit string) string   { return limitKey(prefix, limit) + ":log" }

// shareKey is the log of a share, or that of the limit if the share is empty.
func shareKey(prefix, limit, share string) string {
	if share == "" {
		return logKey(prefix, limit)
	}
	return sharesKey(prefix, limit) + share
}

// sharesKey is what the keys of the logs of a limit's shares begin with.
func sharesKey(prefix, limit string) string { return limitKey(prefix, limit) + ":share:" }

// run runs a script to its end, even if ctx is cancelled meanwhile.
func run(ctx context.Context, rdb redis.UniversalClient, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scriptTimeout)
	defer cancel()
	return script.Run(ctx, rdb, keys, args...)
}

// unavailable does not wrap the cause: our own timeout must not look like one of the caller's context.
func unavailable(doing string, cause error) error {
	return fmt.Errorf("%w: %s: %v", ErrUnavailable, doing, cause)
}
