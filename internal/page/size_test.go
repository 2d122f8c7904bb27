package page

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// limits are those by which the worker of these tests sends.
func (*bundle) limits() policy.Policy {
	return policy.Policy{
		Create: settings.Rate{N: 10, Window: time.Hour}, Bulk: settings.Rate{N: 3, Window: time.Hour},
		Overall: settings.Rate{N: 50, Window: 10 * time.Second}, Reserve: 2, Timeout: time.Minute,
	}
}

// work lets Redis look as a worker leaves it that has limits, and runs.
func (b *bundle) work() *ratelimit.Limiter {
	b.t.Helper()
	p := b.limits()
	limiter, err := ratelimit.New(b.rdb, tasks.DefaultNamespace, p.Limits("k")...)
	testkit.NoError(b.t, err)
	testkit.NoError(b.t, p.Announce(b.t.Context(), b.rdb, tasks.DefaultNamespace))
	testkit.NoError(b.t, limiter.Announce(b.t.Context()))
	b.lives()
	return limiter
}

// lives lets a worker say that it lives.
func (b *bundle) lives() {
	b.t.Helper()
	workers := store.NewWorkers(b.rdb, tasks.DefaultNamespace)
	testkit.NoError(b.t, workers.Announce(b.t.Context(), store.Worker{
		ID: "w", Host: "h", Since: time.Now(), Active: map[string]int{tasks.TypeBulkInvite: 1},
	}))
}

// grow fills Redis: 200 campaigns, each fourth of which is scheduled, and dead letters.
func (b *bundle) grow(letters, million int) {
	b.t.Helper()
	b.work()
	for i := range 200 {
		request := tasks.BulkRequest{Campaign: fmt.Sprintf("c-%d", i)}
		for r := range 30 {
			address := fmt.Sprintf("c%d.p%d@example.com", i, r)
			request.Recipients = append(request.Recipients, tasks.Recipient{EmailAddress: address})
		}
		var opts []tasks.Option
		if i%4 == 0 {
			opts = append(opts, tasks.At(time.Now().Add(24*time.Hour)))
		}
		_, err := b.desk.BulkInvite(b.t.Context(), request, opts...)
		testkit.NoError(b.t, err)
	}
	for begin := 0; begin < million; begin += 100_000 {
		request := tasks.BulkRequest{Campaign: "million"}
		for r := range 100_000 {
			address := fmt.Sprintf("m.recipient.%d@example.com", begin+r)
			request.Recipients = append(request.Recipients, tasks.Recipient{EmailAddress: address})
		}
		_, err := b.desk.BulkInvite(b.t.Context(), request)
		testkit.NoError(b.t, err)
	}
	at := time.Now().Add(-24 * time.Hour)
	for i := range letters {
		code := "not_allowed_access"
		if i%200 == 0 {
			code = "form_identifier_exists"
		}
		died := at.Add(time.Duration(i) * time.Millisecond)
		b.letter(fmt.Sprintf("id%d", i), fmt.Sprintf("p%d@example.com", i), code, "is not allowed", died)
	}
	b.lives()
}

// load is what Redis did.
type load struct {
	commands, inner int // that it was sent, and that it has run, those in scripts too
	took, longest   time.Duration
}

// measured tells what Redis does while something runs.
func (b *bundle) measured(do func()) (l load) {
	b.t.Helper()
	ctx := b.t.Context()
	testkit.NoError(b.t, b.rdb.ConfigSet(ctx, "slowlog-log-slower-than", "0").Err())
	testkit.NoError(b.t, b.rdb.ConfigSet(ctx, "slowlog-max-len", "100000").Err())
	testkit.NoError(b.t, b.rdb.ConfigResetStat(ctx).Err())
	testkit.NoError(b.t, b.rdb.SlowLogReset(ctx).Err())
	do()
	logged := b.rdb.SlowLogGet(ctx, 100_000).Val()
	stats := b.rdb.Info(ctx, "commandstats").Val()
	for _, m := range regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`).FindAllStringSubmatch(stats, -1) {
		if n, _ := strconv.Atoi(m[2]); !strings.HasPrefix(m[1], "slowlog") && !strings.HasPrefix(m[1], "config") {
			l.inner += n
		}
	}
	for _, one := range logged {
		name := strings.ToLower(one.Args[0])
		if name == "config" || name == "slowlog" || strings.HasPrefix(one.ClientAddr, "?") { // a script's
			continue
		}
		l.commands++
		l.took += one.Duration
		l.longest = max(l.longest, one.Duration)
	}
	return l
}

// TestADrawingCostsLittle: of many campaigns and dead letters too. Redis is sent few commands, and none holds it up.
func TestADrawingCostsLittle(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	letters, million := 2000, 0
	if testkit.Long {
		letters, million = 50_000, 1_000_000
	}
	b.grow(letters, million)
	w := b.browser()
	for path, most := range map[string]struct{ commands, inner int }{
		"/": {17, 1600}, "/campaigns": {12, 1500}, "/campaigns?from=150": {13, 1600}, "/campaigns/c-1": {16, 1500},
		"/dead-letters": {5, 60}, "/schedules": {2, 2}, "/dead-letters?code=nosuch": {8, 180},
		"/dead-letters?code=form_identifier_exists": {9, 180}, "/dead-letters/confirm?do=delete": {1, 1},
		"/dead-letters/confirm?do=retry&reason=rejected&code=not_allowed_access": {27, 520},
	} {
		w.get(path) // Redis knows the scripts then
		b.lives()
		l := b.measured(func() { w.get(path).must(t, http.StatusOK) })
		t.Logf("%s: %+v", path, l)
		if l.commands > most.commands || l.inner > most.inner {
			t.Errorf("%s costs %+v, want at most %+v", path, l, most)
		}
		if testkit.Long && l.longest > 10*time.Millisecond {
			t.Errorf("%s stops Redis for %s", path, l.longest)
		}
	}
}

// TestOpenPagesShareWhatTheyRead: what one of them has read a moment ago another one need not read again. A page that
// is loaded reads all anew.
func TestOpenPagesShareWhatTheyRead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.work()
	b.campaign("spring", 3)
	draw := func(path string, shared *forecast.Kept) int64 {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		v := &visit{server: b.server, r: r, ctx: forecast.Keeping(t.Context(), shared), person: person{Access: Operator}}
		testkit.NoError(t, v.enter(Viewer))
		before := b.server.cost.commands.Load()
		if html := v.live(screen{name: "campaigns", load: campaigns}); !strings.Contains(string(html), "spring") {
			t.Errorf("%s", html)
		}
		return b.server.cost.commands.Load() - before
	}
	var shared forecast.Kept
	draw("/campaigns", &forecast.Kept{})
	if alone, again := draw("/campaigns", &shared), draw("/campaigns?from=0", &shared); again > 3 || alone < 10 {
		t.Errorf("alone it costs %d commands, and beside another one %d", alone, again)
	}
}

// TestADearPageKeepsNoOtherWaiting: each page pays with its own share, and all together stay below the bound.
func TestADearPageKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	for _, costs := range [][]int{
		{2000, 16, 15, 12, 12, 12, 5, 5, 2, 2}, {16, 12, 5}, {21, 12, 13, 1, 0, 100, 17}, {7},
	} {
		synctest.Test(t, func(t *testing.T) { drawForTenMinutes(t, costs) })
	}
}

// drawForTenMinutes draws pages that cost some commands each.
func drawForTenMinutes(t *testing.T, costs []int) {
	f := feeds{open: map[string]*feed{}}
	for i := range costs {
		f.open[fmt.Sprint(i)] = &feed{}
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	var spent atomic.Int64
	drawn := make([]int, len(costs))
	var all sync.WaitGroup
	for i, cost := range costs {
		all.Go(func() {
			for f.pay(ctx, cost) == nil {
				spent.Add(int64(cost))
				drawn[i]++
			}
		})
	}
	all.Wait()
	if perSecond := float64(spent.Load()) / 600; perSecond > commandsPerSecond {
		t.Errorf("%v cost %.1f commands a second", costs, perSecond)
	}
	for i, cost := range costs {
		every := max(2.1, float64(cost*len(costs))/commandsPerSecond+0.1)
		if want := int(600 / every); drawn[i] < want {
			t.Errorf("of %v, the page of %d commands is drawn %d times in ten minutes, want %d", costs, cost, drawn[i], want)
		}
	}
}
