package ratelimit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The most that is read.
const (
	maxLimits = 64     // limits
	maxShares = 64     // shares of one limit
	maxFrees  = 10_000 // used places of one limit or share
)

// Usage says how one limit is used. All instants are on Redis's clock.
type Usage struct {
	Name   string
	N      int // as last announced; 0: switched off
	Window time.Duration
	At     time.Time // when this was read

	Used         int       // places that count, InFlight included
	InFlight     int       // calls whose answer has not arrived
	BlockedUntil time.Time // the end of the limit's rest; zero: it does not rest
	Probing      bool      // the rest is over, and one call goes (or will go) first
	NextFree     time.Time // the earliest instant at which a place can come free; zero: one is free now
	Shares       []ShareUsage
	Frees        []time.Time // only from ReadFrees: when the used places come free, the earliest first, at most 10,000
}

// ShareUsage says how one share of a limit is used.
type ShareUsage struct {
	Name     string
	Max      int // as last asked for
	Used     int
	InFlight int
	Frees    []time.Time // as those of the limit
}

// Announce stores the figures of this process's limits in Redis, so that programs that do not know them can read the
// usage. Each process should announce once, when it starts. The figures stay until the next announcement; if processes
// have different figures, the last one counts.
func (l *Limiter) Announce(ctx context.Context) error {
	keys, args := []string{figuresKey(l.prefix)}, []any{}
	for _, name := range slices.Sorted(maps.Keys(l.limits)) {
		keys = append(keys, stateKey(l.prefix, name))
		args = append(args, name, l.limits[name].N, l.limits[name].Window.Microseconds())
	}
	if err := announceScript.Run(ctx, l.rdb, keys, args...).Err(); err != nil {
		return cmp.Or(ctx.Err(), unavailable("announcing the limits", err))
	}
	return nil
}

// ReadUsage reads the usage of every announced limit, sorted by name. There is none if nothing was announced. It
// changes nothing. If it cannot read something, or finds garbage, it returns [ErrUnavailable].
func ReadUsage(ctx context.Context, rdb redis.UniversalClient, prefix string) ([]Usage, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	limits, err := readFigures(ctx, rdb, prefix)
	if err != nil {
		return nil, cmp.Or(ctx.Err(), unavailable("reading the announced limits", err))
	}
	usages := make([]Usage, len(limits))
	for i, limit := range limits {
		if usages[i], err = readUsage(ctx, rdb, prefix, limit); err != nil {
			return nil, cmp.Or(ctx.Err(), unavailable("reading the usage of "+limit.Name, err))
		}
	}
	return usages, nil
}

func readFigures(ctx context.Context, rdb redis.UniversalClient, prefix string) ([]Limit, error) {
	pairs, err := figuresScript.Run(ctx, rdb, []string{figuresKey(prefix)}, maxLimits).StringSlice()
	if err != nil {
		return nil, err
	}
	var limits []Limit
	for pair := range slices.Chunk(pairs, 2) {
		limit, err := parseFigures(pair)
		if err != nil {
			return nil, fmt.Errorf("garbage in %s: %w", figuresKey(prefix), err)
		}
		limits = append(limits, limit)
	}
	slices.SortFunc(limits, func(a, b Limit) int { return strings.Compare(a.Name, b.Name) })
	return limits, nil
}

func parseFigures(pair []string) (Limit, error) {
	if len(pair) != 2 {
		return Limit{}, errors.New("a field without a value")
	}
	n, w, _ := strings.Cut(pair[1], " ")
	places, err1 := strconv.Atoi(n)
	window, err2 := strconv.ParseInt(w, 10, 64)
	if err := cmp.Or(err1, err2); err != nil {
		return Limit{}, fmt.Errorf("figures %q of limit %q: want two numbers", pair[1], pair[0])
	}
	if window < 0 || window > maxSpan.Microseconds() {
		return Limit{}, fmt.Errorf("window of limit %q is out of range", pair[0])
	}
	limit := Limit{Name: pair[0], N: places, Window: time.Duration(window) * time.Microsecond}
	return limit, limit.check()
}

func readUsage(ctx context.Context, rdb redis.UniversalClient, prefix string, limit Limit) (Usage, error) {
	u := Usage{Name: limit.Name, N: limit.N, Window: limit.Window}
	keys := []string{stateKey(prefix, limit.Name), logKey(prefix, limit.Name)}
	reply, err := usageScript.Run(ctx, rdb, keys, limit.N, limit.Window.Microseconds(), maxShares).Slice()
	if err != nil {
		return u, err
	}
	var v [6]int64
	ok := len(reply) >= len(v) && len(reply)%2 == 0
	for i := 0; ok && i < len(v); i++ {
		v[i], ok = reply[i].(int64)
	}
	if !ok {
		return u, fmt.Errorf("unexpected answer %v", reply)
	}
	u.At = time.UnixMicro(v[0])
	u.Used, u.InFlight, u.Probing = int(v[1]), int(v[2]), v[4] == 1
	if v[3] > v[0] {
		u.BlockedUntil = time.UnixMicro(v[3])
	}
	if v[5] > 0 {
		u.NextFree = time.UnixMicro(v[0] + v[5])
	}
	u.Shares, err = readShares(ctx, rdb, prefix, u, reply[len(v):])
	return u, err
}

// readShares counts what the named shares of a limit hold, at the instant of u.
func readShares(
	ctx context.Context, rdb redis.UniversalClient, prefix string, u Usage, named []any,
) (shares []ShareUsage, err error) {
	if u.N == 0 {
		return nil, nil
	}
	var used, flying []*redis.IntCmd
	pipe := rdb.Pipeline()
	for pair := range slices.Chunk(named, 2) {
		name, ok1 := pair[0].(string)
		most, ok2 := pair[1].(int64)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("unexpected answer %v", named)
		}
		key := shareKey(prefix, u.Name, name)
		shares = append(shares, ShareUsage{Name: name, Max: int(most)})
		used = append(used, pipe.ZCount(ctx, key, after(u.At.Add(-u.Window)), "+inf"))
		flying = append(flying, pipe.ZCount(ctx, key, after(u.At), "+inf"))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i := range shares {
		shares[i].Used, shares[i].InFlight = int(used[i].Val()), int(flying[i].Val())
	}
	slices.SortFunc(shares, func(a, b ShareUsage) int { return strings.Compare(a.Name, b.Name) })
	return shares, nil
}

// after is the lower bound of the entries of a log that are later than t.
func after(t time.Time) string { return fmt.Sprintf("(%d", t.UnixMicro()) }

// ReadFrees is [ReadUsage] and also reads when the places that count come free, for every limit that is switched on
// and each of its shares. The place of a call in flight comes free a window after the reading at the earliest.
func ReadFrees(ctx context.Context, rdb redis.UniversalClient, prefix string) ([]Usage, error) {
	usages, err := ReadUsage(ctx, rdb, prefix)
	if err != nil {
		return nil, err
	}
	var fill []func()
	pipe := rdb.Pipeline()
	read := func(u Usage, share string, frees *[]time.Time) {
		counted := &redis.ZRangeBy{Min: after(u.At.Add(-u.Window)), Max: "+inf", Count: maxFrees}
		log := pipe.ZRangeByScoreWithScores(ctx, shareKey(prefix, u.Name, share), counted)
		fill = append(fill, func() {
			for _, entry := range log.Val() {
				used := min(entry.Score, float64(u.At.UnixMicro())) // the score of a call in flight is its deadline
				*frees = append(*frees, time.UnixMicro(int64(used)).Add(u.Window))
			}
		})
	}
	for i, u := range usages {
		if u.N == 0 {
			continue
		}
		read(u, "", &usages[i].Frees)
		for j, share := range u.Shares {
			read(u, share.Name, &u.Shares[j].Frees)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, cmp.Or(ctx.Err(), unavailable("reading when places come free", err))
	}
	for _, do := range fill {
		do()
	}
	return usages, nil
}
