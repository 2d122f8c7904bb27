package settings

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// MaxDuration bounds every duration that is read.
const MaxDuration = 366 * day

// Duration reads 90m, 1h30m, 2d or 1d12h: days come first, the rest is what [time.ParseDuration] takes. It is never
// negative.
func Duration(name, text string) (time.Duration, error) {
	d, ok := parseDuration(strings.TrimSpace(text))
	if !ok {
		return 0, Fault(name, text, "a duration such as 90m, 1h30m or 2d, at most %s", FormatDuration(MaxDuration))
	}
	return d, nil
}

func parseDuration(text string) (time.Duration, bool) {
	var days int
	if number, rest, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, false
		}
		if days, text = int(n), rest; text == "" {
			text = "0"
		}
	}
	// A sign would be taken by ParseDuration, also in the middle (1d-2h).
	if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil || d > MaxDuration || days > int(MaxDuration/day) {
		return 0, false
	}
	d += time.Duration(days) * day
	return d, d <= MaxDuration
}

// FormatDuration writes a duration so that Duration reads it back: largest units first, none that is zero (1d12h,
// 1h30m, 90s as 1m30s).
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	if d < 0 {
		b.WriteByte('-')
		d = -d
	}
	for _, unit := range []struct {
		size   time.Duration
		letter byte
	}{{day, 'd'}, {time.Hour, 'h'}, {time.Minute, 'm'}} {
		if n := d / unit.size; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, unit.letter)
			d %= unit.size
		}
	}
	if d > 0 {
		b.WriteString(d.String())
	}
	return b.String()
}

// Bounds of a limit.
const (
	MaxRateN      = 1_000_000
	MinRateWindow = time.Millisecond
	MaxRateWindow = 31 * day
)

// Rate is a limit: N in every Window. The zero value means that there is none.
type Rate struct {
	N      int
	Window time.Duration
}

// Off tells that nothing is limited.
func (r Rate) Off() bool { return r.N == 0 }

// String writes the limit so that ParseRate reads it back.
func (r Rate) String() string {
	if r.Off() {
		return "0"
	}
	return strconv.Itoa(r.N) + "/" + FormatDuration(r.Window)
}

// ParseRate reads N/duration; 0 gives the Rate that is off.
func ParseRate(name, text string) (Rate, error) {
	const want = "N/duration such as 100/1h, or 0 to switch the limit off"
	text = strings.TrimSpace(text)
	if text == "0" {
		return Rate{}, nil
	}
	number, duration, found := strings.Cut(text, "/")
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	window, ok := parseDuration(strings.TrimSpace(duration))
	switch {
	case !found || err != nil || !ok:
		return Rate{}, Fault(name, text, want)
	case n < 1 || n > MaxRateN:
		return Rate{}, Fault(name, text, want+" (N from 1 to %d)", MaxRateN)
	case window < MinRateWindow || window > MaxRateWindow:
		most := FormatDuration(MaxRateWindow)
		return Rate{}, Fault(name, text, want+" (the duration from %s to %s)", MinRateWindow, most)
	}
	return Rate{N: int(n), Window: window}, nil
}
