package main

import (
	"context"
	"fmt"
	"path/filepath"

	"example.com/usher/internal/rig"
)

// The binaries that the benchmark builds. The worker is also the sandbox Clerk.
const (
	usherBinary    = "worker"
	baselineBinary = "baseline"
)

// build never builds them with the race detector, which would be measured too.
func (b *bench) build(ctx context.Context) error {
	const race = false
	if err := rig.Build(ctx, b.dir, race, "example.com/usher/cmd/worker", "example.com/usher/internal/bench/baseline"); err != nil {
		return fmt.Errorf("building the workers: %w", err)
	}
	return nil
}

func (b *bench) binary(name string) string { return filepath.Join(b.dir, name) }
