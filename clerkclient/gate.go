package clerkclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"time"
)

// Why a connection refused to write.
var (
	errCallOver = errors.New("the call is over")
	errReplayed = errors.New("the request may have been sent already: it is not sent again")
)

// The states of a call.
const (
	unsent int32 = iota // no byte of the request has been written
	sent                // a byte may have been written
	over                // the call has returned: nothing more is written for it
)

// call is one call to Clerk as its connection sees it. It keeps two promises that net/http alone does not: no byte is
// written after the deadline, and a request of which a byte may have been written is not written again. (net/http
// repeats a GET whose connection breaks before the answer, which would be a second call on one permit.)
type call struct {
	deadline time.Time
	abort    context.CancelCauseFunc
	state    atomic.Int32
}

// gotConn is httptrace's GotConn: net/http has chosen a connection for the call and will write next.
func (c *call) gotConn(info httptrace.GotConnInfo) {
	g, ok := gateOf(info.Conn)
	if !ok || c.state.Load() != unsent {
		c.abort(errReplayed)
		_ = info.Conn.SetWriteDeadline(time.Unix(1, 0)) // past: the write that follows fails without writing
		return
	}
	g.call.Store(c)
	// A write that blocks ends at the deadline too. The error is a closed connection's, which the write meets next.
	_ = info.Conn.SetWriteDeadline(c.deadline)
}

// beginWrite is the last check before bytes are written. It reports whether these may be the call's first.
func (c *call) beginWrite() (first bool, err error) {
	if !time.Now().Before(c.deadline) {
		return false, os.ErrDeadlineExceeded
	}
	if c.state.CompareAndSwap(unsent, sent) {
		return true, nil
	}
	if c.state.Load() == over {
		return false, errCallOver
	}
	return false, nil
}

// end forbids further writes and reports whether a byte may have been written: false is certain.
func (c *call) end() (maybeSent bool) { return c.state.Swap(over) == sent }

// gate is a connection that asks the call it carries before every write. It lies below TLS, so that its check comes
// after all buffering and encryption. HTTP/1.1 gives a connection one call at a time; under HTTP/2 neither the deadline
// nor a reset would be one call's.
type gate struct {
	net.Conn
	call atomic.Pointer[call] // nil until the first call: handshakes pass
}

func (g *gate) Write(p []byte) (int, error) {
	c := g.call.Load()
	if c == nil {
		return g.Conn.Write(p)
	}
	first, err := c.beginWrite()
	if err != nil {
		return 0, err
	}
	n, err := g.Conn.Write(p)
	if first && n == 0 && err != nil {
		c.state.CompareAndSwap(sent, unsent) // a dead kept-alive connection: net/http may try another
	}
	return n, err
}

// gateOf finds the gate below TLS (twice TLS behind an https proxy).
func gateOf(conn net.Conn) (*gate, bool) {
	for {
		switch c := conn.(type) {
		case *gate:
			return c, true
		case *tls.Conn:
			conn = c.NetConn()
		default:
			return nil, false
		}
	}
}
