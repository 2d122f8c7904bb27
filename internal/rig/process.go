// Package rig runs the real programs that Usher is measured and broken with: its own commands, a redis-server, and the
// sandbox Clerk with its control. It always stops them: what does not come up is killed before its error is returned, and
// what is up has a Kill for its starter to defer, after which it is gone.
package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Process is a program that was started and will be killed.
type Process struct {
	name  string
	cmd   *exec.Cmd
	log   string // path
	ended chan struct{}
}

// Command says what to start.
type Command struct {
	Name, Path string
	Args, Env  []string
	Dir        string // for its log
}

// Environment is env with what every program needs and nothing else, so that settings of the person at the keyboard do not
// reach it.
func Environment(dir string, env []string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
}

// Start starts a program. It goes on until it is killed, whatever becomes of the context that its starter works in.
func Start(c Command) (*Process, error) {
	log, err := os.CreateTemp(c.Dir, c.Name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("making a log for %s: %w", c.Name, err)
	}
	defer log.Close() // the program has its own handle
	p := &Process{name: c.Name, log: log.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env = Environment(c.Dir, c.Env)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// PID is the number that the system knows the program by.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the program at once, also a stopped one, and returns when it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Signal sends the program a signal.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("sending %s to %s: %w", signal, p.name, err)
	}
	return nil
}

// Alive is an error with the end of the log when the program has ended by itself.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself (%s): %s", p.name, p.cmd.ProcessState, p.tail())
	default:
		return nil
	}
}

func (p *Process) tail() string {
	const most = 500
	text, err := os.ReadFile(filepath.Clean(p.log))
	if err != nil {
		return "its log cannot be read"
	}
	return string(text[max(0, len(text)-most):])
}
