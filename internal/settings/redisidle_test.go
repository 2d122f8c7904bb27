//go:build unix

package settings

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

// tunnel has TLS before a Redis that has none, as stunnel does.
type tunnel struct {
	addr string
	mu   sync.Mutex
	open map[net.Conn]bool
	all  int
}

func newTunnel(t *testing.T, redisAddr string) (at *tunnel, caFile string) {
	t.Helper()
	pair, caFile := certificate(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	testkit.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	at = &tunnel{addr: listener.Addr().String(), open: map[net.Conn]bool{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go at.carry(conn, redisAddr)
		}
	}()
	return at, caFile
}

// carry carries one connection on.
func (at *tunnel) carry(conn net.Conn, redisAddr string) {
	defer conn.Close()
	plain, err := net.Dial("tcp", redisAddr)
	if err != nil {
		return
	}
	defer plain.Close()
	at.mu.Lock()
	at.open[conn], at.all = true, at.all+1
	at.mu.Unlock()
	go func() { _, _ = io.Copy(conn, plain) }()
	_, _ = io.Copy(plain, conn)
	at.mu.Lock()
	delete(at.open, conn)
	at.mu.Unlock()
}

// closeIdle closes every connection, and tells how many there were.
func (at *tunnel) closeIdle() int {
	at.mu.Lock()
	defer at.mu.Unlock()
	for conn := range at.open {
		_ = conn.Close()
	}
	return len(at.open)
}

// TestClosedConnectionsWithTLSFailNothing: a tunnel closes what was idle for its timeout, and so does one that is
// started anew.
func TestClosedConnectionsWithTLSFailNothing(t *testing.T) {
	t.Parallel()
	at, caFile := newTunnel(t, miniredis.RunT(t).Addr())
	client := open(t, "rediss://"+at.addr, caFile)
	const many = 20
	var begun, ended sync.WaitGroup
	begun.Add(many)
	for range many {
		ended.Go(func() { // with a connection of its own
			_ = client.Watch(t.Context(), func(*redis.Tx) error {
				begun.Done()
				begun.Wait()
				return nil
			}, "key")
		})
	}
	ended.Wait()
	if n := at.closeIdle(); n < many {
		t.Errorf("only %d connections were open", n)
	}
	testkit.NoError(t, client.Set(t.Context(), "key", "value", 0).Err())
}

// TestAConnectionWithTLSIsKept while nobody closes it.
func TestAConnectionWithTLSIsKept(t *testing.T) {
	t.Parallel()
	at, caFile := newTunnel(t, miniredis.RunT(t).Addr())
	client := open(t, "rediss://"+at.addr, caFile)
	for range 20 {
		testkit.NoError(t, client.Set(t.Context(), "key", "value", 0).Err())
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.all != 1 {
		t.Errorf("%d connections were opened", at.all)
	}
}
