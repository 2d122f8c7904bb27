package clerktest

import (
	"net"
	"net/http"
	"strings"
)

// ControlPrefix is the path under which [Sandbox.Mux] serves [Sandbox.Control].
const ControlPrefix = "/_sandbox"

// Mux serves Clerk's API under /v1 and under no prefix, and the control under /_sandbox/. It is for a sandbox in a
// process of its own. The control has no password: serve it on a loopback address.
func (s *Sandbox) Mux() http.Handler {
	control := http.StripPrefix(ControlPrefix, s.Control())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, ControlPrefix+"/") {
			control.ServeHTTP(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
}

// TB is what NewServer needs of a *testing.T. So programs with a sandbox do not contain the testing package.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// NewServer serves a new sandbox and its control on a loopback port until the test ends. url is the base URL for a
// Clerk client, with the prefix /v1. The control is at /_sandbox/ of the same host.
func NewServer(t TB, cfg Config) (s *Sandbox, url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("clerktest: no port to serve the sandbox on: %v", err)
	}
	s = New(cfg)
	server := &http.Server{Handler: s.Mux()}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	t.Cleanup(func() {
		s.Close()
		_ = server.Close()
		<-served
	})
	return s, "http://" + listener.Addr().String() + "/v1"
}

// LoadDemo adds what a demonstration needs: the users user.one@example.com and user.two@example.com, a pending
// invitation to pending@example.com, and the blocked domain blocked.example.
func (s *Sandbox) LoadDemo() {
	s.AddUser("user.one@example.com")
	s.AddUser("user.two@example.com")
	s.AddInvitation("pending@example.com")
	s.BlockDomain("blocked.example")
}
