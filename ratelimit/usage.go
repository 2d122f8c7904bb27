package ratelimit

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
	Since        time.Time // when it was suspended; zero: it is not
	Why          string    // it is suspended
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
	keys, args := []string{figuresKey(l.prefix)}, []any{limitKey(l.prefix, "")}
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
	return readAll(ctx, rdb, prefix, 0)
}

// ReadFrees is [ReadUsage] and also reads when the places that count come free, for every limit that is switched on
// and each of its shares. The place of a call in flight comes free a window after the reading at the earliest.
func ReadFrees(ctx context.Context, rdb redis.UniversalClient, prefix string) ([]Usage, error) {
	return readAll(ctx, rdb, prefix, maxFrees)
}

func readAll(
	ctx context.Context, rdb redis.UniversalClient, prefix string, frees int,
) (usages []Usage, err error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	for after, more := "", true; more; more = after != "" {
		read, err := usageScript.Run(ctx, rdb, []string{figuresKey(prefix)}, limitKey(prefix, ""), maxLimits, maxShares,
			frees, after).StringSlice()
		if err == nil && len(read)%2 == 0 {
			err = fmt.Errorf("unexpected answer of %d values", len(read))
		}
		if err != nil {
			return nil, cmp.Or(ctx.Err(), unavailable("reading the usage of limits", err))
		}
		for i := 1; i < len(read); i += 2 {
			u, err := usageOf(read[i], read[i+1])
			if err != nil {
				return nil, unavailable("reading the usage of "+read[i], err)
			}
			usages = append(usages, u)
		}
		after = read[0]
	}
	return usages, nil
}

// usageOf reads what the script says of a limit.
func usageOf(name, text string) (Usage, error) {
	var read struct {
		N                            int
		Window, Now, NotBefore, Wait int64 `json:",string"`
		Since                        int64 `json:",string"`
		Why                          string
		Probing                      bool
		Logs                         []struct {
			Name                string
			Max, Used, InFlight int
			Frees               []int64
		}
	}
	if err := json.Unmarshal([]byte(text), &read); err != nil || read.Window > maxSpan.Microseconds() {
		return Usage{}, fmt.Errorf("unexpected answer %s: %v", text, err)
	}
	u := Usage{
		Name: name, N: read.N, Window: time.Duration(read.Window) * time.Microsecond,
		At: time.UnixMicro(read.Now), Probing: read.Probing, Why: read.Why,
	}
	if read.Since > 0 {
		u.Since = time.UnixMicro(read.Since)
	}
	if read.NotBefore > read.Now {
		u.BlockedUntil = time.UnixMicro(read.NotBefore)
	}
	if read.Wait > 0 {
		u.NextFree = time.UnixMicro(read.Now + read.Wait)
	}
	for _, log := range read.Logs {
		var frees []time.Time
		for _, span := range log.Frees {
			frees = append(frees, time.UnixMicro(read.Now+span))
		}
		if log.Name == "" {
			u.Used, u.InFlight, u.Frees = log.Used, log.InFlight, frees
			continue
		}
		u.Shares = append(u.Shares, ShareUsage{log.Name, log.Max, log.Used, log.InFlight, frees})
	}
	slices.SortFunc(u.Shares, func(a, b ShareUsage) int { return strings.Compare(a.Name, b.Name) })
	return u, Limit{Name: name, N: u.N, Window: u.Window}.check()
}

// Resume ends the rest of a limit, and tells whether it rested. One call goes first now, the probe. Who waits for a
// suspended limit (see [Permit.Suspend]) notices within seconds, and for another one when it would have ended.
func Resume(ctx context.Context, rdb redis.UniversalClient, prefix, limit string) (bool, error) {
	if err := checkPrefix(prefix); err != nil {
		return false, err
	}
	rested, err := resumeScript.Run(ctx, rdb, []string{stateKey(prefix, limit), toldKey(prefix, rand.Text())}).Bool()
	if err != nil {
		return false, cmp.Or(ctx.Err(), unavailable("resuming "+limit, err))
	}
	return rested, nil
}
