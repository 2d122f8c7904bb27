package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"example.com/usher/internal/policy"
)

// maxCronBytes bounds a cron expression: one that names every minute is shorter.
const maxCronBytes = 400

// timetable says when a schedule is due.
type timetable struct {
	spec      cron.Schedule
	zone      *time.Location
	fixedHour bool // its hour is not a star, nor a star with a step
}

// parseCron reads five fields, or six with seconds before them, or a descriptor such as @daily or @every 90m.
func parseCron(text string, zone *time.Location) (timetable, error) {
	switch {
	case len(text) > maxCronBytes:
		return timetable{}, fmt.Errorf("is longer than %d bytes", maxCronBytes)
	case strings.Contains(text, "TZ="):
		return timetable{}, errors.New("names a time zone; timezone: does that")
	}
	const fields = cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor
	spec, err := cron.NewParser(fields).Parse(text)
	if err != nil {
		return timetable{}, err
	}
	t := timetable{spec: spec, zone: zone}
	switch spec := spec.(type) {
	case cron.ConstantDelaySchedule:
		// The library makes whole seconds, and at least one, of whatever it gets.
		d, err := time.ParseDuration(strings.TrimSpace(strings.TrimPrefix(text, "@every")))
		if err != nil || d != spec.Delay {
			return timetable{}, errors.New("must be @every and whole seconds, at least one, such as @every 90s")
		}
	case *cron.SpecSchedule:
		for _, field := range []uint64{spec.Second, spec.Minute, spec.Hour, spec.Dom, spec.Month, spec.Dow} {
			if field == 0 {
				return timetable{}, errors.New("has an empty field")
			}
		}
		t.fixedHour = !starHour(text)
	}
	if t.after(time.Now()).IsZero() {
		return timetable{}, errors.New("never comes: no such date is within five years")
	}
	return t, nil
}

// starHour tells whether the hour of an expression is a star, perhaps with a step.
func starHour(text string) bool {
	if fields := strings.Fields(text); len(fields) > 1 {
		hour := fields[len(fields)-4]
		return strings.HasPrefix(hour, "*") || strings.HasPrefix(hour, "?")
	}
	return text == "@hourly"
}

// after is the first instant after another at which the schedule is due; zero if none is within five years. Clock
// changes are treated as Vixie cron treats them: a schedule with fixed hours comes once, at the first instant after,
// where clocks skip its time, and once where they show it twice. Any other is due whenever clocks show its time.
func (t timetable) after(at time.Time) time.Time {
	at = at.In(t.zone)
	if _, every := t.spec.(cron.ConstantDelaySchedule); every {
		return t.spec.Next(at)
	}
	if t.fixedHour {
		shown := clock(at)
		for {
			if shown = t.spec.Next(shown); shown.IsZero() {
				return shown
			}
			if due := firstShown(shown, t.zone); due.After(at) {
				return due
			}
		}
	}
	for shown := clock(at); ; { // between two clock changes, each time
		if shown = t.spec.Next(shown); shown.IsZero() {
			return shown
		}
		_, offset := at.Zone()
		_, change := at.ZoneBounds()
		due := shown.Add(-time.Duration(offset) * time.Second).In(t.zone)
		if change.IsZero() || due.Before(change) {
			return due
		}
		at = change.In(t.zone)
		shown = clock(at).Add(-time.Nanosecond) // the change itself may be due
	}
}

// clock is what clocks show at an instant, as if they showed UTC: no time of theirs is skipped or shown twice.
func clock(at time.Time) time.Time {
	_, offset := at.Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

// firstShown is the first instant at which clocks of a zone show a time. If they skip it, it is the instant at which
// they do.
func firstShown(shown time.Time, zone *time.Location) time.Time {
	year, month, day := shown.Date()
	at := time.Date(year, month, day, shown.Hour(), shown.Minute(), shown.Second(), shown.Nanosecond(), zone)
	start, end := at.ZoneBounds()
	switch got := clock(at); {
	case got.After(shown):
		return start
	case got.Before(shown):
		return end
	}
	if start.IsZero() {
		return at
	}
	_, offset := at.Zone()
	_, before := start.Add(-time.Nanosecond).Zone()
	if back := time.Duration(before-offset) * time.Second; at.Sub(start) < back {
		return at.Add(-back) // the second time
	}
	return at
}

// latest is the last of the instants from next to now, zero if that is longer ago than a tick may be late, and the
// first one after now. Those before the last are passed over.
func (t timetable) latest(next, now time.Time) (tick, following time.Time) {
	if every, ok := t.spec.(cron.ConstantDelaySchedule); ok {
		tick = next.Add(now.Sub(next) / every.Delay * every.Delay)
		following = tick.Add(every.Delay)
	} else {
		if oldest := now.Add(-policy.MissedTick); next.Before(oldest) {
			next = oldest
		}
		following = t.after(next.Add(-time.Nanosecond))
		for !following.IsZero() && !following.After(now) {
			tick, following = following, t.after(following)
		}
	}
	if now.Sub(tick) > policy.MissedTick {
		tick = time.Time{}
	}
	if following.IsZero() {
		following = now.Add(policy.MissedTick) // nothing for years; then it is looked again
	}
	return tick, following
}
