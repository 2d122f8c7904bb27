package e2e

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// path is a way to a server that can fall silent: nothing arrives any more, and nobody is told.
type path struct {
	net.Listener
	mu    sync.Mutex
	quiet bool
	conns []net.Conn
}

func startPath(t *testing.T, to string) *path {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	testkit.NoError(t, err)
	p := &path{Listener: listener}
	t.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, conn := range p.conns {
			conn.Close()
		}
	})
	go func() {
		for {
			ours, err := listener.Accept()
			if err != nil {
				return
			}
			theirs, err := net.Dial("tcp", to)
			if err != nil {
				ours.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, ours, theirs)
			p.mu.Unlock()
			go p.carry(ours, theirs)
			go p.carry(theirs, ours)
		}
	}()
	return p
}

// carry copies what arrives, until the path falls silent.
func (p *path) carry(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		quiet := p.quiet
		p.mu.Unlock()
		if n > 0 && !quiet {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

func (p *path) fallSilent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = true
}

// TestStoppingTakesLessThan8Seconds: whatever Redis does meanwhile. One call hangs, one invite waits, and a campaign is
// under way; all of it is done once when Redis is back.
func TestStoppingTakesLessThan8Seconds(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(*system, *path) (back func()){
		"hung": func(s *system, _ *path) func() {
			testkit.NoError(s.t, s.redis.Hang())
			return func() { testkit.NoError(s.t, s.redis.GoOn()) }
		},
		"unreachable": func(_ *system, p *path) func() {
			p.fallSilent()
			return func() {}
		},
		"full": func(s *system, _ *path) func() {
			limit := func(value string) {
				testkit.NoError(s.t, s.rdb.ConfigSet(s.t.Context(), "maxmemory", value).Err())
			}
			limit("1mb")
			return func() { limit("0") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=4/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=1",
				"USHER_TIMEOUT=20s", "USHER_LOG_LEVEL=info")
			way := startPath(t, s.redis.Addr)
			w := s.worker("REDIS_URL=redis://" + way.Addr().String())
			s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 40)), "--campaign", "spring")
			testkit.Eventually(t, "the campaign waits", func() bool { return s.campaign("spring").Sent >= 10 })
			hang := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Endpoint: clerktest.Create, Times: 1})
			s.ok("invite", "ada@example.com", "--id", "hangs")
			testkit.Eventually(t, "a call hangs", func() bool {
				faults := s.clerk.Faults()
				return len(faults) == 0 || faults[0].Struck > 0
			})
			s.clerk.ClearFault(hang)
			back := trouble(s, way)
			took, exit := w.stop(syscall.SIGTERM)
			t.Logf("%s after SIGTERM", took)
			if exit != 0 || took > 8*time.Second {
				t.Errorf("exit %d after %s", exit, took)
			}
			if lines := strings.Count(w.Log(), "\n"); lines > 40 {
				t.Errorf("%d lines of log", lines)
			}
			back()
			s.worker("USHER_LIMIT_CREATE=0", "USHER_LIMIT_BULK=0")
			const soon = 150 * time.Second // asynq's lease, its grace and its recoverer's round
			began := time.Now()
			testkit.NoError(t, testkit.Poll(t.Context(), 100*time.Millisecond, soon, "the invite is done",
				func(context.Context) (bool, error) { return s.state("hangs") == tasks.StateDone, nil }))
			t.Logf("done %s after the next start", time.Since(began).Round(time.Second))
			testkit.Eventually(t, "all is done", func() bool {
				return s.campaign("spring").State == tasks.CampaignFinished
			})
			seen := map[string]int{}
			for _, sent := range s.clerk.Ledger() {
				if seen[sent.Address]++; seen[sent.Address] > 1 {
					t.Errorf("%s was invited twice", sent.Address)
				}
			}
			if len(seen) != 41 {
				t.Errorf("%d were invited, want 41", len(seen))
			}
		})
	}
}

// TestAWorkerThatWaitsForRedisStopsSoon: nothing has ever answered.
func TestAWorkerThatWaitsForRedisStopsSoon(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	way := startPath(t, s.redis.Addr)
	way.fallSilent()
	w := s.worker("REDIS_URL=redis://"+way.Addr().String(), "USHER_LOG_LEVEL=info")
	testkit.Eventually(t, "it waits", func() bool { return strings.Contains(w.Log(), "waiting for Redis") })
	if took, exit := w.stop(syscall.SIGTERM); exit != 0 || took > 8*time.Second {
		t.Errorf("exit %d after %s", exit, took)
	} else {
		t.Logf("%s after SIGTERM", took)
	}
}
