// Package redistest starts real Redis servers for tests.
package redistest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server process of one test. Its methods are for the test's own goroutine.
type Server struct {
	Addr string // host:port

	t       testing.TB
	dir     string
	args    []string
	process *exec.Cmd // nil while stopped
}

// Start starts a redis-server on a free loopback port and waits until it answers. It keeps nothing on disk unless args
// say so ("--appendonly", "yes"); they are passed on as they are. The server ends with the test.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is not on the PATH: install it (apt-get install redis-server, brew install redis) to run this test")
	}
	dir, err := os.MkdirTemp("", "usher-redis-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, args: args}
	t.Cleanup(s.remove)
	for range 3 { // another program may take the port first
		s.Addr = freeAddr(t)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// URL is the server's address as a Redis URL, database 0.
func (s *Server) URL() string { return "redis://" + s.Addr + "/0" }

// Stop ends the server as an operator would: it saves what it was told to keep.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server at once.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Restart starts the server again on the same port and directory, stopping it first if it runs.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// remove ends the server and removes its files. A child of it that rewrites a file may go on for a moment.
func (s *Server) remove() {
	s.Kill()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := os.RemoveAll(s.dir); err == nil || time.Now().After(deadline) {
			return
		}
	}
}

func (s *Server) end(signal os.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(signal)
	_ = s.process.Wait()
	s.process = nil
}

func (s *Server) start() error {
	host, port, _ := net.SplitHostPort(s.Addr)
	args := slices.Concat([]string{"--bind", host, "--port", port, "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--logfile", "log"}, s.args)
	s.process = exec.Command("redis-server", args...)
	if err := s.process.Start(); err != nil {
		s.process = nil
		return fmt.Errorf("redis-server: %w", err)
	}
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if answers(s.Addr, s.process.Process.Pid) {
			return nil
		}
	}
	s.Kill()
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("redis-server at %s does not answer; its log:\n%s", s.Addr, log)
}

// answers tells whether the server of that process serves commands (while it loads a file it refuses them), and not
// another one that took the port first.
func answers(addr string, pid int) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\nINFO server\r\nQUIT\r\n")); err != nil {
		return false
	}
	reply, _ := io.ReadAll(io.LimitReader(conn, 64<<10))
	return bytes.HasPrefix(reply, []byte("-NOAUTH")) ||
		bytes.HasPrefix(reply, []byte("+PONG")) && bytes.Contains(reply, fmt.Appendf(nil, "\r\nprocess_id:%d\r\n", pid))
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
