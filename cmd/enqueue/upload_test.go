package main

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2/server"

	"example.com/usher/internal/testkit"
)

// The steps of an upload, as Redis sees them.
const (
	staging  = "staging"
	entering = "entering"
	moving   = "moving"
)

// stepOf tells which step of an upload a command is; empty: none.
func stepOf(command string, args []string) string {
	has := func(what func(string) bool) bool { return slices.ContainsFunc(args, what) }
	switch {
	case !strings.HasPrefix(command, "EVAL"):
		return ""
	case has(func(arg string) bool { return strings.HasSuffix(arg, ":{once}:u:") }):
		return moving
	case has(func(arg string) bool { return strings.Contains(arg, ":{once}:u:") }) &&
		has(func(arg string) bool { return strings.HasSuffix(arg, ":{once}:moving") }):
		return entering
	case has(func(arg string) bool { return strings.Contains(arg, ":stage:") }):
		return staging
	}
	return ""
}

// TestAnUploadWhoseRedisGoesAway says what is known of it. Its repetition, and what a worker does meanwhile, add
// everybody once.
func TestAnUploadWhoseRedisGoesAway(t *testing.T) {
	t.Parallel()
	for at, c := range map[string]struct {
		code, says string
		added      int // by the repetition
	}{
		staging:  {"redis_unavailable", "nothing was enqueued", 600},
		entering: {"unsure", "not known whether the recipients were added; repeat it", 600},
		moving:   {"unsure", "not known whether the recipients were added; repeat it", 0},
	} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			var gone atomic.Bool
			s.mini.Server().SetPreHook(func(peer *server.Peer, command string, args ...string) bool {
				if stepOf(command, args) == at {
					gone.Store(true)
				}
				if gone.Load() {
					peer.Close()
				}
				return gone.Load()
			})
			command := []string{"bulk-invite", s.write("people.csv", people("bulk", 600)), "--campaign", "c"}
			a := s.enqueue(append(command, "--json")...)
			if a.exit != 1 || !strings.Contains(a.stderr, `"code":"`+c.code+`"`) || !strings.Contains(a.stderr, c.says) ||
				!gone.Load() {
				t.Errorf("%+v, want code %s and %q", a, c.code, c.says)
			}
			s.mini.Server().SetPreHook(nil)
			want(t, s.ok(command...), map[string]any{"added": c.added, "known": 600 - c.added})
			want(t, s.ok("campaign", "status", "c"), map[string]any{"state": "running", "recipients": 600})
		})
	}
}

// TestAnUploadThatAPauseHolds says so, waits for the campaign to be resumed, and is not exported half made.
func TestAnUploadThatAPauseHolds(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var paused atomic.Bool
	s.mini.Server().SetPreHook(func(_ *server.Peer, command string, args ...string) bool {
		if stepOf(command, args) == moving && paused.CompareAndSwap(false, true) {
			_, err := s.ledgers.Pause(t.Context(), "c")
			testkit.NoError(t, err)
		}
		return false
	})
	refusesExport := func() {
		t.Helper()
		a := s.enqueue("campaign", "export", "c")
		if a.exit != 1 || a.stdout != "" || !strings.Contains(a.stderr, "campaign c: recipients are being added to it") {
			t.Errorf("export: %+v", a)
		}
	}
	a := s.enqueue("bulk-invite", s.write("people.csv", people("bulk", 600)), "--campaign", "c", "--json")
	if a.exit != 1 || !strings.Contains(a.stderr, `"code":"held"`) || !strings.Contains(a.stderr, "paused") {
		t.Errorf("%+v", a)
	}
	want(t, s.ok("campaign", "status", "c"), map[string]any{"state": "paused", "recipients": 0})
	refusesExport()
	want(t, s.ok("campaign", "resume", "c"), map[string]any{"state": "uploading"})
	if list := s.list("campaign", "list", "--state", "uploading"); len(list) != 1 || list[0]["campaign"] != "c" {
		t.Errorf("%v", list)
	}
	refusesExport()
	a = s.enqueue("revoke", "--campaign", "c", "--yes")
	if a.exit != 0 || !strings.Contains(a.stdout+a.stderr, "The campaign is uploading and goes on") {
		t.Errorf("revoke: %+v", a)
	}
	_, err := s.ledgers.Move(t.Context(), "c") // as a worker does
	testkit.NoError(t, err)
	want(t, s.ok("campaign", "status", "c"), map[string]any{"state": "running", "recipients": 600})
	if a := s.enqueue("campaign", "export", "c"); a.exit != 0 || strings.Count(a.stdout, "\n") != 601 {
		t.Errorf("export: exit %d, %s", a.exit, a.stderr)
	}
}

// TestAStartOfACampaignThatHasFinished is that of those who are new; one that runs takes none, rehearsed or not.
func TestAStartOfACampaignThatHasFinished(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 1, 1)
	file := s.write("more.csv", people("more", 2))
	s.ok("bulk-invite", file, "--campaign", "spring", "--in", "2h")
	want(t, s.ok("campaign", "status", "spring"), map[string]any{"state": "scheduled", "recipients": 3})
	s.ok("bulk-invite", file, "--campaign", "autumn")
	for _, more := range [][]string{nil, {"--dry-run", "--clerk-secret-key", testKey, "--clerk-api-url", s.clerkURL}} {
		a := s.enqueue(append([]string{"bulk-invite", file, "--campaign", "autumn", "--in", "2h"}, more...)...)
		if a.exit != 2 || !strings.Contains(a.stderr, "has begun already; leave the time out") {
			t.Errorf("%q: exit %d\n%s", more, a.exit, a.stderr)
		}
	}
}
