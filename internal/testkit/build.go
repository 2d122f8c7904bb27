package testkit

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Build builds packages into a folder. The binaries have the race detector if the calling program has it.
func Build(ctx context.Context, dir string, packages ...string) error {
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if Race {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
