package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds packages into a folder as make build does; with the race detector it needs C, which is off otherwise.
func Build(ctx context.Context, dir string, race bool, packages ...string) error {
	args := []string{"build", "-trimpath", "-o", dir + string(filepath.Separator)}
	env := os.Environ()
	if race {
		args = append(args, "-race")
	} else {
		env = append(env, "CGO_ENABLED=0")
	}
	build := exec.CommandContext(ctx, "go", append(args, packages...)...)
	build.Env = env
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
