package clerkclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// lateContext returns a context whose call gets its connection in time and would write after its deadline.
func lateContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	// The hooks of a caller run after the client's, and before the write.
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		<-ctx.Done()
	}})
}

// TestNothingIsWrittenAfterTheDeadline counts the bytes that arrive.
func TestNothingIsWrittenAfterTheDeadline(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		arrived := make(chan int64, 1)
		c := clientTo(t, rawServer(t, func(conn net.Conn) {
			n, _ := io.Copy(io.Discard, conn)
			arrived <- n
		}))
		_, err := op.do(lateContext(t), c)
		if e := asError(t, err); e.Code != CodeTimeout || e.Sent || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v: code %q, sent %t", op.name, e, e.Code, e.Sent)
		}
		c.Close()
		select {
		case n := <-arrived:
			if n != 0 {
				t.Errorf("%s: %d bytes arrived", op.name, n)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: no connection was made in time", op.name)
		}
	}
}

func TestNothingIsWrittenAfterTheDeadlineOverTLS(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	c := clientTo(t, server.URL)
	c.transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	_, err := operations()[0].do(lateContext(t), c)
	if e := asError(t, err); e.Code != CodeTimeout || e.Sent {
		t.Errorf("%v: code %q, sent %t", e, e.Code, e.Sent)
	}
	c.Close()
	server.Close() // waits for whatever has arrived
	if asked.Load() != 0 {
		t.Error("the request arrived")
	}
}

// TestRequestsAreWrittenOnce: a server reads a request on a kept connection and closes it. net/http would repeat the
// GETs. That would be a second call on one permit.
func TestRequestsAreWrittenOnce(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			c := clientTo(t, rawServer(t, func(conn net.Conn) {
				r := bufio.NewReader(conn)
				for n := range 2 {
					if _, err := readRequest(r); err != nil {
						return
					}
					if asked.Add(1); n == 0 {
						_, _ = io.WriteString(conn, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
					}
				}
			}))
			if _, err := op.do(t.Context(), c); asError(t, err).Status != 503 {
				t.Fatalf("first call: %v", err)
			}
			_, err := op.do(t.Context(), c)
			if e := asError(t, err); e.Code != CodeConnectionClosed || !e.Sent || e.Outcome != Transient ||
				!errors.Is(err, io.EOF) {
				t.Errorf("second call: %v: code %q, sent %t", e, e.Code, e.Sent)
			}
			if asked.Load() != 2 {
				t.Errorf("the server read %d requests, want 2", asked.Load())
			}
		})
	}
}

// brokenConn fails its first writes and counts the rest.
type brokenConn struct {
	net.Conn
	failures int
	wrote    int
}

func (b *brokenConn) Write(p []byte) (int, error) {
	if b.failures > 0 {
		b.failures--
		return 0, io.ErrClosedPipe
	}
	b.wrote += len(p)
	return len(p), nil
}

func (b *brokenConn) SetWriteDeadline(time.Time) error { return nil }

func newCall(in time.Duration) *call {
	return &call{deadline: time.Now().Add(in), abort: func(error) {}}
}

func TestGate(t *testing.T) {
	t.Parallel()
	carry := func(g *gate, c *call) { c.gotConn(httptrace.GotConnInfo{Conn: g}) }

	t.Run("before any call, handshakes pass", func(t *testing.T) {
		t.Parallel()
		conn := &brokenConn{}
		if _, err := (&gate{Conn: conn}).Write([]byte("hello")); err != nil || conn.wrote != 5 {
			t.Errorf("%v, %d bytes", err, conn.wrote)
		}
	})
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		conn := &brokenConn{}
		g, c := &gate{Conn: conn}, newCall(time.Minute)
		carry(g, c)
		for range 2 {
			if _, err := g.Write([]byte("hello")); err != nil {
				t.Error(err)
			}
		}
		if conn.wrote != 10 || !c.end() {
			t.Errorf("%d bytes", conn.wrote)
		}
	})
	t.Run("late", func(t *testing.T) {
		t.Parallel()
		conn := &brokenConn{}
		g, c := &gate{Conn: conn}, newCall(-time.Nanosecond)
		carry(g, c)
		if _, err := g.Write([]byte("hello")); !errors.Is(err, os.ErrDeadlineExceeded) || conn.wrote != 0 || c.end() {
			t.Errorf("%v, %d bytes", err, conn.wrote)
		}
	})
	t.Run("after the call", func(t *testing.T) {
		t.Parallel()
		conn := &brokenConn{}
		g, c := &gate{Conn: conn}, newCall(time.Minute)
		carry(g, c)
		if c.end() {
			t.Error("a call without a write counts as sent")
		}
		if _, err := g.Write([]byte("hello")); !errors.Is(err, errCallOver) || conn.wrote != 0 {
			t.Errorf("%v, %d bytes", err, conn.wrote)
		}
	})
	t.Run("a dead connection leaves it unsent", func(t *testing.T) {
		t.Parallel()
		c := newCall(time.Minute)
		dead, alive := &gate{Conn: &brokenConn{failures: 1}}, &gate{Conn: &brokenConn{}}
		carry(dead, c)
		if _, err := dead.Write([]byte("hello")); err == nil || c.state.Load() != unsent {
			t.Errorf("%v, state %d", err, c.state.Load())
		}
		carry(alive, c)
		if _, err := alive.Write([]byte("hello")); err != nil || !c.end() {
			t.Errorf("the second connection: %v", err)
		}
	})
	t.Run("a failure after the first bytes does not", func(t *testing.T) {
		t.Parallel()
		conn := &brokenConn{}
		g, c := &gate{Conn: conn}, newCall(time.Minute)
		carry(g, c)
		_, _ = g.Write([]byte("hello"))
		conn.failures = 1
		if _, err := g.Write([]byte("world")); err == nil || !c.end() {
			t.Errorf("%v", err)
		}
	})
	t.Run("what was sent is not carried by a second connection", func(t *testing.T) {
		t.Parallel()
		var why error
		c := newCall(time.Minute)
		c.abort = func(err error) { why = err }
		first, second := &gate{Conn: &brokenConn{}}, &gate{Conn: &brokenConn{}}
		carry(first, c)
		_, _ = first.Write([]byte("hello"))
		carry(second, c)
		if !errors.Is(why, errReplayed) || second.call.Load() != nil {
			t.Errorf("aborted with %v", why)
		}
	})
}
