package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// TestAShellCompletes commands and flags; with bash as it does it.
func TestAShellCompletes(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	for line, want := range map[string]string{
		"enqueue camp": "campaign", "enqueue campaign ": "pause", "enqueue bulk-invite --on-ex": "--on-existing-user",
		"enqueue dead-letter retry --fr": "--from",
	} {
		a := s.run("", "enqueue", []string{"COMP_LINE=" + line}, "enqueue", "", "")
		if words := strings.Fields(a.Stdout); a.Exit != 0 || !strings.Contains(" "+strings.Join(words, " ")+" ", " "+want+" ") {
			t.Errorf("%q: %+v, want %s", line, a, want)
		}
	}
	const bash = "/bin/bash"
	if _, err := os.Stat(bash); err != nil {
		t.Skip("there is no bash here")
	}
	const script = `eval "$("$0" completion bash)"; complete -p enqueue; COMP_LINE="enqueue sch" eval "$(complete -p enqueue |
		sed "s/^complete -C '\(.*\)' enqueue\$/\1/")"`
	a, err := testkit.Run(t.Context(), testkit.Command{
		Name: "bash", Path: bash, Args: []string{"-c", script, filepath.Join(binaries, "enqueue")}, Dir: s.dir,
	})
	if err != nil || a.Exit != 0 || !strings.Contains(a.Stdout, "complete -C") || !strings.Contains(a.Stdout, "schedule") {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestAMisspelledVariableIsToldOf by commands, where a person reads.
func TestAMisspelledVariableIsToldOf(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	env := []string{"USHER_NAMESPCE=secret-value"}
	a := s.run("", "enqueue", env, "campaign", "list")
	if a.Exit != 0 || !strings.Contains(a.Stderr, "do you mean USHER_NAMESPACE?") || strings.Contains(a.Stderr, "secret") {
		t.Errorf("%+v", a)
	}
	if a = s.run("", "enqueue", env, "campaign", "list", "--json"); a.Exit != 0 || a.Stderr != "" {
		t.Errorf("%+v", a)
	}
}
