package ratelimit

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The simulation runs several processes, each with a clock of its own, against one Redis in virtual time. It decides
// when every message leaves and arrives, who dies and when, and plays the server, which counts calls as they arrive.

const µs = time.Microsecond

type simulation struct {
	rt     *rapid.T
	redis  *virtual
	limits []Limit
	hold   time.Duration
	events events
	seq    int
	end    time.Time
	calm   bool // latencies are small against the window, and only deaths waste places

	arrivals []arrival
	grants   []*grant
	gates    map[string]*gate
}

// process is one program: a limiter, a local clock that is off, and someone who always wants permits.
type process struct {
	limiter        *Limiter
	skew           time.Duration
	sent, answered time.Time // what the local clock shows before and after the script that is under way
	scripts        int64     // sent before it
}

type arrival struct {
	at    time.Time
	grant *grant
}

// grant is one permit and what became of it.
type grant struct {
	at, deadline time.Time // when the script ran, and that plus hold
	wants        []Want
	limits       map[string]Limit // as its process has them
	settled      time.Time        // when Done or Refuse ran; zero if never
	released     bool
}

func (g *grant) want(limit string) (Want, bool) {
	i := slices.IndexFunc(g.wants, func(w Want) bool { return w.Limit == limit })
	if i < 0 {
		return Want{}, false
	}
	return g.wants[i], true
}

// gate is what the refusals so far allow.
type gate struct {
	notBefore time.Time // zero: open
	probe     *grant
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (s *simulation) at(when time.Time, do func()) {
	s.seq++
	heap.Push(&s.events, event{when, s.seq, do})
}

func (s *simulation) run() {
	for s.events.Len() > 0 {
		e := heap.Pop(&s.events).(event)
		if e.at.After(s.end) {
			return
		}
		s.redis.advance(e.at.Sub(s.redis.now))
		e.do()
	}
}

func (s *simulation) span(label string, low, high time.Duration) time.Duration {
	return time.Duration(rapid.Int64Range(int64(low/µs), max(int64(low/µs), int64(high/µs))).Draw(s.rt, label)) * µs
}

func (s *simulation) oneIn(n int, label string) bool {
	return rapid.IntRange(0, n-1).Draw(s.rt, label) == n-1
}

// hop is the time a message takes between a process and Redis.
func (s *simulation) hop() time.Duration {
	w := s.shortest()
	if s.calm {
		return s.span("hop", 0, w/400)
	}
	return s.span("hop", 0, min(w/4, s.hold/3))
}

func (s *simulation) shortest() time.Duration {
	w := s.limits[0].Window
	for _, limit := range s.limits {
		w = min(w, limit.Window)
	}
	return w
}

func (s *simulation) process(limits []Limit) *process {
	p := &process{skew: s.span("skew", -time.Hour, time.Hour)}
	l, err := New(s.redis.rdb, "sim", limits...)
	if err != nil {
		s.rt.Fatal(err)
	}
	l.now = func() time.Time {
		if s.redis.sent.scripts.Load() == p.scripts {
			return p.sent
		}
		return p.answered
	}
	p.limiter = l
	return p
}

// ask sends one request to Redis, at the present instant, and goes on for as long as the simulation lasts.
func (s *simulation) ask(p *process, wants []Want) {
	sent := s.redis.now
	there, back := s.hop(), s.hop()
	s.at(sent.Add(there), func() {
		p.sent, p.answered = sent.Add(p.skew), sent.Add(there+back+p.skew)
		p.scripts = s.redis.sent.scripts.Load()
		permit, wait, err := p.limiter.Try(context.Background(), s.hold, wants...)
		if err != nil {
			s.rt.Fatal(err)
		}
		pause := max(wait, µs)
		if permit != nil {
			pause = 0
			g := s.granted(p, wants)
			s.at(s.redis.now.Add(back), func() { s.use(p, permit, g) })
		}
		if !s.calm && s.oneIn(4, "idle") {
			pause += s.span("pause", 0, s.shortest())
		}
		s.at(s.redis.now.Add(back+pause), func() { s.ask(p, wants) })
	})
}

func (s *simulation) granted(p *process, wants []Want) *grant {
	g := &grant{at: s.redis.now, deadline: s.redis.now.Add(s.hold), wants: wants, limits: p.limiter.limits}
	for _, want := range wants {
		gate := s.gates[want.Limit]
		if gate.notBefore.IsZero() {
			continue
		}
		if g.at.Before(gate.notBefore) {
			s.rt.Fatalf("%s: granted at %v, before its not-before %v", want.Limit, g.at, gate.notBefore)
		}
		if gate.probe != nil && g.at.Before(gate.probe.deadline) {
			s.rt.Fatalf("%s: granted at %v while the probe of %v is under way", want.Limit, g.at, gate.probe.at)
		}
		gate.probe = g
	}
	s.grants = append(s.grants, g)
	return g
}

// use is what the holder of a permit does with it.
func (s *simulation) use(p *process, permit *Permit, g *grant) {
	deadline := permit.Deadline().Add(-p.skew) // in true time
	if deadline.After(g.deadline) {
		s.rt.Fatalf("the holder's deadline %v is later than Redis's %v", deadline, g.deadline)
	}
	if s.oneIn(12, "dies before sending") {
		return
	}
	if !s.calm && s.oneIn(6, "gives back") {
		s.at(s.redis.now.Add(s.hop()), func() { s.release(permit, g) })
		return
	}
	latency := s.hold * 6 / 5
	if s.calm {
		latency = s.shortest() / 100
	}
	arrives := earlier(s.redis.now.Add(s.span("to the server", 0, latency)), deadline)
	s.at(arrives, func() { s.arrivals = append(s.arrivals, arrival{s.redis.now, g}) })
	if s.oneIn(12, "dies after sending") {
		return
	}
	answered := earlier(arrives.Add(s.span("from the server", 0, latency)), deadline)
	s.at(answered.Add(s.hop()), func() { s.settle(permit, g) })
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (s *simulation) release(permit *Permit, g *grant) {
	if err := permit.Release(context.Background()); err != nil {
		s.rt.Fatal(err)
	}
	g.released = true
	for _, gate := range s.gates {
		if gate.probe == g {
			gate.probe = nil
		}
	}
}

func (s *simulation) settle(permit *Permit, g *grant) {
	g.settled = s.redis.now
	refused := ""
	var err error
	if !s.calm && s.oneIn(10, "refused") {
		refused = rapid.SampledFrom(g.wants).Draw(s.rt, "by").Limit
		retryAfter := s.span("retry after", 0, 2*s.shortest())
		gate := s.gates[refused]
		if until := s.redis.now.Add(retryAfter); until.After(gate.notBefore) {
			gate.notBefore = until
		}
		gate.probe = nil
		err = permit.Refuse(context.Background(), refused, retryAfter)
	} else {
		err = permit.Done(context.Background())
	}
	if err != nil {
		s.rt.Fatal(err)
	}
	for _, gate := range s.gates {
		if gate.probe == g {
			gate.probe = nil
			if refused == "" {
				gate.notBefore = time.Time{}
			}
		}
	}
}

// check is the server's view: of every limit and share, no window holds more arrivals than allowed.
func (s *simulation) check(limit Limit) {
	var all []time.Time
	shares := map[Want][]time.Time{}
	for _, a := range s.arrivals {
		if want, ok := a.grant.want(limit.Name); ok {
			all = append(all, a.at)
			if want.Share != "" {
				shares[want] = append(shares[want], a.at)
			}
		}
	}
	s.checkWindows(limit.Name, all, limit.N, limit.Window)
	for want, times := range shares {
		s.checkWindows(limit.Name+" share "+want.Share, times, want.Max, limit.Window)
	}
}

func (s *simulation) checkWindows(name string, arrivals []time.Time, n int, window time.Duration) {
	if n == 0 {
		return
	}
	slices.SortFunc(arrivals, time.Time.Compare)
	for i := n; i < len(arrivals); i++ {
		if span := arrivals[i].Sub(arrivals[i-n]); span < window {
			s.rt.Fatalf("%s: %d calls arrived within %v, allowed are %d in %v", name, n+1, span, n, window)
		}
	}
	fixed := map[int64]int{}
	for _, at := range arrivals {
		k := int64(at.Sub(epoch) / window)
		if fixed[k]++; fixed[k] > n {
			s.rt.Fatalf("%s: fixed window %d has %d calls, allowed are %d", name, k, fixed[k], n)
		}
	}
}

// checkOwn is each process's view: when it was granted a call, of the calls granted before fewer than its own N
// arrived, or may yet arrive, later than its own window ago.
func (s *simulation) checkOwn(name string) {
	for i, g := range s.grants {
		limit := g.limits[name]
		if _, ok := g.want(name); !ok || limit.N == 0 {
			continue
		}
		recent := 0
		for _, a := range s.arrivals {
			if _, ok := a.grant.want(name); ok && a.at.After(g.at.Add(-limit.Window)) &&
				slices.Index(s.grants, a.grant) < i {
				recent++
			}
		}
		if recent >= limit.N {
			s.rt.Fatalf("%s: granted while %d earlier calls count, its process allows %d in %v", name, recent,
				limit.N, limit.Window)
		}
	}
}

// efficiency is the part of all places' time, from one instant to the end, that is spent in windows of calls made, or
// lost to the dead.
func (s *simulation) efficiency(limit Limit, from time.Time) float64 {
	var busy time.Duration
	for _, g := range s.grants {
		if _, ok := g.want(limit.Name); !ok {
			continue
		}
		start, end := g.settled, g.settled.Add(limit.Window)
		if g.settled.IsZero() {
			start, end = g.at, g.deadline.Add(limit.Window)
		}
		if start.Before(from) {
			start = from
		}
		busy += max(0, earlier(end, s.end).Sub(start))
	}
	return float64(busy) / float64(s.end.Sub(from)) / float64(limit.N)
}

func newSimulation(rt *rapid.T, v *virtual) *simulation {
	v.reset()
	return &simulation{rt: rt, redis: v, gates: map[string]*gate{}}
}

func TestNoWindowEverHoldsTooMany(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := newSimulation(rt, v)
		for i := range rapid.IntRange(1, 3).Draw(rt, "limits") {
			limit := Limit{Name: fmt.Sprintf("limit-%d", i),
				Window: s.span("window", 2*time.Millisecond, 10*time.Second)}
			limit.N = rapid.IntRange(0, 5).Draw(rt, "N")
			s.limits = append(s.limits, limit)
			s.gates[limit.Name] = &gate{}
		}
		s.hold = s.span("hold", time.Millisecond, 3*s.shortest())
		s.end = epoch.Add(5 * s.shortest())
		for range rapid.IntRange(1, 3).Draw(rt, "processes") {
			p := s.process(s.limits)
			for range rapid.IntRange(1, 2).Draw(rt, "want-sets") {
				wants := s.drawWants()
				s.at(epoch.Add(s.span("start", 0, s.shortest())), func() { s.ask(p, wants) })
			}
		}
		s.run()
		for _, limit := range s.limits {
			s.check(limit)
			s.checkOwn(limit.Name)
		}
	})
}

// drawWants picks some of the limits. A share has the same size for everybody.
func (s *simulation) drawWants() []Want {
	var wants []Want
	for i, limit := range s.limits {
		if i > 0 && s.oneIn(2, "without") {
			continue
		}
		want := Want{Limit: limit.Name}
		if limit.N > 1 && s.oneIn(2, "in share") {
			want.Share, want.Max = "campaigns", limit.N/2
		}
		wants = append(wants, want)
	}
	return wants
}

func TestEachProcessObeysItsOwnFigures(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := newSimulation(rt, v)
		s.gates["calls"] = &gate{}
		var all [][]Limit
		for range 2 {
			limit := Limit{Name: "calls", N: rapid.IntRange(1, 5).Draw(rt, "N"),
				Window: s.span("window", 10*time.Millisecond, 50*time.Millisecond)}
			s.limits = append(s.limits, limit)
			all = append(all, []Limit{limit})
		}
		s.hold = s.span("hold", time.Millisecond, 2*s.shortest())
		s.end = epoch.Add(6 * s.shortest())
		for _, limits := range all {
			p := s.process(limits)
			s.at(epoch, func() {
				if err := p.limiter.Announce(context.Background()); err != nil {
					rt.Fatal(err)
				}
				s.ask(p, []Want{{Limit: "calls"}})
			})
		}
		s.run()
		s.checkOwn("calls")
		widest := slices.MaxFunc(s.limits, func(a, b Limit) int { return a.N - b.N })
		s.check(Limit{Name: "calls", N: widest.N, Window: s.shortest()})
	})
}

func TestAtLeast95PercentOfWhatIsPermitted(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := newSimulation(rt, v)
		s.calm = true
		limit := Limit{Name: "calls", N: rapid.IntRange(1, 5).Draw(rt, "N"),
			Window: s.span("window", 4*time.Millisecond, 10*time.Second)}
		s.limits = []Limit{limit, {Name: "overall", N: 1000, Window: limit.Window}}
		s.gates["calls"], s.gates["overall"] = &gate{}, &gate{}
		s.hold = s.span("hold", limit.Window/10, 2*limit.Window)
		s.end = epoch.Add(5 * limit.Window)
		for range rapid.IntRange(1, 3).Draw(rt, "processes") {
			p := s.process(s.limits)
			s.at(epoch.Add(s.span("start", 0, limit.Window)), func() {
				s.ask(p, []Want{{Limit: "calls"}, {Limit: "overall"}})
			})
			if limit.N > 1 {
				s.at(epoch, func() {
					s.ask(p, []Want{{Limit: "calls", Share: "some", Max: limit.N - 1}, {Limit: "overall"}})
				})
			}
		}
		s.run()
		s.check(limit)
		from := epoch.Add(2 * limit.Window)
		if got := s.efficiency(limit, from); got < 0.95 {
			rt.Fatalf("spent %.1f %% of what is permitted", 100*got)
		}
	})
}
