package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Ports of tests lie below those that systems give to whoever asks for any port, and to connections that go out: a
// server that is down for a while finds its port free again. So does the port 10,000 above, on which a node of a Redis
// Cluster also listens.
const (
	firstPort = 10_000
	lastPort  = 19_999
)

// FreeAddr returns a loopback address on which nobody listens, and that no process of a test is given as long as this
// one lives.
func FreeAddr() (string, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if claimPort(port) != nil {
			continue
		}
		if listener, err := net.Listen("tcp", addr); err == nil {
			return addr, listener.Close()
		}
	}
	return "", errors.New("looking for a free port: every one that was tried is taken")
}

// claimPort takes the UDP port of that number, which no server of a test uses, as a mark for other processes. The
// socket is never closed: the claim ends with the process, however that ends.
func claimPort(port int) error {
	syscall.ForkLock.RLock() // a child must not keep the claim
	defer syscall.ForkLock.RUnlock()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("claiming port %d: %w", port, err)
	}
	syscall.CloseOnExec(socket)
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = syscall.Close(socket)
		return fmt.Errorf("claiming port %d: %w", port, err)
	}
	return nil
}

// onFreePort starts a server on a free port, and tries again with another one: a program that is no test of ours may
// take it first.
func onFreePort(serve func(addr string) error) error {
	const attempts = 3
	var err error
	for range attempts {
		var addr string
		if addr, err = FreeAddr(); err != nil {
			return err
		}
		if err = serve(addr); err == nil {
			return nil
		}
	}
	return err
}
