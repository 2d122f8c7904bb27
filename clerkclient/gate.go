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

// The errors of a connection that refuses to write.
var (
	errCallOver = errors.New("the call is over")
	errReplayed = errors.New("the request may have been sent already: it is not sent again")
)

// The states of a call.
const (
	unsent int32 = iota // no byte of the request has been written
	sent                // a byte may have been written
	over                // the call has returned: nothing more may be written for it
)

// call is one call to Clerk, as its connection sees it. It keeps two promises that net/http does not. No byte is
// written after the deadline. A request is not written again if a byte of it may have been written. (net/http repeats
// a GET whose connection breaks before the answer. That would be a second call on one permit.)
type call struct {
	deadline time.Time
	abort    context.CancelCauseFunc
	state    atomic.Int32
}

// gotConn is httptrace's GotConn: net/http has chosen a connection for the call and writes next.
func (c *call) gotConn(info httptrace.GotConnInfo) {
	g, ok := gateOf(info.Conn)
	if !ok || c.state.Load() != unsent {
		c.abort(errReplayed)
		_ = info.Conn.SetWriteDeadline(time.Unix(1, 0)) // in the past: the next write fails and writes nothing
		return
	}
	g.call.Store(c)
	// A write that blocks must end at the deadline too. This fails only if the connection is closed; then so does the
	// write.
	_ = info.Conn.SetWriteDeadline(c.deadline)
}

// beginWrite is the last check before bytes are written. It reports whether these may be the first of the call.
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

// end forbids further writes. It reports whether a byte may have been written; false is certain.
func (c *call) end() (maybeSent bool) { return c.state.Swap(over) == sent }

// gate is a connection that asks its call before every write. It lies below TLS, so its check comes after all
// buffering and encryption. It needs HTTP/1.1, which gives a connection one call at a time.
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
		c.state.CompareAndSwap(sent, unsent) // a kept connection that was dead: net/http may try another
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
