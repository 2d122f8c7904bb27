package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// BuiltVariable names a folder that has the binaries already, so that the packages of one test run do not each link
// them.
const BuiltVariable = "USHER_TEST_BINARIES"

// Build puts the binaries of packages into a folder, which it makes. They have the race detector if the calling
// program has it.
func Build(ctx context.Context, dir string, packages ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder for binaries: %w", err)
	}
	if built := os.Getenv(BuiltVariable); built != "" {
		var errs []error
		for _, name := range packages {
			errs = append(errs, os.Symlink(filepath.Join(built, path.Base(name)), filepath.Join(dir, path.Base(name))))
		}
		return errors.Join(errs...)
	}
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if Race {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
