package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

// binaries is the folder of the commands under test.
type binaries string

func (b binaries) worker() string  { return filepath.Join(string(b), "worker") }
func (b binaries) enqueue() string { return filepath.Join(string(b), "enqueue") }

// check finds out whether both commands are there, if there is a folder.
func (b binaries) check() error {
	if b == "" {
		return nil
	}
	for _, path := range []string{b.worker(), b.enqueue()} {
		if _, err := exec.LookPath(path); err != nil {
			return fmt.Errorf("-old %s: %w", string(b), err)
		}
	}
	return nil
}

func (b binaries) build(ctx context.Context) error {
	err := testkit.Build(ctx, string(b), "example.com/usher/cmd/worker", "example.com/usher/cmd/enqueue")
	if err != nil {
		return fmt.Errorf("building the commands: %w", err)
	}
	return nil
}

// silence is where the log of go-redis goes.
type silence struct{}

// Printf is what go-redis calls.
func (silence) Printf(context.Context, string, ...any) {}

// perform plays every scenario with every seed, one after the other, and tells whether all held. What was written is
// kept only where something did not hold.
func perform(ctx context.Context, o options, out *printer, progress io.Writer) (held bool, err error) {
	out.seed(o.seed)
	redis.SetLogger(silence{}) // it is told that Redis is away, again and again
	dir, err := os.MkdirTemp("", "usher-chaos-")
	if err != nil {
		return false, fmt.Errorf("making a folder for the run: %w", err)
	}
	defer func() {
		if removal := tidy(dir, held || ctx.Err() != nil); err == nil {
			err = removal
		}
	}()
	fmt.Fprintln(progress, "building the commands ...")
	commands := binaries(filepath.Join(dir, "bin"))
	if err := commands.build(ctx); err != nil {
		return false, err
	}
	held = true
	for _, sc := range o.scenarios {
		if sc.name == mixed && o.old == "" {
			fmt.Fprintf(progress, "%s is skipped: it needs an earlier build, see -old\n", mixed)
			continue
		}
		total := report{Scenario: sc.name, Held: true}
		for n := range uint64(o.seeds) {
			r, err := playOne(ctx, sc, o.seed+n, commands, o.old, dir)
			if err != nil {
				return false, err
			}
			out.report(r)
			total.add(r)
		}
		if o.seeds > 1 {
			out.total(total, o.seeds)
		}
		held = held && total.Held
	}
	return held, nil
}

// tidy removes everything, or only the binaries where the rest is of use to somebody.
func tidy(dir string, all bool) error {
	if all {
		return os.RemoveAll(dir)
	}
	err := os.RemoveAll(filepath.Join(dir, "bin"))
	_ = os.Remove(dir) // which works if it is empty
	return err
}

// playOne plays a scenario with one seed on a stage of its own. Its error is the context's: whatever else went wrong
// stands in the report.
func playOne(ctx context.Context, sc scenario, seed uint64, commands, old binaries, dir string) (report, error) {
	folder := filepath.Join(dir, fmt.Sprintf("%s-%d", sc.name, seed))
	if err := os.Mkdir(folder, 0o700); err != nil {
		return report{}, fmt.Errorf("making a folder for %s: %w", sc.name, err)
	}
	began := time.Now()
	s := &stage{scenario: sc, seed: seed, commands: commands, old: old, dir: folder}
	err := s.on(ctx, sc.play)
	if ctx.Err() != nil {
		return report{}, ctx.Err()
	}
	if err != nil {
		s.wrong("it could not be played to the end: %v", err)
	}
	r := s.report(time.Since(began))
	if r.Held {
		return r, os.RemoveAll(folder)
	}
	r.Logs = folder
	path := filepath.Join(folder, violationsFile)
	if err := os.WriteFile(path, []byte(r.violationText()), 0o600); err != nil {
		return r, fmt.Errorf("keeping what was violated: %w", err)
	}
	return r, nil
}
