package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The binaries that the benchmark builds. The worker is also the sandbox Clerk.
const (
	usherBinary    = "worker"
	baselineBinary = "baseline"
)

// build builds them as make build does.
func (b *bench) build(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.dir+string(filepath.Separator),
		"example.com/usher/cmd/worker", "example.com/usher/internal/bench/baseline")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the workers: %w\n%s", err, out)
	}
	return nil
}

func (b *bench) binary(name string) string { return filepath.Join(b.dir, name) }
