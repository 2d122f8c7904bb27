package forecast

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// now is when every outlook of these tests was read.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return now.Add(d) }

// used are n places that come free at one instant.
func used(n int, at time.Duration) []time.Duration { return slices.Repeat([]time.Duration{at}, n) }

// hourly are Clerk's limits with the default reserve, unused.
func hourly(campaigns ...Campaign) Outlook {
	return Outlook{
		At: now, Create: Places{N: 100, Window: time.Hour}, Share: Places{N: 80, Window: time.Hour},
		Bulk:    Places{N: 25, Window: time.Hour},
		Overall: Places{N: 50, Window: 10 * time.Second}, Campaigns: campaigns,
	}
}

// short are limits of 70 recipients in 4 s, without a reserve.
func short(campaigns ...Campaign) Outlook {
	return Outlook{
		At: now, Create: Places{N: 20, Window: 4 * time.Second}, Share: Places{N: 20, Window: 4 * time.Second},
		Bulk:      Places{N: 5, Window: 4 * time.Second},
		Campaigns: campaigns,
	}
}

func running(name string, n int) Campaign { return Campaign{Name: name, Remaining: n} }

func with(o Outlook, change func(*Outlook)) Outlook {
	change(&o)
	return o
}

func TestTheEndIsForetold(t *testing.T) {
	t.Parallel()
	const never = -1
	for name, c := range map[string]struct {
		outlook Outlook
		want    map[string]time.Duration
	}{
		"one call":               {short(running("c", 10)), map[string]time.Duration{"c": 0}},
		"one window":             {short(running("c", 70)), map[string]time.Duration{"c": 0}},
		"one more than a window": {short(running("c", 71)), map[string]time.Duration{"c": 4 * time.Second}},
		"1,390 in 20 windows": {short(running("c", 1390)),
			map[string]time.Duration{"c": 19 * 4 * time.Second}},
		"1,401 in 21 windows": {short(running("c", 1401)),
			map[string]time.Duration{"c": 20 * 4 * time.Second}},
		"350 an hour, 20 of them reserved": {hourly(running("c", 331)), map[string]time.Duration{"c": time.Hour}},
		// The overall limit binds: 105 calls, and 4 for look-ups.
		"all that the reserve leaves": {hourly(running("c", 330)), map[string]time.Duration{"c": 20 * time.Second}},
		"look-ups take places of the overall limit": {
			// 105 calls would have room in two windows
			with(hourly(running("c", 330)), func(o *Outlook) { o.Overall.N = 53 }),
			map[string]time.Duration{"c": 20 * time.Second},
		},
		"the windows are used up": {
			with(short(running("c", 140)), func(o *Outlook) {
				o.Bulk.Frees, o.Create.Frees, o.Share.Frees = used(5, 3*time.Second), used(20, 2*time.Second),
					used(20, 2*time.Second)
			}),
			map[string]time.Duration{"c": 7 * time.Second},
		},
		"invites first": {
			with(short(running("c", 70)), func(o *Outlook) { o.Invites = 10 }),
			map[string]time.Duration{"c": 4 * time.Second},
		},
		"invites have the reserve to themselves": {
			with(hourly(running("c", 330)), func(o *Outlook) { o.Invites, o.Overall = 20, Places{} }),
			map[string]time.Duration{"c": 0},
		},
		"two campaigns take turns": {short(running("a", 500), running("b", 30)),
			map[string]time.Duration{"a": 28 * time.Second, "b": 0}},
		"a bulk is filled by the next": {
			with(short(running("a", 5), running("b", 5)), func(o *Outlook) { o.Bulk.N, o.Reserved = 1, true }),
			map[string]time.Duration{"a": 0, "b": 0},
		},
		"a scheduled one comes later": {
			short(running("a", 140), Campaign{Name: "b", Remaining: 70, Start: time.Minute}),
			map[string]time.Duration{"a": 4 * time.Second, "b": time.Minute},
		},
		"a scheduled one comes between": {
			short(running("a", 140), Campaign{Name: "b", Remaining: 35, Start: 2 * time.Second}),
			map[string]time.Duration{"a": 8 * time.Second, "b": 4 * time.Second},
		},
		"nothing before a 429 is over": {
			with(short(running("c", 10)), func(o *Outlook) {
				o.Bulk.Blocked, o.Create.Blocked = 30*time.Second, 40*time.Second
			}),
			map[string]time.Duration{"c": 30 * time.Second},
		},
		"no singles for campaigns": {
			with(short(running("c", 100)), func(o *Outlook) { o.Reserved = true }),
			map[string]time.Duration{"c": 4 * time.Second},
		},
		"no bulk limit: the overall one binds": {
			with(hourly(running("c", 1000)), func(o *Outlook) { o.Bulk = Places{} }),
			map[string]time.Duration{"c": 10 * time.Second},
		},
		"no limit: the pace so far": {
			Outlook{At: now, Campaigns: []Campaign{{Name: "c", Remaining: 300, Done: 100, Start: -10 * time.Second}}},
			map[string]time.Duration{"c": 30 * time.Second},
		},
		"no limit and no pace yet": {Outlook{At: now, Campaigns: []Campaign{running("c", 300)}},
			map[string]time.Duration{"c": never}},
		"all are in calls": {short(Campaign{Name: "c", Remaining: 70, InCalls: 70}),
			map[string]time.Duration{"c": 0}},
		"some travel alone": {short(Campaign{Name: "c", Remaining: 41, Alone: 41}),
			map[string]time.Duration{"c": 8 * time.Second}},
		"nobody can be sent": {
			with(short(running("c", 10)), func(o *Outlook) { o.Trouble = &Standstill{Reason: NoWorker} }),
			map[string]time.Duration{"c": never},
		},
		"longer than anybody can foresee": {
			with(short(running("c", 1000)),
				func(o *Outlook) { o.Bulk.Window, o.Create.Window = 366*24*time.Hour, 366*24*time.Hour }),
			map[string]time.Duration{"c": never},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forecasts := c.outlook.Foresee()
			for name, want := range c.want {
				f := forecasts[name]
				if f.Assumption == "" {
					t.Errorf("%s: it does not say what it rests on: %+v", name, f)
				}
				if want == never {
					if !f.ETA.IsZero() {
						t.Errorf("%s ends at %s, want no ETA", name, f.ETA.Sub(now))
					}
				} else if got := f.ETA.Sub(now); got != want {
					t.Errorf("%s ends after %s, want %s", name, got, want)
				}
			}
		})
	}
}

func TestForecastsSayWhatTheyRestOn(t *testing.T) {
	t.Parallel()
	o := with(hourly(running("a", 1000), running("b", 700)), func(o *Outlook) { o.Invites = 3 })
	const want = "at no more than 330 an hour, after 3 invites and beside 1 other campaign; if nothing fails and " +
		"nobody else uses the key"
	if f := o.Foresee()["a"]; f.Assumption != want || f.Standstill != nil {
		t.Errorf("%+v, want %s", f, want)
	}
	o.Invites, o.Bulk.Frees, o.Share.Frees = 0, used(25, 20*time.Minute), used(80, 10*time.Minute)
	stands := func(f Forecast, reason Reason, until time.Time) {
		t.Helper()
		if f.Standstill == nil || f.Standstill.Reason != reason || !f.Standstill.Until.Equal(until) {
			t.Errorf("%+v, want %s until %s", f.Standstill, reason, until)
		}
	}
	stands(o.Foresee()["a"], OnlyInvites, after(10*time.Minute)) // 20 singles are left
	o.Create.Frees = used(100, 10*time.Minute)
	stands(o.Foresee()["a"], ClosedWindow, after(10*time.Minute))
	o.Bulk.Blocked, o.Create.Blocked = 15*time.Minute, 15*time.Minute
	stands(o.Foresee()["a"], Endpoint, after(15*time.Minute))
	for _, reason := range []Reason{Backoff, Doubt} {
		held := hourly(running("a", 10))
		held.Campaigns[0].Held, held.Campaigns[0].HeldUntil = &Standstill{Reason: reason, Message: "so"}, 5*time.Minute
		f := held.Foresee()["a"]
		stands(f, reason, after(5*time.Minute))
		if !f.ETA.IsZero() || f.Assumption != "no ETA: so" {
			t.Errorf("%+v", f)
		}
		held.Campaigns[0].Held.Reason = LookUp
		f = held.Foresee()["a"]
		if stands(f, LookUp, after(5*time.Minute)); f.ETA.Before(after(5 * time.Minute)) {
			t.Errorf("%+v", f)
		}
	}
	o.Trouble = &Standstill{Reason: RefusedKey, Message: "Clerk refuses the key"}
	if f := o.Foresee()["a"]; f.Standstill != o.Trouble || f.Assumption != "no ETA: "+o.Trouble.Message {
		t.Errorf("%+v", f)
	}
	if f := (hourly().Hypothetical(330,
		now)); f.Assumption != "at no more than 330 an hour; if nothing fails and nobody else uses the key" {
		t.Errorf("%+v", f)
	}
}

func TestAHypotheticalCampaignComesAfterTheOthers(t *testing.T) {
	t.Parallel()
	o := short(running("a", 140))
	if f := o.Hypothetical(80, time.Time{}); f.ETA.Sub(now) != 8*time.Second {
		t.Errorf("%s", f.ETA.Sub(now))
	}
	if f := o.Hypothetical(70, after(time.Hour)); f.ETA.Sub(now) != time.Hour {
		t.Errorf("%s", f.ETA.Sub(now))
	}
	if len(o.Campaigns) != 1 {
		t.Errorf("the outlook was changed: %+v", o.Campaigns)
	}
}

func TestManyRecipientsAreForetold(t *testing.T) {
	t.Parallel()
	o := hourly(running("c", 200_000))
	if got, want := o.Foresee()["c"].ETA.Sub(now), 606*time.Hour; got < want || got > want+time.Minute {
		t.Errorf("200,000 at 330 an hour end after %s, want %s", got, want)
	}
	for i := range 100 { // more than is played
		o.Campaigns = append(o.Campaigns, running(string(rune('A'+i)), 200_000))
	}
	want, later := 101*200_000/330*time.Hour, 9*365*24*time.Hour
	o.Campaigns = append(o.Campaigns, Campaign{Name: "later", Remaining: 3300, Start: later})
	foreseen := o.Foresee()
	if got := foreseen["later"].ETA.Sub(now); got < later || got > later+24*time.Hour {
		t.Errorf("one that begins after %s ends after %s", later, got)
	}
	delete(foreseen, "later")
	for name, f := range foreseen {
		if got := f.ETA.Sub(now); math.Abs(float64(got-want)) > float64(want)/20 {
			t.Errorf("%s ends after %s, want about %s", name, got, want)
		}
	}
}

// TestGarbageIsForetoldSomehow: whatever Redis holds, the play ends, and no campaign has ended already.
func TestGarbageIsForetoldSomehow(t *testing.T) {
	t.Parallel()
	durations := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1, int64(time.Minute)), rapid.Just(int64(0)))
	rapid.Check(t, func(t *rapid.T) {
		duration := func(name string) time.Duration { return time.Duration(durations.Draw(t, name)) }
		numbers := rapid.OneOf(rapid.Int(), rapid.IntRange(-1, 300))
		places := func(name string) Places {
			p := Places{N: numbers.Draw(t, name), Window: duration(name + " window")}
			if rapid.Bool().Draw(t, name+" is blocked") {
				p.Blocked = duration(name + " blocked")
			}
			for range rapid.IntRange(0, 50).Draw(t, name+" used") {
				p.Frees = append(p.Frees, duration(name+" free"))
			}
			return p
		}
		o := Outlook{
			At: now, Create: places("create"), Share: places("share"), Bulk: places("bulk"),
			Overall:  places("overall"),
			Reserved: rapid.Bool().Draw(t, "reserved"), Invites: numbers.Draw(t, "invites"),
		}
		for i := range rapid.IntRange(0, 5).Draw(t, "campaigns") {
			o.Campaigns = append(o.Campaigns, Campaign{
				Name: string(rune('a' + i)), Remaining: numbers.Draw(t, "remaining"),
				InCalls: numbers.Draw(t, "in calls"),
				Alone:   numbers.Draw(t, "alone"), Done: numbers.Draw(t, "done"), Start: duration("start"),
			})
		}
		for name, f := range o.Foresee() {
			if f.Assumption == "" || f.ETA.IsZero() != (f.Assumption[:2] == "no") || !f.ETA.IsZero() &&
				f.ETA.Before(now) {
				t.Fatalf("%s: %+v", name, f)
			}
		}
	})
}

// TestTheTurnOfAnInviteIsForetold: by those ahead of it, the places that come free, and bulks that fill.
func TestTheTurnOfAnInviteIsForetold(t *testing.T) {
	t.Parallel()
	usedUp := func(o *Outlook) {
		o.Create.Frees, o.Bulk.Frees = used(20, 3*time.Second), used(5, 2*time.Second)
	}
	for name, c := range map[string]struct {
		outlook Outlook
		ahead   int
		want    time.Duration
		reason  Reason // none: it does not wait
	}{
		"at once":                       {short(), 0, 0, ""},
		"within one window":             {short(), 19, 0, ""},
		"the first that waits":          {with(short(), usedUp), 0, 3 * time.Second, ClosedWindow},
		"ten fill a bulk":               {with(short(), usedUp), 9, 2 * time.Second, ClosedWindow},
		"campaigns do not go before it": {short(running("c", 1000)), 0, 0, ""},
		"after a 429": {with(short(), func(o *Outlook) {
			o.Create.Blocked, o.Bulk.Blocked = 9*time.Second, 12*time.Second
		}), 0, 9 * time.Second, Endpoint},
		"the limit of all calls is used up": {
			with(hourly(), func(o *Outlook) { o.Overall.Frees = used(50, 8*time.Second) }), 0, 8 * time.Second, ClosedWindow,
		},
	} {
		f := c.outlook.Invite(c.ahead)
		if got := f.ETA.Sub(now); got != c.want || (f.Standstill == nil) != (c.reason == "") {
			t.Errorf("%s: after %s, want %s; %+v", name, got, c.want, f.Standstill)
			continue
		}
		if s := f.Standstill; s != nil && (s.Reason != c.reason || !s.Until.Equal(f.ETA)) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	o := with(short(), func(o *Outlook) { o.Trouble = &Standstill{Reason: NoWorker} })
	if f := o.Invite(0); f.Standstill != o.Trouble || !f.ETA.IsZero() {
		t.Errorf("no worker: %+v", f)
	}
}
