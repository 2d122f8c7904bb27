package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
)

// TestEveryVariableIsKnown: none that a flag reads is warned of.
func TestEveryVariableIsKnown(t *testing.T) {
	parser, err := kong.New(&grammar{}, kong.Vars{"version": "", "clerk_key": ""})
	testkit.NoError(t, err)
	for _, flag := range parser.Model.Flags {
		if warnings := settings.UnknownVariables(flag.Envs); len(warnings) > 0 {
			t.Errorf("%s: %s", flag.Name, warnings)
		}
	}
}

func TestAVariableWithoutEffectIsToldOf(t *testing.T) {
	setup(t)
	t.Setenv("USHER_RESERVES", "7")
	log, stop := serve(t)
	if stop(); strings.Count(log.String(), "do you mean USHER_RESERVE?") != 1 {
		t.Errorf("%s", log.String())
	}
}

// TestTheSandboxClerkHasItsOwnFlags and none of the worker's.
func TestTheSandboxClerkHasItsOwnFlags(t *testing.T) {
	setup(t)
	var help strings.Builder
	run(t.Context(), []string{"sandbox-clerk", "--help"}, &help, &help)
	if !strings.Contains(help.String(), "--listen") || strings.Contains(help.String(), "--redis-url") ||
		strings.Contains(help.String(), "--reserve") {
		t.Errorf("%s", help.String())
	}
	said := refused(t, "sandbox-clerk", "--reserve", "5")
	if !strings.Contains(said, "--reserve is a setting of the worker") {
		t.Errorf("%s", said)
	}
	help.Reset()
	run(t.Context(), []string{"--help"}, &help, &help)
	if !strings.Contains(help.String(), "--reserve") {
		t.Errorf("%s", help.String())
	}
}
