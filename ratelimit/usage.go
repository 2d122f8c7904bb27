package ratelimit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	maxLimits = 64     // that ReadUsage reads
	maxShares = 64     // of one limit, that ReadUsage reads
	maxFrees  = 10_000 // of one limit or share, that ReadFrees reads
)

// Usage is the standing of one limit. All instants are on Redis's clock.
type Usage struct {
	Name   string
	N      int // as last announced; 0: switched off
	Window time.Duration
	At     time.Time // when this was read

	Used         int       // places that count, InFlight included
	InFlight     int       // calls whose answer has not arrived
	BlockedUntil time.Time // nobody is granted before; zero: nothing to wait for
	Probing      bool      // the not-before is over, and one call goes (or will go) first
	NextFree     time.Time // the earliest instant at which a place can come free; zero: one is free now
	Shares       []ShareUsage
}

// ShareUsage is the standing of one share of a limit.
type ShareUsage struct {
	Name     string
	Max      int // as last asked for
	Used     int
	InFlight int
}

// Announce stores the figures of this process's limits in Redis, so that programs that do not know them can read the
// usage. When processes with different figures announce, the last one is believed. The
// figures stay until they are announced anew; each process should announce once, at its start.
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

// ReadUsage reads the standing of every announced limit, sorted by name; none if nothing was announced. It changes
// nothing. What it cannot read, garbage included, is an [ErrUnavailable].
func ReadUsage(ctx context.Context, rdb redis.UniversalClient, prefix string) ([]Usage, error) {
	if !prefixRule.MatchString(prefix) {
		return nil, fmt.Errorf("ratelimit: prefix %q: want 1 to 128 letters, digits, '.', '_', ':' or '-'", prefix)
	}
	limits, err := readFigures(ctx, rdb, prefix)
	if err != nil {
		return nil, cmp.Or(ctx.Err(), unavailable("reading the announced limits", err))
	}
	usages := make([]Usage, 0, len(limits))
	for _, limit := range limits {
		u, err := readUsage(ctx, rdb, prefix, limit)
		if err != nil {
			return nil, cmp.Or(ctx.Err(), unavailable("reading the usage of "+limit.Name, err))
		}
		usages = append(usages, u)
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
		return Limit{}, fmt.Errorf("a field without a value")
	}
	n, w, _ := strings.Cut(pair[1], " ")
	places, err1 := strconv.Atoi(n)
	window, err2 := strconv.ParseInt(w, 10, 64)
	if err1 != nil || err2 != nil {
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
	const head = 6
	if len(reply) < head || len(reply)%2 != 0 {
		return u, fmt.Errorf("unexpected answer %v", reply)
	}
	var v [head]int64
	for i := range v {
		n, ok := reply[i].(int64)
		if !ok {
			return u, fmt.Errorf("unexpected answer %v", reply)
		}
		v[i] = n
	}
	u.At = time.UnixMicro(v[0])
	u.Used, u.InFlight, u.Probing = int(v[1]), int(v[2]), v[4] == 1
	if v[3] > v[0] {
		u.BlockedUntil = time.UnixMicro(v[3])
	}
	if v[5] > 0 {
		u.NextFree = time.UnixMicro(v[0] + v[5])
	}
	u.Shares, err = readShares(ctx, rdb, prefix, u, reply[head:])
	return u, err
}

// readShares counts the entries of the shares that the state of a limit names, at the instant of u.
func readShares(ctx context.Context, rdb redis.UniversalClient, prefix string, u Usage, named []any) ([]ShareUsage, error) {
	if len(named) == 0 || u.N == 0 {
		return nil, nil
	}
	after := func(t time.Time) string { return fmt.Sprintf("(%d", t.UnixMicro()) }
	var shares []ShareUsage
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

// Frees tells when the used places of a limit, or of a share of one, come free again.
type Frees struct {
	Limit string
	Share string      // empty for the whole limit
	At    []time.Time // the earliest first, 10,000 at most
}

// ReadFrees tells when the places come free that [ReadUsage] counted, for every limit that is switched on and each of its shares. Of a
// call in flight it says a window after the reading, which is the earliest. It changes nothing in Redis.
func ReadFrees(ctx context.Context, rdb redis.UniversalClient, prefix string, usages []Usage) ([]Frees, error) {
	type reading struct {
		usage Usage
		frees Frees
		log   *redis.ZSliceCmd
	}
	var readings []reading
	pipe := rdb.Pipeline()
	read := func(u Usage, share, key string) {
		from := fmt.Sprintf("(%d", u.At.Add(-u.Window).UnixMicro())
		log := pipe.ZRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{Min: from, Max: "+inf", Count: maxFrees})
		readings = append(readings, reading{u, Frees{Limit: u.Name, Share: share}, log})
	}
	for _, u := range usages {
		if u.N == 0 {
			continue
		}
		read(u, "", logKey(prefix, u.Name))
		for _, share := range u.Shares {
			read(u, share.Name, shareKey(prefix, u.Name, share.Name))
		}
	}
	if len(readings) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, cmp.Or(ctx.Err(), unavailable("reading when places come free", err))
	}
	all := make([]Frees, 0, len(readings))
	for _, r := range readings {
		for _, entry := range r.log.Val() {
			used := min(entry.Score, float64(r.usage.At.UnixMicro())) // of a call in flight it is the deadline
			r.frees.At = append(r.frees.At, time.UnixMicro(int64(used)).Add(r.usage.Window))
		}
		all = append(all, r.frees)
	}
	return all, nil
}
