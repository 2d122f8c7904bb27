package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

func TestAnUnboundNamespaceIsWarnedOfAndEnqueuedInto(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	const warning = "no worker has run yet, so its limits are unknown (namespace test)"
	enqueue := func(args ...string) (stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append(args, "--namespace", "test", "--redis-url", "redis://"+server.Addr())
		stdin := strings.NewReader("email_address\nbob@example.com\n")
		if exit := run(t.Context(), args, stdin, &out, &errs); exit != 0 || out.Len() == 0 {
			t.Errorf("%v: exit %d, %s%s", args, exit, out.String(), errs.String())
		}
		return errs.String()
	}
	for _, args := range []string{"invite ada@example.com", "bulk-invite -"} {
		if said := enqueue(strings.Fields(args)...); !strings.Contains(said, warning) {
			t.Errorf("%s: no warning in %q", args, said)
		}
	}
	if said := enqueue("sync-list", "--json"); said != "" {
		t.Errorf("with --json: %q", said)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	testkit.NoError(t, store.NewWorkers(rdb, "test").Announce(t.Context(), store.Worker{ID: "a"}))
	if said := enqueue("sync-list"); said != "" {
		t.Errorf("while one runs: %q", said)
	}
}

// TestASandboxThatDoesNotRunIsSaid, and not that REDIS_URL is wrong, which --sandbox does not read.
func TestASandboxThatDoesNotRunIsSaid(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	out := &output{stdout: io.Discard, stderr: &stderr, sandbox: true}
	_, err := net.Dial("tcp", "127.0.0.1:1")
	if exit := out.fail(err); exit != 1 || strings.Contains(stderr.String(), "REDIS_URL") ||
		!strings.Contains(stderr.String(), "Redis cannot be reached (does worker --sandbox run?)") {
		t.Errorf("exit %d, %s", exit, stderr.String())
	}
}
