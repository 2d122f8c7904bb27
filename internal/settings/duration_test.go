package settings

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour,
		" 30s ": 30 * time.Second,
		"0":     0, "0s": 0, "1.5h": 90 * time.Minute, "500ms": 500 * time.Millisecond, "366d": MaxDuration,
		"1d30m15s": 24*time.Hour + 30*time.Minute + 15*time.Second,
	} {
		if got, err := Duration("D", text); err != nil || got != want {
			t.Errorf("Duration(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "5", "d", "-1h", "+1h", "-2d", "1d-2h", "1d+2h", "1h2d", "2dd", "1.5d", "0x1d",
		"1 h", "367d", "366d1s", "65536d",
		"99999999999999999999d", "9000h", "106751d23h", "NaN", "1e3s", "ten", "１h"} {
		if got, err := Duration("D", bad); err == nil {
			t.Errorf("Duration(%q) = %s is accepted", bad, got)
		}
	}
	_, err := Duration("USHER_TIMEOUT", "soon")
	wantFault(t, err, `USHER_TIMEOUT: got "soon", want a duration such as 90m, 1h30m or 2d, at most 366d`)
}

func TestFormatDuration(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0s": 0, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour, "1m30s": 90 * time.Second,
		"6s":    6 * time.Second,
		"1d1ms": 24*time.Hour + time.Millisecond, "1m1.5s": 61500 * time.Millisecond, "-1h": -time.Hour,
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestDurationRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := time.Duration(rapid.Int64Range(0, int64(MaxDuration)).Draw(t, "duration"))
		if got, err := Duration("D", FormatDuration(want)); err != nil || got != want {
			t.Fatalf("%s is written %q and read as %s, %v", want, FormatDuration(want), got, err)
		}
	})
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rate{
		"100/1h": {100, time.Hour}, "25/6s": {25, 6 * time.Second}, "500/10s": {500, 10 * time.Second},
		"0": {}, " 0 ": {},
		"1/1ms": {1, time.Millisecond}, "1000000/31d": {1_000_000, 31 * day}, "10 / 1d12h": {10, 36 * time.Hour},
	} {
		got, err := ParseRate("R", text)
		if err != nil || got != want || got.Off() != (want.N == 0) {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", text, got, err, want)
		}
		if again, err := ParseRate("R", got.String()); err != nil || again != got {
			t.Errorf("%q is written %q and read as %v, %v", text, got, again, err)
		}
	}
	const name, want = "USHER_LIMIT_CREATE", "N/duration such as 100/1h, or 0 to switch the limit off"
	for text, fault := range map[string]string{
		"abc":        `USHER_LIMIT_CREATE: got "abc", want ` + want,
		"":           `USHER_LIMIT_CREATE: got nothing, want ` + want,
		"100":        `USHER_LIMIT_CREATE: got "100", want ` + want,
		"100/":       `USHER_LIMIT_CREATE: got "100/", want ` + want,
		"100/h":      `USHER_LIMIT_CREATE: got "100/h", want ` + want,
		"-1/1h":      `USHER_LIMIT_CREATE: got "-1/1h", want ` + want,
		"1/1h/1h":    `USHER_LIMIT_CREATE: got "1/1h/1h", want ` + want,
		"0/1h":       `USHER_LIMIT_CREATE: got "0/1h", want ` + want + ` (N from 1 to 1000000)`,
		"1000001/1h": `USHER_LIMIT_CREATE: got "1000001/1h", want ` + want + ` (N from 1 to 1000000)`,
		"1/0s":       `USHER_LIMIT_CREATE: got "1/0s", want ` + want + ` (the duration from 1ms to 31d)`,
		"1/32d":      `USHER_LIMIT_CREATE: got "1/32d", want ` + want + ` (the duration from 1ms to 31d)`,
		"1/999us": `USHER_LIMIT_CREATE: got "1/999us", want ` + want +
			` (the duration from 1ms to 31d)`,
		"99999999999999999999/1h": `USHER_LIMIT_CREATE: got "99999999999999999999/1h", want ` + want,
	} {
		_, err := ParseRate(name, text)
		wantFault(t, err, fault)
	}
}
