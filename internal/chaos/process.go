package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// process is a program that this one started and will end.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string // path
	ended chan struct{}
}

// command says what to start. Its environment is env and nothing else, so that settings of the person at the keyboard
// do not reach it.
type command struct {
	name, path string
	args, env  []string
	dir        string // for its log
}

// environment is env with what every program needs.
func environment(dir string, env []string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
}

// start starts a program. It goes on until it is killed, whatever becomes of the context that its starter works in.
func start(c command) (*process, error) {
	log, err := os.CreateTemp(c.dir, c.name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("making a log for %s: %w", c.name, err)
	}
	defer log.Close() // the program has its own handle
	p := &process{name: c.name, log: log.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(c.path, c.args...)
	p.cmd.Env = environment(c.dir, c.env)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the program at once, also a stopped one, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// freeze stops the program where it stands; thaw lets it go on.
func (p *process) freeze() error { return p.signal(syscall.SIGSTOP) }
func (p *process) thaw() error   { return p.signal(syscall.SIGCONT) }

func (p *process) signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("sending %s to %s: %w", signal, p.name, err)
	}
	return nil
}

// alive is an error with the end of the log when the program has ended by itself.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself (%s): %s", p.name, p.cmd.ProcessState, p.tail())
	default:
		return nil
	}
}

func (p *process) tail() string {
	const most = 500
	text, err := os.ReadFile(filepath.Clean(p.log))
	if err != nil {
		return "its log cannot be read"
	}
	return string(text[max(0, len(text)-most):])
}

// portAttempts is how often a server is started on another port: any other program may take the one that was free.
const portAttempts = 3

// onFreePort starts a server on a loopback port that was free a moment ago.
func onFreePort(serve func(addr string) error) error {
	var err error
	for range portAttempts {
		var addr string
		if addr, err = freeAddr(); err != nil {
			return err
		}
		if err = serve(addr); err == nil {
			return nil
		}
	}
	return err
}

func freeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
