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
		// 02:30 does not come in that night: it happens at 03:00.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		// So does every time of the hour that is skipped, once for all.
		{"*/10 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"},
		// A step follows the clock: 02:00 does not come, and an hour that comes twice counts twice.
		{"0 */2 * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T02:00:00Z", "2026-03-29T04:00:00Z"},
		{"0 */2 * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		{"* * * * *", "Europe/Berlin", "2026-03-29T00:58:30Z", "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z"},
		// Where clocks change at midnight there is no 00:00 in that night, or there are two.
		{"0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"},
		{"0 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"},
		{"0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"},
		{"0 0 1 * *", "America/Havana", "2026-10-15T12:00:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"},
		// Clocks change by half an hour there.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"},
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

// TestEachDayHasItsTick: whatever clocks do.
func TestEachDayHasItsTick(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Beirut", "Africa/Cairo", "America/Havana",
		"Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "America/Asuncion",
		"Europe/Lisbon", "Antarctica/Troll",
	} {
		for _, cron := range []string{
			"0 0 * * *", "30 0 * * *", "0 1 * * *", "30 1 * * *", "59 1 * * *",
			"0 2 * * *", "30 2 * * *", "0 3 * * *", "59 23 * * *",
		} {
			table := times(t, cron, zone)
			due := table.after(at(t, "2024-01-01T12:00:00Z"))
			for due.Year() < 2029 {
				next := table.after(due)
				year, month, day := due.In(table.zone).Date()
				if y, m, d := next.In(table.zone).Date(); !time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Equal(
					time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)) {
					t.Fatalf("%s in %s: after %s comes %s", cron, zone, due, next)
				}
				due = next
			}
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
