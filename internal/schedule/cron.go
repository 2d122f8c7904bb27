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
	spec cron.Schedule
	zone *time.Location
	// fixedHour: the expression names hours, so that an hour that a clock change repeats counts once.
	fixedHour bool
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
		const star = 1 << 63
		for _, field := range []uint64{spec.Second, spec.Minute, spec.Hour, spec.Dom, spec.Month, spec.Dow} {
			if field == 0 {
				return timetable{}, errors.New("has an empty field")
			}
		}
		t.fixedHour = spec.Hour&star == 0
	}
	if t.after(time.Now()).IsZero() {
		return timetable{}, errors.New("never comes: no such date is within five years")
	}
	return t, nil
}

// after is the first instant after another at which the schedule is due; zero if none is within five years. What a
// clock change skips does not come.
func (t timetable) after(at time.Time) time.Time {
	for {
		at = t.spec.Next(at.In(t.zone))
		if at.IsZero() || !t.fixedHour || !repeated(at) {
			return at
		}
	}
}

// repeated tells whether clocks have shown this time before, because they were set back.
func repeated(at time.Time) bool {
	for _, change := range []time.Duration{30 * time.Minute, time.Hour} {
		before := at.Add(-change)
		if before.Hour() == at.Hour() && before.Minute() == at.Minute() {
			return true
		}
	}
	return false
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
