package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// pastClock is a sandbox's clock that a test sets back for as long as it seeds.
type pastClock struct{ behind atomic.Int64 }

func (c *pastClock) now() time.Time { return time.Now().Add(-time.Duration(c.behind.Load())) }

// seed adds invitations, each a while after the one before, of which the first is so old; then the clock is right
// again.
func (s *system) seed(c *pastClock, n int, oldest, apart time.Duration) []clerktest.Invitation {
	seeded := make([]clerktest.Invitation, n)
	for i := range seeded {
		c.behind.Store(int64(oldest - time.Duration(i)*apart))
		seeded[i] = s.clerk.AddInvitation(fmt.Sprintf("seeded%d@example.com", i))
	}
	c.behind.Store(0)
	return seeded
}

// churn adds an invitation and revokes the three oldest seeded ones that are pending, every 20 ms. stop ends that and
// tells how many were revoked.
func (s *system) churn(seeded []clerktest.Invitation) (stop func() int) {
	clerk, err := clerkclient.New(clerkclient.Config{Key: testKey, BaseURL: s.clerkURL})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(clerk.Close)
	ctx, cancel := context.WithCancel(s.t.Context())
	var calls sync.WaitGroup
	touched := 0
	calls.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for touched < len(seeded)-200 {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			s.clerk.AddInvitation(fmt.Sprintf("added%d@example.com", touched))
			for range 3 {
				id := seeded[touched].ID
				touched++
				calls.Go(func() {
					if _, _, err := clerk.Revoke(s.t.Context(), id); err != nil {
						s.t.Errorf("revoking: %v", err)
					}
				})
			}
		}
	})
	return func() int {
		cancel()
		calls.Wait()
		return touched
	}
}

// TestASyncIsWholeWhileRowsComeAndLeave: the limit spreads the pages over seconds, so that more rows slide than pages
// overlap.
func TestASyncIsWholeWhileRowsComeAndLeave(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]time.Duration{"one after the other": time.Millisecond, "all at one time": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &pastClock{}
			s := start(t, clerktest.Config{MinLatency: 20 * time.Millisecond, MaxLatency: 60 * time.Millisecond,
				Now: clock.now}, "USHER_LIMIT_OVERALL=10/1s")
			seeded := s.seed(clock, 3000, time.Minute, apart)
			w := s.worker()
			stop := s.churn(seeded)
			testkit.Eventually(t, "the list changes", func() bool { return s.clerk.Stats().Invitations > len(seeded) })
			added := s.clerk.Stats().Invitations
			want(t, s.ok("sync-list", "--wait"), map[string]any{"state": "done"})
			touched := stop()

			status := map[any]any{}
			for _, inv := range s.list("invitations") {
				if status[inv["id"]] != nil {
					t.Errorf("%v is there twice", inv["id"])
				}
				status[inv["id"]] = inv["status"]
			}
			for i, inv := range seeded {
				if got := status[inv.ID]; got == nil || i >= touched && got != "pending" {
					t.Errorf("row %d of %d is %v, and %d were revoked", i, len(seeded), got, touched)
				}
			}
			if len(status) < added {
				t.Errorf("%d rows, but %d were there at the beginning", len(status), added)
			}
			if figures := ended(t, w, "sync-list"); figures["slides"] == 0.0 || touched < 40 {
				t.Errorf("no row slid, so this shows nothing: %d were revoked, %v", touched, figures)
			}
		})
	}
}

// ended gives the last line that a worker logged about the end of a task of a type.
func ended(t *testing.T, w *process, kind string) (line map[string]any) {
	t.Helper()
	for text := range strings.Lines(w.Log()) {
		var fields map[string]any
		if json.Unmarshal([]byte(text), &fields) == nil && fields["message"] == "task ended" &&
			fields["type"] == kind {
			line = fields
		}
	}
	if line == nil {
		t.Fatal("the worker logged no such end")
	}
	return line
}

func TestEachSyncShowsWhatHasChanged(t *testing.T) {
	t.Parallel()
	clock := &pastClock{}
	s := start(t, clerktest.Config{Now: clock.now}, "USHER_LIMIT_OVERALL=0")
	seeded := s.seed(clock, 2600, 50*time.Hour, time.Minute)
	for _, inv := range seeded[:2400] {
		if err := s.clerk.Expire(inv.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.worker()
	replaced := s.earlierCopy()
	want(t, s.ok("sync-list", "--wait"), map[string]any{"state": "done"})
	if ttl := s.rdb.TTL(t.Context(), replaced).Val(); ttl <= 0 {
		t.Errorf("the earlier copy stays: %s", ttl)
	}
	if err := s.clerk.Accept(seeded[2500].ID); err != nil {
		t.Fatal(err)
	}
	s.ok("revoke", seeded[2501].ID, "--wait")
	newest := s.clerk.AddInvitation("newest@example.com")
	want(t, s.ok("sync-list", "--wait"), map[string]any{"state": "done"})
	listed := s.list("invitations")
	if len(listed) != 2601 || listed[0]["id"] != newest.ID || listed[2600]["id"] != seeded[0].ID {
		t.Fatalf("%d rows, not the newest first: %v", len(listed), listed[0])
	}
	for i, status := range map[int]string{2399: "expired", 2400: "pending", 2500: "accepted", 2501: "revoked"} {
		want(t, listed[2600-i], map[string]any{"id": seeded[i].ID, "status": status})
	}
	for _, inv := range listed {
		if _, leaked := inv["url"]; leaked || inv["synced_at"] == nil {
			t.Fatalf("url leaked or no synced_at in %v", inv)
		}
	}
	if got := s.list("invitations", "--query", "SEEDED77@"); len(got) != 1 {
		t.Errorf("query: %v", got)
	}
	exported := s.enqueue("invitations", "--csv").Stdout
	if n := strings.Count(exported, "\n"); n != 2602 || strings.Contains(exported, "ticket") {
		t.Errorf("CSV has %d lines, want 2602 and no ticket", n)
	}
	for key, value := range s.dump() {
		if strings.Contains(value, "ticket") {
			t.Fatalf("Redis key %s holds a ticket", key)
		}
	}
	shown := s.enqueue("invitations", "--status", "expired")
	if !strings.Contains(shown.Stderr, "Only the first 50 are shown") ||
		!strings.Contains(shown.Stdout, "The newest 50 invitations, as synced at") ||
		!strings.Contains(shown.Stdout, "s ago.") {
		t.Errorf("a person is shown %s", tail(shown.Stdout, 300))
	}
}

// earlierCopy puts a copy of another layout there, which is shown to nobody, and gives its key.
func (s *system) earlierCopy() (key string) {
	s.t.Helper()
	ctx, prefix := s.t.Context(), "usher:{directory}:"
	s.rdb.HSet(ctx, prefix+"copy:old", "inv_1", `{"id":"inv_1","email_address":"old@example.com"}`)
	s.rdb.HSet(ctx, prefix+"meta", "copy", "old", "synced_at", time.Now().UnixMilli(), "count", 1)
	got := s.enqueue("invitations")
	if got.Exit != 0 || !strings.Contains(got.Stdout, "earlier version") || strings.Contains(got.Stdout, "old@") {
		s.t.Errorf("of an earlier copy a person is shown %+v", got)
	}
	return prefix + "copy:old"
}

// TestAListOfAnyLengthTakesLittleMemory: of the worker that syncs it, and of the command that exports it.
func TestAListOfAnyLengthTakesLittleMemory(t *testing.T) {
	t.Parallel()
	if testkit.Race {
		t.Skip("the race detector takes memory of its own")
	}
	const few, many, growth = 2000, 24_000, 4 // rows, rows, MB; that many rows are more than twice as much
	clock := &pastClock{}
	s := start(t, clerktest.Config{Now: clock.now}, "USHER_LIMIT_OVERALL=0", "USHER_LOG_LEVEL=info")
	s.seed(clock, few, 2*time.Hour, time.Second)
	w := s.worker("GOGC=100") // so that little is garbage
	s.ok("sync-list", "--wait")
	synced, exported := memory(t, w.PID()), s.exportMemory(few)
	s.seed(clock, many-few, time.Hour, time.Millisecond)
	s.ok("sync-list", "--wait")
	if more := memory(t, w.PID()); more > synced+growth {
		t.Errorf("the worker had %d MB after %d rows and %d MB after %d", synced, few, more, many)
	}
	if more := s.exportMemory(many); more > exported+growth {
		t.Errorf("the export had %d MB at %d rows and %d MB at %d", exported, few, more, many)
	}
}

// exportMemory exports a directory of so many rows and gives how much memory that took by the time when nearly all was
// read.
func (s *system) exportMemory(rows int) (mb int) {
	s.t.Helper()
	from, to, err := os.Pipe()
	testkit.NoError(s.t, err)
	defer from.Close()
	c := s.command("enqueue", nil, "invitations", "--json")
	c.Stdout = to
	export := s.begin(c)
	_ = to.Close() // the command has its own handle
	lines := bufio.NewScanner(from)
	n := 0
	for ; lines.Scan(); n++ {
		if n == rows-1000 { // what is left fills the pipe, so that the command waits
			mb = memory(s.t, export.PID())
		}
	}
	if exit := export.exit(); exit != 0 || n != rows {
		s.t.Errorf("%d lines of %d, exit %d", n, rows, exit)
	}
	return mb
}

// memory gives the most memory that a process had so far, in MB.
func memory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no /proc here")
	}
	_, after, found := strings.Cut(string(status), "VmHWM:")
	if !found {
		t.Fatalf("process %d: %v, %s", pid, err, status)
	}
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}
