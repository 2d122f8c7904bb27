package clerktest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
)

// backendVersion is the version of Clerk's JavaScript client that is run.
const backendVersion = "3.25.0"

// TestClerksOwnClientRunsUnchanged makes every call about invitations with Clerk's JavaScript client. It needs node
// and npm, and installs the client once, in the user's cache.
func TestClerksOwnClientRunsUnchanged(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("not run with @clerk/backend: %v", err)
		}
	}
	s, url := clerktest.NewServer(t, clerktest.Config{})
	s.AddUser("user@example.com")
	script := exec.CommandContext(t.Context(), "node", "testdata/backend.mjs")
	script.Env = append(
		os.Environ(),
		"CLERK_API_URL="+strings.TrimSuffix(url, "/v1"),
		"CLERK_BACKEND="+installBackend(t),
	)
	if output, err := script.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// installBackend gives the folder where Clerk's client is installed.
func installBackend(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	home := filepath.Join(cache, "usher-tests", "clerk-backend-"+backendVersion)
	if _, err := os.Stat(filepath.Join(home, "node_modules", "@clerk", "backend", "package.json")); err == nil {
		return home
	}
	// Into a folder of its own first, so that a run that is broken off leaves no half of it.
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		t.Fatal(err)
	}
	draft, err := os.MkdirTemp(filepath.Dir(home), "draft-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(draft)
	install := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts",
		"--prefix", draft, "@clerk/backend@"+backendVersion)
	if output, err := install.CombinedOutput(); err != nil {
		t.Skipf("not run with @clerk/backend, which npm could not install: %v\n%s", err, output)
	}
	_ = os.RemoveAll(home)
	if err := os.Rename(draft, home); err != nil {
		t.Fatal(err)
	}
	return home
}
