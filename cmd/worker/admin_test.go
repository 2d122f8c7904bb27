package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/usher/internal/policy"
)

// TestReadyzSaysWhoIsNotServed: only what a person must mend makes a worker unready.
func TestReadyzSaysWhoIsNotServed(t *testing.T) {
	t.Parallel()
	rests := func(calls, why string) []policy.Standstill {
		return []policy.Standstill{{Calls: calls, Why: why, Since: time.Now()}}
	}
	for name, c := range map[string]struct {
		notReady string
		rests    []policy.Standstill
		restored bool
		status   int
		body     string
	}{
		"all is well":    {"", nil, false, 200, "ready\n"},
		"stopping":       {"the worker is stopping", rests("create", "500 x"), true, 503, "the worker is stopping"},
		"maintenance":    {"", rests("writes", "503 maintenance_mode"), false, 200, "ready, but"},
		"may not create": {"", rests("create", "403 authorization_invalid (trace t)"), true, 503, "nobody: 403"},
		"may not revoke": {"", rests("revoke", "403 authorization_invalid"), false, 200, "revoke: Clerk serves nobody"},
		"takes no invitations": {"", rests("create", "400 invitations_not_supported"), false, 200,
			"create: Clerk serves nobody"},
		"not reached": {"", rests("create", "dial"), false, 200, "rest: create: Clerk cannot be reached"},
		"restored":    {"", nil, true, 200, "ready, but Redis was restored from a copy, and work rests until "},
		"both":        {"", rests("writes", "503 x"), true, 200, "restore has ended; calls rest: writes: Clerk"},
	} {
		config := adminConfig{
			metrics: prometheus.NewRegistry(), notReady: func() string { return c.notReady },
			rests:    func() []policy.Standstill { return c.rests },
			restored: func() bool { return c.restored },
		}
		got := httptest.NewRecorder()
		config.handler().ServeHTTP(got, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if got.Code != c.status || !strings.Contains(got.Body.String(), c.body) {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
}
