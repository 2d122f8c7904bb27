package worker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
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
	return startingAt(t, server.Addr(), log), server
}

// startingAt is a worker that has not been run yet.
func startingAt(t *testing.T, addr string, log io.Writer) *Worker {
	t.Helper()
	return startingOn(t, &redis.Options{Addr: addr, MaxRetries: -1}, log)
}

func startingOn(t *testing.T, at *redis.Options, log io.Writer) *Worker {
	t.Helper()
	rdb := redis.NewClient(at)
	t.Cleanup(func() { _ = rdb.Close() })
	w, err := New(Config{
		Redis: rdb, RedisOnce: rdb, Namespace: "test",
		Clerk: &fakeClerk{}, KeyFingerprint: "k", Embedded: true, Health: NewHealth(),
		Metrics: NewMetrics(prometheus.NewRegistry(), "test"), Log: zerolog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
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

// answering is the address of a server that answers the first word of a command as told, and closes the connection at
// every other command.
func answering(t *testing.T, answers map[string]string) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	testkit.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		lines := bufio.NewScanner(conn)
		for lines.Scan() && strings.HasPrefix(lines.Text(), "*") && lines.Scan() && lines.Scan() {
			answer, known := answers[strings.ToUpper(lines.Text())]
			if _, err := io.WriteString(conn, answer); err != nil || !known {
				return
			}
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().String()
}

// TestWhoDoesNotKnowACommandIsRefused: a server that is like Redis, and a proxy that passes on some commands only.
func TestWhoDoesNotKnowACommandIsRefused(t *testing.T) {
	t.Parallel()
	lacks := testkit.RunRedis(t, "--rename-command", "LPOS", "")
	for _, c := range []struct{ addr, says string }{
		{lacks.Addr, "ERR unknown command LPOS"},
		{answering(t, map[string]string{"PING": "+PONG\r\n"}), "it closes the connection at HELLO"},
	} {
		err := startingAt(t, c.addr, io.Discard).Run(t.Context(), "test")
		if !errors.Is(err, ErrCommands) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("not %s: %v", c.says, err)
		}
	}
}

// TestADatabaseThatIsNotThereIsTold: no waiting makes one.
func TestADatabaseThatIsNotThereIsTold(t *testing.T) {
	t.Parallel()
	at := &redis.Options{Addr: testkit.RunRedis(t).Addr, DB: 99}
	if err := startingOn(t, at, io.Discard).Run(t.Context(), "test"); !errors.Is(err, ErrDatabase) {
		t.Errorf("not told: %v", err)
	}
}

// TestWhoSpeaksOtherwiseIsWaitedFor: a proxy without a Redis closes every connection, and one for HTTP answers as such.
// The log says what to ask.
func TestWhoSpeaksOtherwiseIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answers map[string]string
		ask     string
	}{
		{nil, "has a proxy no Redis behind it"},
		{map[string]string{"HELLO": "HTTP/1.1 400 Bad request\r\n"}, "or a proxy for HTTP"},
	} {
		ctx, stop := context.WithCancel(t.Context())
		log := &whenSaid{text: "waiting for Redis", do: stop}
		if err := startingAt(t, answering(t, c.answers), log).Run(ctx, "test"); err != nil {
			t.Errorf("%s: the worker ended with %v", c.ask, err)
		}
		if !strings.Contains(log.String(), c.ask) {
			t.Errorf("not %s:\n%s", c.ask, log.String())
		}
	}
}
