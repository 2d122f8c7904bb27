package testkit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Command says what to run.
type Command struct {
	Name, Path string
	Args, Env  []string
	Dir        string // of its log; it is also the program's HOME
	Stdin      string
	Stdout     io.Writer // nil: its log. [Run] returns the output instead
}

// Environment returns env and what every program needs besides. Settings of the person at the keyboard do not reach
// the program. One with the race detector does not wait for a second before it ends.
func Environment(dir string, env []string) []string {
	return slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=0"}, env)
}

func (c Command) exec(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env = Environment(c.Dir, c.Env)
	if c.Stdin != "" {
		cmd.Stdin = strings.NewReader(c.Stdin)
	}
	return cmd
}

// Output is what a program came to.
type Output struct {
	Exit           int
	Stdout, Stderr string
}

// Run runs a program to its end. An exit code is no error; an end by a signal is.
func Run(ctx context.Context, c Command) (Output, error) {
	cmd := c.exec(ctx)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := Output{Exit: -1, Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState != nil {
		out.Exit = cmd.ProcessState.ExitCode()
	}
	if err != nil && out.Exit < 0 {
		return out, fmt.Errorf("%s %s: %w: %s", c.Name, strings.Join(c.Args, " "), err, out.Stderr)
	}
	return out, nil
}

// Process is a program that was started. Its starter must kill it.
type Process struct {
	name  string
	cmd   *exec.Cmd
	log   string // path
	ended chan struct{}
}

// Start starts a program. The program goes on until it ends or is killed, even when its starter's context has ended.
func Start(c Command) (*Process, error) {
	log, err := os.CreateTemp(c.Dir, c.Name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("making a log for %s: %w", c.Name, err)
	}
	defer log.Close() // the program has its own handle
	p := &Process{name: c.Name, log: log.Name(), ended: make(chan struct{}), cmd: c.exec(context.Background())}
	p.cmd.Stdout, p.cmd.Stderr = c.Stdout, log
	if c.Stdout == nil {
		p.cmd.Stdout = log
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// PID returns the number by which the system knows the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends the program a signal.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("sending %s to %s: %w", signal, p.name, err)
	}
	return nil
}

// Kill ends the program at once and returns when it is gone. Killing it again does nothing.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Wait waits until the program ends and returns its exit code, which is -1 after a signal.
func (p *Process) Wait(ctx context.Context) (exit int, err error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for the end of %s: %w", p.name, context.Cause(ctx))
	}
}

// Alive returns an error with the end of the log if the program has ended.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
		const most = 500
		log := p.Log()
		return fmt.Errorf("%s ended by itself (%s): %s", p.name, p.cmd.ProcessState, log[max(0, len(log)-most):])
	default:
		return nil
	}
}

// Log returns what the program has written so far.
func (p *Process) Log() string {
	text, err := os.ReadFile(filepath.Clean(p.log))
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	return string(text)
}
