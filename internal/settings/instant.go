package settings

import (
	"strings"
	"time"
)

// Instant reads the time of --at: RFC 3339, or 2026-12-01 09:00 (also with seconds) on the clocks of loc. It refuses
// a time that is past, and a local time that a clock change skips. A local time that happens twice means the first;
// show people the answer with its offset.
func Instant(text string, now time.Time, loc *time.Location) (time.Time, error) {
	const name = "--at"
	trimmed := strings.TrimSpace(text)
	at, err := time.Parse(time.RFC3339, trimmed)
	if err != nil {
		// What a clock on the wall would show, as if that were UTC.
		wall, err := time.Parse("2006-01-02 15:04", trimmed)
		if err != nil {
			wall, err = time.Parse(time.DateTime, trimmed)
		}
		if err != nil {
			const want = "a time such as 2026-12-01T09:00:00Z, or 2026-12-01 09:00 in the time zone %s"
			return time.Time{}, Fault(name, text, want, loc)
		}
		var exists bool
		if at, exists = firstAt(wall, loc); !exists {
			return time.Time{}, Fault(name, text, "a time that exists: a clock change in %s skips it", loc)
		}
	}
	if at.Before(now) {
		return time.Time{}, Fault(name, text, "a time to come (%s is past, now it is %s)",
			at.Format(time.RFC3339), now.In(at.Location()).Format(time.RFC3339))
	}
	return at, nil
}

// firstAt finds the first instant at which clocks in loc show the wall time. There is none when a clock change skips
// it.
func firstAt(wall time.Time, loc *time.Location) (time.Time, bool) {
	// time.Date does not promise which of two instants it gives, so ask for the offsets on both sides of any change
	// nearby: no zone changes its clocks twice in so short a time.
	const nearby = 26 * time.Hour
	found := time.Time{}
	for _, probe := range []time.Time{wall.Add(-nearby), wall.Add(nearby)} {
		_, offset := probe.In(loc).Zone()
		at := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		_, actual := at.Zone()
		if actual == offset && (found.IsZero() || at.Before(found)) {
			found = at
		}
	}
	return found, !found.IsZero()
}
