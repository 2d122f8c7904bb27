// Package forecast predicts when campaigns end. It plays, call by call, what the dispatchers of all workers would do
// if nothing failed: with the limits as they are, the invites that wait, and the campaigns that take turns. It takes
// every call to be answered at once, because that takes little time beside a window.
package forecast

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/queues"
	"example.com/usher/ratelimit"
)

// Outlook is what a forecast is made from, as it was when it was read. All its spans count from At.
type Outlook struct {
	At time.Time // on Redis's clock
	// Create, Bulk and Overall are Clerk's limits. Share is the part of Create that campaigns may use together; it
	// is no limit if there is none for creates.
	Create, Share, Bulk, Overall Places
	// Reads is the part of Overall that questions may use.
	Reads Places
	// Reserved means that campaigns may use no place of Create.
	Reserved bool
	// Invites is how many invite tasks wait for a call.
	Invites int
	// Campaigns are those that run or are scheduled, in the order of their first turn.
	Campaigns []Campaign
	// Trouble is why nobody creates an invitation, so that nothing can be predicted; nil if there is no trouble.
	Trouble *Standstill
	// Idle is why nobody does anything: no worker works. Nil if one does. Trouble tells it too, beside what else it is.
	Idle *Standstill
	// Rests are the calls that rest because Clerk serves nobody.
	Rests []policy.Standstill
	// Usages, Interactive and Workers are what the rest was made of.
	Usages      []ratelimit.Usage
	Interactive queues.Waiting
	Workers     []store.Worker
}

// Campaign is a campaign that has calls to make.
type Campaign struct {
	Name      string
	Remaining int           // recipients without an outcome
	InCalls   int           // of those, recipients in a call
	Alone     int           // of those, recipients that need a call of their own
	Done      int           // recipients with an outcome
	Unsure    int           // recipients of whom nobody knows what became of their last call
	Asking    time.Duration // how long it takes to ask Clerk about these; 0 if there are none
	Start     time.Duration // when it starts; negative: when it started
	// Held is why it makes no call although it runs: its recipients are not ready. Nil means that they are.
	// HeldUntil is until when, as far as is known.
	Held      *Standstill
	HeldUntil time.Duration
}

// Forecast is the prediction for a campaign.
type Forecast struct {
	// ETA is when its last recipient has an outcome; zero if nobody can tell.
	ETA time.Time
	// Assumption is what the ETA rests on, or why there is none.
	Assumption string
	// Standstill is why it makes no call at present; nil if it makes some.
	Standstill *Standstill
	// Unsure is how many recipients have an unknown outcome and are asked about.
	Unsure int
}

// Foresee predicts the end of every campaign, by name.
func (o Outlook) Foresee() map[string]Forecast {
	o = o.sane()
	bound := o.Overall.N > 0 || o.Bulk.N > 0 && (o.Create.N > 0 || o.Reserved)
	var runners []*runner
	if bound && o.Trouble == nil {
		runners = o.play()
	}
	forecasts := make(map[string]Forecast, len(o.Campaigns))
	for i, c := range o.Campaigns {
		switch {
		case o.Trouble != nil && c.Start > 0:
			forecasts[c.Name] = Forecast{Assumption: "no ETA: " + o.Trouble.Message}
		case o.Trouble != nil:
			forecasts[c.Name] = Forecast{Assumption: "no ETA: " + o.Trouble.Message, Standstill: o.Trouble}
		case c.Held != nil && c.Held.Reason == PausedQueue:
			forecasts[c.Name] = Forecast{Assumption: "no ETA: " + c.Held.Message, Standstill: c.Held}
		case !bound:
			forecasts[c.Name] = o.unbound(c)
		default:
			forecasts[c.Name] = o.played(c, runners[i], runners)
		}
		f := forecasts[c.Name]
		f.Unsure = c.Unsure
		forecasts[c.Name] = f
	}
	return forecasts
}

// Hypothetical predicts the end of a campaign of n recipients that would start at an instant, or now if that is past.
func (o Outlook) Hypothetical(n int, at time.Time) Forecast {
	const name = "" // no campaign has this name
	campaign := Campaign{Name: name, Remaining: n, Start: max(0, at.Sub(o.At))}
	o.Campaigns = append(slices.Clone(o.Campaigns), campaign)
	return o.Foresee()[name]
}

// most bounds counts, so that sums of them cannot overflow.
const most = 1 << 40

// sane bounds every figure: what Redis holds may be garbage.
func (o Outlook) sane() Outlook {
	count := func(n *int) { *n = min(max(0, *n), most) }
	for _, p := range []*Places{&o.Create, &o.Share, &o.Bulk, &o.Overall} {
		count(&p.N)
		p.Window = bounded(p.Window)
		if p.Window == 0 {
			p.N = 0
		}
		p.Frees = slices.Sorted(slices.Values(p.Frees))
	}
	count(&o.Invites)
	o.Campaigns = slices.Clone(o.Campaigns)
	for i := range o.Campaigns {
		c := &o.Campaigns[i]
		for _, n := range []*int{&c.Remaining, &c.InCalls, &c.Alone, &c.Done, &c.Unsure} {
			count(n)
		}
		c.Asking = bounded(c.Asking)
	}
	return o
}

// played says what the play of a campaign has shown.
func (o Outlook) played(c Campaign, r *runner, all []*runner) Forecast {
	var f Forecast
	start := max(0, r.start)
	switch {
	case r.called && r.first-start > standstill:
		f.Standstill = o.closed(r.first, o.Overall.next(o.Create.next(start)) == start)
	case c.Held != nil:
		held := *c.Held
		if f.Standstill = &held; start > standstill {
			held.Until = o.At.Add(start)
		}
	}
	switch {
	case c.Held != nil && c.Held.Reason != LookUp && c.Asking == 0:
		f.Assumption = "no ETA: " + c.Held.Message
		return f
	case r.left() > 0 && !r.extrapolated:
		f.Assumption = "no ETA: the limits leave it no calls, or its end is more than ten years away"
		return f
	}
	others := 0
	for _, other := range all {
		if other != r && other.end > start && other.start < r.end {
			others++
		}
	}
	f.ETA = o.At.Add(max(r.end, c.Asking))
	f.Assumption = assumption("no more than "+Pace(o.pace()), o.Invites, c.Unsure, others)
	return f
}

// unbound predicts the end of a campaign that no limit bounds, from its pace so far.
func (o Outlook) unbound(c Campaign) Forecast {
	ran := -c.Start
	if ran <= 0 || c.Done <= 0 {
		return Forecast{Assumption: "no ETA: no limit bounds it, and its pace shows only when it has run for a while"}
	}
	rest := float64(ran) / float64(c.Done) * float64(c.Remaining)
	if rest > float64(horizon) {
		return Forecast{Assumption: "no ETA: its end is more than ten years away"}
	}
	pace := Pace(float64(c.Done) / ran.Hours())
	return Forecast{ETA: o.At.Add(time.Duration(rest)), Assumption: assumption(pace, o.Invites, c.Unsure, 0)}
}

// pace is how many recipients of campaigns the limits let through in an hour, after they have been used up for a
// while.
func (o Outlook) pace() float64 {
	perHour := func(p Places) float64 {
		if p.N == 0 {
			return math.Inf(1)
		}
		return float64(p.N) / p.Window.Hours()
	}
	callsOfBulk := 1.0 // with its part of the look-ups
	if o.Bulk.N > 0 {
		callsOfBulk += lookupCalls * policy.BulkSize / float64(policy.LookupSize)
	}
	overall := perHour(o.Overall)
	bulks := min(perHour(o.Bulk), overall/callsOfBulk)
	singles := min(perHour(o.Create), perHour(o.Share), max(0, overall-bulks*callsOfBulk))
	if o.Reserved {
		singles = 0
	}
	return bulks*policy.BulkSize + singles
}

// Pace says how many recipients an hour, or a minute if that is easier to read.
func Pace(perHour float64) string {
	if perHour >= 6000 {
		return fmt.Sprintf("%.0f a minute", math.Round(perHour/60))
	}
	return fmt.Sprintf("%.0f an hour", math.Round(perHour))
}

// ifs are what every ETA rests on.
const ifs = "if nothing fails and nobody else uses the key"

// assumption says what an ETA rests on.
func assumption(pace string, invites, unsure, others int) string {
	var besides []string
	count := func(where string, n int, noun string) {
		if n > 0 {
			besides = append(besides, where+" "+settings.Plural(n, noun))
		}
	}
	count("after", invites, "invite")
	count("after asking about", unsure, "recipient")
	count("beside", others, "other campaign")
	if len(besides) > 0 {
		pace += ", " + strings.Join(besides, " and ")
	}
	return "at " + pace + "; " + ifs
}
