// Package forecast foretells when campaigns end. It plays what the dispatchers of all workers would do, call by call, with
// the limits as they stand, the invites that wait and the campaigns that take turns, if nothing failed. Clerk is taken to
// answer at once: an answer takes little time beside a window.
package forecast

import (
	"math"
	"slices"
	"time"

	"example.com/usher/internal/policy"
)

// Outlook is what a forecast rests on, as it stood when it was read. All instants are on Redis's clock.
type Outlook struct {
	At time.Time
	// The limits. Share are the single places that campaigns may use together; it has no limit if there is none for creates.
	Create, Share, Bulk, Overall Places
	// Reserved tells that campaigns may use no single place at all.
	Reserved bool
	// Invites is how many invite tasks wait for a call.
	Invites int
	// Campaigns are those that run or are scheduled, in the order of their first turn.
	Campaigns []Campaign
	// Trouble is why no call is made at all, and nothing can be foretold; empty if there is no reason.
	Trouble string
}

// Campaign is one that is to make calls.
type Campaign struct {
	Name      string
	Remaining int       // recipients without an outcome
	InCalls   int       // of those, recipients whose call is under way
	Alone     int       // of those, recipients that need a call of their own
	Done      int       // recipients with an outcome
	Start     time.Time // when it starts; of one that runs, when it started
	// Held is why it makes no call although it may, and HeldUntil until when, as far as is known: its recipients are not ready. Empty if they are.
	Held      string
	HeldUntil time.Time
}

// Forecast is what can be foretold of a campaign.
type Forecast struct {
	// ETA is when its last recipient has its outcome; zero if that cannot be told.
	ETA time.Time
	// Assumption is what the ETA rests on, or why there is none.
	Assumption string
	// NextCall is when it makes its next call, if it stands still until then; Standstill is why.
	NextCall   time.Time
	Standstill string
}

// UsedUp is the standstill of a campaign that waits for a window to open, as most do most of the time.
const UsedUp = "the limits are used up"

// standstill is how long a campaign may wait for its next call before it is said to stand still.
const standstill = time.Second

// Foresee foretells the end of all campaigns, by name.
func (o Outlook) Foresee() map[string]Forecast {
	o = o.sane()
	forecasts := make(map[string]Forecast, len(o.Campaigns))
	if o.Trouble != "" {
		for _, c := range o.Campaigns {
			forecasts[c.Name] = o.troubled(c)
		}
		return forecasts
	}
	if o.unlimited() {
		for _, c := range o.Campaigns {
			forecasts[c.Name] = o.unbound(c)
		}
		return forecasts
	}
	runners := o.play()
	for i, c := range o.Campaigns {
		forecasts[c.Name] = o.foretold(c, runners[i], runners)
	}
	return forecasts
}

// most bounds counts, so that sums of them cannot overflow.
const most = 1 << 40

// sane keeps every figure within reason: what comes from Redis may be garbage.
func (o Outlook) sane() Outlook {
	number := func(n *int) { *n = min(max(0, *n), most) }
	for _, p := range []*Places{&o.Create, &o.Share, &o.Bulk, &o.Overall} {
		number(&p.N)
		p.Window = bounded(p.Window)
		if p.Window == 0 {
			p.N = 0
		}
	}
	number(&o.Invites)
	o.Campaigns = slices.Clone(o.Campaigns)
	for i := range o.Campaigns {
		c := &o.Campaigns[i]
		for _, n := range []*int{&c.Remaining, &c.InCalls, &c.Alone, &c.Done} {
			number(n)
		}
	}
	return o
}

// Hypothetical foretells the end of a campaign of n recipients that would start at an instant, or now if that has passed.
func (o Outlook) Hypothetical(n int, at time.Time) Forecast {
	if at.Before(o.At) {
		at = o.At
	}
	const name = "" // no campaign is called so
	o.Campaigns = append(slices.Clone(o.Campaigns), Campaign{Name: name, Remaining: n, Start: at})
	return o.Foresee()[name]
}

// unlimited tells that no limit bounds how many recipients are sent.
func (o Outlook) unlimited() bool {
	return o.Overall.N == 0 && (o.Bulk.N == 0 || o.Create.N == 0 && !o.Reserved)
}

func (o Outlook) play() []*runner {
	p := &play{
		create: newPlaces(o.Create, o.At), bulks: newPlaces(o.Bulk, o.At), share: newPlaces(o.Share, o.At), overall: newPlaces(o.Overall, o.At),
		looksUp: o.Bulk.N > 0, invites: o.Invites,
	}
	if o.Reserved {
		p.share.n = -1
	}
	runners := make([]*runner, len(o.Campaigns))
	for i, c := range o.Campaigns {
		r := &runner{start: c.Start.Sub(o.At)}
		if c.Held != "" {
			r.start = max(r.start, c.HeldUntil.Sub(o.At))
		}
		left := max(0, c.Remaining-c.InCalls)
		r.alone = min(c.Alone, left)
		r.rides = left - r.alone
		r.end = bounded(r.start) // of those in calls
		if runners[i] = r; left > 0 {
			p.turns = append(p.turns, r)
		}
	}
	p.run()
	return runners
}

// foretold puts into words what came of a campaign in the play.
func (o Outlook) foretold(c Campaign, r *runner, all []*runner) Forecast {
	var f Forecast
	switch start := max(0, r.start); {
	case r.called && r.first-start > standstill:
		f.NextCall, f.Standstill = o.At.Add(r.first), o.whyNot(r.first)
	case c.Held != "":
		f.Standstill = c.Held
		if start > standstill {
			f.NextCall = o.At.Add(start)
		}
	}
	if c.Held == heldRetries {
		f.Assumption = "no ETA: " + c.Held
		return f
	}
	if r.left() > 0 && !r.extrapolated {
		f.Assumption = "no end can be foretold: the limits leave it no calls, or it is more than ten years away"
		return f
	}
	f.ETA = o.At.Add(r.end)
	others := 0
	for _, other := range all {
		if other != r && other.end > max(0, r.start) && other.start < r.end {
			others++
		}
	}
	f.Assumption = assumption("no more than "+Pace(o.pace()), o.Invites, others)
	return f
}

// whyNot says why there is no call before an instant.
func (o Outlook) whyNot(first span) string {
	for _, p := range []Places{o.Create, o.Bulk, o.Overall} {
		if p.BlockedUntil.After(o.At) && p.BlockedUntil.Sub(o.At) <= first {
			return "Clerk has asked for a rest (429)"
		}
	}
	return UsedUp
}

// troubled tells of a campaign while no call is made at all.
func (o Outlook) troubled(c Campaign) Forecast {
	f := Forecast{Assumption: "no ETA: " + o.Trouble}
	if !c.Start.After(o.At) {
		f.Standstill = o.Trouble
	}
	return f
}

// unbound foretells the end of a campaign that no limit bounds, from its pace so far.
func (o Outlook) unbound(c Campaign) Forecast {
	ran := o.At.Sub(c.Start)
	if ran <= 0 || c.Done <= 0 {
		return Forecast{Assumption: "no ETA: no limit bounds it, and its pace shows only when it has run for a while"}
	}
	rest := float64(ran) / float64(c.Done) * float64(max(0, c.Remaining))
	if rest > float64(horizon) {
		return Forecast{Assumption: "no ETA: it is more than ten years away"}
	}
	perHour := float64(c.Done) / ran.Hours()
	return Forecast{ETA: o.At.Add(time.Duration(rest)), Assumption: assumption(Pace(perHour), o.Invites, 0)}
}

// pace is how many recipients of campaigns the limits let through in an hour, when they have been used up for a while.
func (o Outlook) pace() float64 {
	perHour := func(p Places) float64 {
		if p.N == 0 {
			return math.Inf(1)
		}
		return float64(p.N) / p.Window.Hours()
	}
	singles := min(perHour(o.Create), perHour(o.Share))
	if o.Reserved {
		singles = 0
	}
	callsOfBulk := 1.0 // its share of look-ups counted in
	if o.Bulk.N > 0 {
		callsOfBulk += lookupCalls * policy.BulkSize / float64(policy.LookupSize)
	}
	overall := perHour(o.Overall)
	bulks := min(perHour(o.Bulk), overall/callsOfBulk)
	if !math.IsInf(overall, 1) {
		singles = min(singles, max(0, overall-bulks*callsOfBulk))
	}
	return bulks*policy.BulkSize + singles
}
