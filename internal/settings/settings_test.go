package settings

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// wantFault checks the whole sentence; "" wants no error.
func wantFault(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("unexpected error: %v", err)
		}
		return
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Fatalf("got error %v of type %T, want an *Error: %s", err, err, want)
	}
	if err.Error() != want {
		t.Errorf("error\n got %s\nwant %s", err, want)
	}
	if strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("error is not one line: %q", err)
	}
}

func TestInt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, fault string
		want        int
	}{
		{text: "20", want: 20},
		{text: " 1 ", want: 1},
		{text: "0", fault: `X: got "0", want a whole number from 1 to 20`},
		{text: "21", fault: `X: got "21", want a whole number from 1 to 20`},
		{text: "", fault: `X: got nothing, want a whole number from 1 to 20`},
		{text: "1.5", fault: `X: got "1.5", want a whole number from 1 to 20`},
		{text: "99999999999999999999", fault: `X: got "99999999999999999999", want a whole number from 1 to 20`},
		{text: "a\nb", fault: `X: got "a\nb", want a whole number from 1 to 20`},
		{text: "sk_live_hunter2", fault: `X: got "sk_live_…", want a whole number from 1 to 20`},
		{text: "redis://:hunter2@h", fault: `X: got "redis://:…@h", want a whole number from 1 to 20`},
		{text: strings.Repeat("é", 100),
			fault: `X: got "` + strings.Repeat("é", 40) + `…", want a whole number from 1 to 20`},
	} {
		got, err := Int("X", test.text, 1, 20)
		wantFault(t, err, test.fault)
		if got != test.want {
			t.Errorf("Int(%q) = %d, want %d", test.text, got, test.want)
		}
	}
}

func TestOneOf(t *testing.T) {
	t.Parallel()
	got, err := OneOf("USHER_BULK_METADATA", " Always ", "as-asked", "always", "never")
	wantFault(t, err, "")
	if got != "always" {
		t.Errorf("got %q", got)
	}
	_, err = OneOf("USHER_BULK_METADATA", "sometimes", "as-asked", "always", "never")
	wantFault(t, err, `USHER_BULK_METADATA: got "sometimes", want one of as-asked, always, never`)
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"usher", "a.b-c_D9", strings.Repeat("x", 32)} {
		if err := Namespace("USHER_NAMESPACE", good); err != nil {
			t.Errorf("Namespace(%q): %v", good, err)
		}
	}
	for _, bad := range []string{"", "a:b", "a b", " a", "a\n", "{a}", "é", strings.Repeat("x", 33), "a\nb"} {
		if err := Namespace("USHER_NAMESPACE", bad); err == nil {
			t.Errorf("Namespace(%q) is accepted", bad)
		}
	}
	err := Namespace("USHER_NAMESPACE", "a:b")
	wantFault(t, err, `USHER_NAMESPACE: got "a:b", want 1 to 32 letters, digits, dots, dashes or underscores`)
}

func TestHTTPURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://api.clerk.com/v1":  "https://api.clerk.com/v1",
		"https://api.clerk.com/v1/": "https://api.clerk.com/v1",
		"http://127.0.0.1:6398/v1":  "http://127.0.0.1:6398/v1",
		"http://[::1]:6398":         "http://[::1]:6398",
	} {
		if got, err := HTTPURL("CLERK_API_URL", text); err != nil || got != want {
			t.Errorf("HTTPURL(%q) = %q, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "api.clerk.com/v1", "ftp://a", "https://", "https:///v1",
		"https://u:hunter2@a/v1", "https://a/?x=1", "https://a/#x", "https://a b/"} {
		_, err := HTTPURL("CLERK_API_URL", bad)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("HTTPURL(%q): %v", bad, err)
		}
	}
}

func TestListenAddr(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, addr, fault string
		loopback          bool
	}{
		{text: "127.0.0.1:8080", addr: "127.0.0.1:8080", loopback: true},
		{text: "localhost:0", addr: "localhost:0", loopback: true},
		{text: "[::1]:8080", addr: "[::1]:8080", loopback: true},
		{text: ":8080", addr: ":8080"},
		{text: "0.0.0.0:8080", addr: "0.0.0.0:8080"},
		{text: "localhost.example.com:80", addr: "localhost.example.com:80"},
		{text: "off"},
		{text: "8080", fault: `A: got "8080", want host:port such as 127.0.0.1:8080, or off`},
		{text: "127.0.0.1:http", fault: `A: got "127.0.0.1:http", want host:port such as 127.0.0.1:8080, or off`},
		{text: "127.0.0.1:65536", fault: `A: got "127.0.0.1:65536", want host:port such as 127.0.0.1:8080, or off`},
		{text: "http://127.0.0.1:80",
			fault: `A: got "http://127.0.0.1:80", want host:port such as 127.0.0.1:8080, or off`},
	} {
		addr, loopback, err := ListenAddr("A", test.text)
		wantFault(t, err, test.fault)
		if addr != test.addr || loopback != test.loopback {
			t.Errorf("ListenAddr(%q) = %q, %v", test.text, addr, loopback)
		}
	}
}

func TestInstant(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no zone data: ", err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, berlin)
	for _, test := range []struct{ text, want, fault string }{
		{text: "2026-12-01T09:00:00Z", want: "2026-12-01T09:00:00Z"},
		{text: "2026-12-01T09:00:00+05:30", want: "2026-12-01T09:00:00+05:30"},
		{text: " 2026-12-01 09:00 ", want: "2026-12-01T09:00:00+01:00"},
		{text: "2026-07-01 09:00:30", want: "2026-07-01T09:00:30+02:00"},
		{text: "2026-03-29 01:59", want: "2026-03-29T01:59:00+01:00"},
		{text: "2026-03-29 03:00", want: "2026-03-29T03:00:00+02:00"},
		{text: "2026-10-25 01:59", want: "2026-10-25T01:59:00+02:00"},
		{text: "2026-10-25 02:30", want: "2026-10-25T02:30:00+02:00"}, // happens twice: the first
		{text: "2026-10-25 03:00", want: "2026-10-25T03:00:00+01:00"},
		{text: "2026-03-29 02:00",
			fault: `--at: got "2026-03-29 02:00", want a time that exists: a clock change in Europe/Berlin skips it`},
		{text: "2026-03-29 02:59:59",
			fault: `--at: got "2026-03-29 02:59:59", want a time that exists: a clock change in Europe/Berlin ` +
				`skips it`},
		{text: "2026-03-01 11:59",
			fault: `--at: got "2026-03-01 11:59", want a time to come (2026-03-01T11:59:00+01:00 is past, now it is ` +
				`2026-03-01T12:00:00+01:00)`},
		{text: "2026-03-01T10:00:00Z",
			fault: `--at: got "2026-03-01T10:00:00Z", want a time to come (2026-03-01T10:00:00Z is past, now it is ` +
				`2026-03-01T11:00:00Z)`},
		{text: "tomorrow",
			fault: `--at: got "tomorrow", want a time such as 2026-12-01T09:00:00Z, or 2026-12-01 09:00 in the time ` +
				`zone Europe/Berlin`},
		{text: "2026-02-30 09:00",
			fault: `--at: got "2026-02-30 09:00", want a time such as 2026-12-01T09:00:00Z, or 2026-12-01 09:00 in ` +
				`the time zone Europe/Berlin`},
		{text: "", fault: `--at: got nothing, want a time such as 2026-12-01T09:00:00Z, or 2026-12-01 09:00 in the ` +
			`time zone Europe/Berlin`},
	} {
		got, err := Instant(test.text, now, berlin)
		wantFault(t, err, test.fault)
		if test.fault == "" && got.Format(time.RFC3339) != test.want {
			t.Errorf("Instant(%q) = %s, want %s", test.text, got.Format(time.RFC3339), test.want)
		}
	}
}

// Zones with unusual changes: half an hour, at midnight, and a whole day that never was.
func TestInstantUnusualZones(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ zone, text, want string }{
		{"Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-05T01:45:00+11:00"}, // happens twice
		{"Australia/Lord_Howe", "2026-10-04 02:15", ""},                          // skipped
		{"Pacific/Apia", "2011-12-30 09:00", ""},                                 // the day Samoa skipped
		{"Pacific/Apia", "2011-12-31 09:00", "2011-12-31T09:00:00+14:00"},
		{"Pacific/Kiritimati", "2026-05-01 00:00", "2026-05-01T00:00:00+14:00"},
		{"UTC", "2026-05-01 00:00", "2026-05-01T00:00:00Z"},
	} {
		loc, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Skip("no zone data: ", err)
		}
		got, err := Instant(test.text, time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC), loc)
		if test.want == "" && err == nil || test.want != "" && got.Format(time.RFC3339) != test.want {
			t.Errorf("Instant(%q) in %s = %s, %v; want %q", test.text, test.zone, got.Format(time.RFC3339),
				err, test.want)
		}
	}
}
