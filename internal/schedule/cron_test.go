package schedule

import (
	"testing"
	"time"
	_ "time/tzdata" // as the commands have it

	"example.com/usher/internal/policy"
)

// fixed is some instant.
var fixed = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	instant, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return instant
}

func times(t *testing.T, cron, zone string) timetable {
	t.Helper()
	place, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	table, err := parseCron(cron, place)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTicksFollowTheTimeZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ cron, zone, from, want1, want2 string }{
		{"0 9 * * 1", "UTC", "2026-11-25T12:00:00Z", "2026-11-30T09:00:00Z", "2026-12-07T09:00:00Z"},
		{"0 9 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T08:00:00Z", "2026-10-26T08:00:00Z"},
		{"0 9 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", "2026-10-24T07:00:00Z", "2026-10-25T08:00:00Z"},
		// 02:30 comes twice in that night, and a schedule that names the hour happens once.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		// One of every half hour goes on through both.
		{"30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		// 02:30 does not come in that night.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"},
		{"15 0 9 * * *", "America/New_York", "2026-11-25T12:00:00Z", "2026-11-25T14:00:15Z", "2026-11-26T14:00:15Z"},
		{"@daily", "Asia/Tokyo", "2026-11-25T12:00:00Z", "2026-11-25T15:00:00Z", "2026-11-26T15:00:00Z"},
		{"@every 90s", "UTC", "2026-11-25T12:00:00.7Z", "2026-11-25T12:01:30Z", "2026-11-25T12:03:00Z"},
	} {
		table := times(t, c.cron, c.zone)
		first := table.after(at(t, c.from))
		second := table.after(first)
		if !first.Equal(at(t, c.want1)) || !second.Equal(at(t, c.want2)) {
			t.Errorf("%s in %s: %s and %s, want %s and %s", c.cron, c.zone, first.UTC(), second.UTC(),
				c.want1, c.want2)
		}
	}
}

func TestOfMissedTicksTheLastHappens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cron      string
		next, now time.Duration // from the fixed instant
		tick      time.Duration // -1: none
		following time.Duration
	}{
		{"* * * * * *", 0, 0, 0, time.Second},
		{"* * * * * *", 0, 2500 * time.Millisecond, 2 * time.Second, 3 * time.Second},
		{"*/10 * * * *", 0, 25 * time.Minute, 20 * time.Minute, 30 * time.Minute},
		{"*/10 * * * *", 0, 1000 * time.Hour, 1000 * time.Hour, 1000*time.Hour + 10*time.Minute},
		{"0 */2 * * *", 0, policy.MissedTick, 0, 2 * time.Hour},
		{"0 */2 * * *", 0, policy.MissedTick + time.Millisecond, -1, 2 * time.Hour},
		{"@every 7s", 0, 20 * time.Second, 14 * time.Second, 21 * time.Second},
		{"@every 3h", 0, 7 * time.Hour, 6 * time.Hour, 9 * time.Hour},
		{"@every 3h", 0, 8 * time.Hour, -1, 9 * time.Hour},
	} {
		tick, following := times(t, c.cron, "UTC").latest(fixed.Add(c.next), fixed.Add(c.now))
		wantTick := fixed.Add(c.tick)
		if c.tick < 0 {
			wantTick = time.Time{}
		}
		if !tick.Equal(wantTick) || !following.Equal(fixed.Add(c.following)) {
			t.Errorf("%s, due at %s, looked at %s: tick %s, then %s", c.cron, c.next, c.now, tick, following)
		}
	}
}

// TestAGarbageInstantIsNoTick: what Redis holds as the next instant need not be one of the schedule's.
func TestAGarbageInstantIsNoTick(t *testing.T) {
	t.Parallel()
	tick, following := times(t, "0 9 * * *", "UTC").latest(fixed.Add(-5*time.Minute), fixed)
	if !tick.IsZero() || !following.Equal(fixed.Add(21*time.Hour)) {
		t.Errorf("tick %s, then %s", tick, following)
	}
}
