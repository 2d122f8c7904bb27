package worker

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// starting is a worker that has not been run yet, of a namespace that belongs to live keys.
func starting(t *testing.T, log io.Writer) (*Worker, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	server.Set(store.Keys("test").KeyKind(), "live")
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	w, err := New(Config{
		Redis: rdb, RedisOnce: rdb, Namespace: "test",
		Clerk: &fakeClerk{}, KeyFingerprint: "k", Embedded: true, Health: NewHealth(),
		Metrics: NewMetrics(prometheus.NewRegistry(), "test"), Log: zerolog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, server
}

// whenSaid calls do when a text is written.
type whenSaid struct {
	testkit.Buffer
	text string
	do   func()
}

func (w *whenSaid) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.do()
	}
	return w.Buffer.Write(p)
}

func TestNothingIsStartedInANamespaceThatWasNotChecked(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	log := &whenSaid{text: "waiting for Redis"}
	w, server := starting(t, log)
	log.do = func() { // it is stopped before Redis answers
		stop()
		server.SetError("")
	}
	server.SetError("ERR away")
	if err := w.Run(ctx, "test"); err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	if said := log.String(); !strings.Contains(said, log.text) || strings.Contains(said, "worker runs") {
		t.Errorf("it started:\n%s", said)
	}
	if keys := server.Keys(); len(keys) != 1 {
		t.Errorf("it wrote %v", keys)
	}
}

func TestAnotherKindsNamespaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	w, server := starting(t, io.Discard)
	if err := w.Run(t.Context(), "test"); !errors.Is(err, policy.ErrNamespace) {
		t.Errorf("the worker ended with %v", err)
	}
	if keys := server.Keys(); len(keys) != 1 {
		t.Errorf("it wrote %v", keys)
	}
}
