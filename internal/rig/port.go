package rig

import (
	"fmt"
	"net"
)

// portAttempts is how often a server is started on another port: any other program may take the one that was free.
const portAttempts = 3

// onFreePort starts a server on a loopback port that was free a moment ago.
func onFreePort(serve func(addr string) error) error {
	var err error
	for range portAttempts {
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

// FreeAddr is a loopback address whose port is free at this moment.
func FreeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
