//go:build unix

package settings

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
)

// errClosed means that a connection was closed while it was idle.
var errClosed = errors.New("it was closed while it was idle")

// watchIdle lets go-redis see that a connection with TLS was closed, as it sees that of one without. It looks before it
// uses a connection again, but not at one with TLS: it would learn of each by a command that fails. It tries a command
// four times, so a pool of closed connections fails a quarter as many commands.
func watchIdle(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		if under, ok := secure.NetConn().(syscall.Conn); ok {
			return idle{secure, under}
		}
	}
	return conn
}

// idle is a connection with TLS whose socket go-redis may look at while nothing is under way.
type idle struct {
	*tls.Conn
	under syscall.Conn
}

// SyscallConn is what go-redis asks for.
func (c idle) SyscallConn() (syscall.RawConn, error) {
	socket, err := c.under.SyscallConn()
	return idleSocket{socket}, err
}

// idleSocket is a socket on which nothing should have arrived.
type idleSocket struct{ syscall.RawConn }

// Read does not let go-redis read: it would take the end of TLS for a message, and wait for the rest of it.
func (s idleSocket) Read(func(fd uintptr) bool) error {
	var closed error
	err := s.RawConn.Read(func(fd uintptr) bool {
		var one [1]byte
		if _, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK); !errors.Is(err, syscall.EAGAIN) {
			closed = errClosed // also if something arrived: that is the end of TLS, or an answer that came too late
		}
		return true
	})
	return errors.Join(err, closed)
}
