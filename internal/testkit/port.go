package testkit

import (
	"fmt"
	"net"
)

// FreeAddr returns a loopback address whose port is free at this moment.
func FreeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// onFreePort starts a server on a free port, and tries again with another one: any program may take a free port first.
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
