package clerktest

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// window counts the requests of one limit. Times are nanoseconds since 1970. They ascend, because arrivals get their
// time under the sandbox's lock.
type window struct {
	limit Limit
	taken []int64 // arrivals that hold a place
	seen  []int64 // all arrivals of the last window, to be measured
	total int     // places given, ever
	max   int     // most of seen at once
}

// observe measures an arrival, refused or not.
func (w *window) observe(now int64) {
	if w.limit.Window == 0 {
		return
	}
	w.seen = append(after(w.seen, now-int64(w.limit.Window)), now)
	w.max = max(w.max, len(w.seen))
}

// wait is how long until the window has a place; 0 means it has one now.
func (w *window) wait(now int64, fixed bool) time.Duration {
	if w.limit.N == 0 {
		return 0
	}
	length := int64(w.limit.Window)
	if fixed {
		start := now - now%length
		w.taken = after(w.taken, start-1)
		if len(w.taken) < w.limit.N {
			return 0
		}
		return time.Duration(start + length - now)
	}
	w.taken = after(w.taken, now-length)
	if len(w.taken) < w.limit.N {
		return 0
	}
	return time.Duration(w.taken[len(w.taken)-w.limit.N] + length - now)
}

func (w *window) take(now int64) {
	w.total++
	if w.limit.N > 0 {
		w.taken = append(w.taken, now)
	}
}

// set changes the limit. Taken places stay taken; the measurement starts again.
func (w *window) set(l Limit) {
	if w.limit == l {
		return
	}
	w.limit, w.seen, w.max = l, nil, 0
}

// after drops the times up to and including t.
func after(times []int64, t int64) []int64 {
	i, _ := slices.BinarySearch(times, t+1)
	return times[i:]
}

// windowsOf lists the limits that apply to an endpoint.
func (s *Sandbox) windowsOf(e Endpoint) []*window {
	switch {
	case e == Create:
		return []*window{&s.create, &s.overall}
	case e == Bulk && s.cfg.SharedBuckets:
		return []*window{&s.bulk, &s.create, &s.overall}
	case e == Bulk:
		return []*window{&s.bulk, &s.overall}
	default:
		return []*window{&s.overall}
	}
}

// admit takes a place in all windows of the endpoint, or returns how long until it can. The caller holds the lock.
func (s *Sandbox) admit(e Endpoint, at time.Time) (wait time.Duration) {
	now := at.UnixNano()
	windows := s.windowsOf(e)
	var full []*window
	for _, w := range windows {
		if d := w.wait(now, s.cfg.FixedWindow); d > 0 {
			wait, full = max(wait, d), append(full, w)
		}
	}
	if full == nil {
		for _, w := range windows {
			w.take(now)
		}
		return 0
	}
	if s.cfg.RefusedCount {
		for _, w := range full {
			w.taken = append(w.taken, now)
			wait = max(wait, w.wait(now, s.cfg.FixedWindow))
		}
	}
	return wait
}

// throttled is a 429 that asks for a wait.
func throttled(wait time.Duration, now time.Time, style RetryAfter, body ThrottleBody, resetsIn bool) *answer {
	a := &answer{status: http.StatusTooManyRequests}
	seconds := int(math.Ceil(wait.Seconds()))
	switch style {
	case RetrySeconds:
		a.header = map[string]string{"Retry-After": strconv.Itoa(seconds)}
	case RetryDate:
		at := now.Add(wait).UTC()
		if up := at.Truncate(time.Second); up.Before(at) {
			at = up.Add(time.Second)
		}
		a.header = map[string]string{"Retry-After": at.Format(http.TimeFormat)}
	}
	switch body {
	case ThrottleHTML:
		a.raw, a.kind = htmlPage(a.status), "text/html; charset=UTF-8"
	default:
		code := "too_many_requests"
		if body != TooManyRequests {
			code = string(body)
		}
		const long = "Too many requests. Please try again in a bit."
		e := apiError{Code: code, Message: "Too many requests", LongMessage: long}
		if resetsIn {
			e.Meta = map[string]any{"resets_in": seconds}
		}
		a.errors = []apiError{e}
	}
	return a
}

// SetLimits replaces the three limits. Requests that were counted stay counted; the measurement of a limit that
// changed starts again. It panics if a limit is invalid (see [Config.Validate]).
func (s *Sandbox) SetLimits(create, bulk, overall Limit) {
	s.Configure(func(c *Config) { c.Create, c.Bulk, c.Overall = create, bulk, overall })
}
