package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
)

// These tests run the command in this process, with settings from its environment: so they run one after the other.

const testKey = "sk_test_SECRET"

// setup gives a Redis, and the environment of a worker on it and on a sandbox Clerk. Settings of the person at the
// keyboard are not in it.
func setup(t *testing.T) *testkit.Redis {
	t.Helper()
	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		if prefix, _, _ := strings.Cut(name, "_"); prefix == "USHER" || prefix == "REDIS" || prefix == "CLERK" {
			t.Setenv(name, "") // which sets it back after the test
			testkit.NoError(t, os.Unsetenv(name))
		}
	}
	server := testkit.RunRedis(t, testkit.Durable()...)
	_, url := clerktest.NewServer(t, clerktest.Config{Key: testKey})
	t.Setenv("REDIS_URL", server.URL())
	t.Setenv("CLERK_SECRET_KEY", testKey)
	t.Setenv("CLERK_API_URL", url)
	t.Setenv("USHER_ADMIN_ADDR", "off")
	return server
}

// refused runs a worker that must not start, and gives what it says.
func refused(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	if exit := run(t.Context(), args, &stdout, &stderr); exit != settings.ExitUsage || stdout.Len() > 0 {
		t.Errorf("exit %d, want %d; it says %s%s", exit, settings.ExitUsage, stdout.String(), stderr.String())
	}
	return stderr.String()
}

// serve runs a worker until stop, which gives its exit code, and gives its log.
func serve(t *testing.T, args ...string) (log *testkit.Buffer, stop func() (exit int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log = &testkit.Buffer{}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, log, log) }()
	stop = func() int {
		cancel()
		return <-ended
	}
	testkit.Eventually(t, "the worker runs", func() bool { return strings.Contains(log.String(), "worker runs") })
	return log, stop
}

func TestBadSettingsStopTheWorker(t *testing.T) {
	server := setup(t)
	for setting, says := range map[string]string{
		"REDIS_URL=ftp://:hunter2hunter2@x":       "REDIS_URL",
		"REDIS_URL_FILE=/no/such/file":            "REDIS_URL",
		"REDIS_CA_FILE=/no/such/file":             "REDIS_CA_FILE",
		"CLERK_SECRET_KEY=":                       "CLERK_SECRET_KEY",
		"CLERK_SECRET_KEY=pk_test_hunter2hunter2": "CLERK_SECRET_KEY",
		"CLERK_SECRET_KEY_FILE=/no/such/file":     "CLERK_SECRET_KEY",
		"CLERK_API_URL=clerk":                     "CLERK_API_URL",
		"CLERK_API_URL=http://api.clerk.com/v1":   "CLERK_API_URL",
		"USHER_LIMIT_CREATE=abc":                  "USHER_LIMIT_CREATE",
		"USHER_LIMIT_CREATE=100/0s":               "USHER_LIMIT_CREATE",
		"USHER_LIMIT_BULK=-1/1h":                  "USHER_LIMIT_BULK",
		"USHER_LIMIT_OVERALL=10":                  "USHER_LIMIT_OVERALL",
		"USHER_RESERVE=100":                       "USHER_RESERVE",
		"USHER_RESERVE=-1":                        "USHER_RESERVE",
		"USHER_TIMEOUT=0s":                        "USHER_TIMEOUT",
		"USHER_TIMEOUT=soon":                      "USHER_TIMEOUT",
		"USHER_SETTLE=x":                          "USHER_SETTLE",
		"USHER_MAX_ATTEMPTS=0":                    "USHER_MAX_ATTEMPTS",
		"USHER_BACKOFF_MIN=2h":                    "USHER_BACKOFF_MIN",
		"USHER_BACKOFF_MAX=later":                 "USHER_BACKOFF_MAX",
		"USHER_BULK_METADATA=sometimes":           "USHER_BULK_METADATA",
		"USHER_ADMIN_ADDR=nowhere":                "USHER_ADMIN_ADDR",
		"USHER_ADMIN_ADDR=0.0.0.0:0":              "USHER_ADMIN_TOKEN",
		"USHER_ADMIN_TOKEN_FILE=/no/such/file":    "USHER_ADMIN_TOKEN",
		"USHER_ADMIN_TLS_CERT=/no/such/file":      "USHER_ADMIN_TLS_KEY",
		"USHER_ADMIN_TLS_KEY=/no/such/file":       "USHER_ADMIN_TLS_CERT",
		"USHER_NAMESPACE=a b":                     "USHER_NAMESPACE",
		"USHER_LOG_LEVEL=loud":                    "USHER_LOG_LEVEL",
		"USHER_LOG_FORMAT=xml":                    "USHER_LOG_FORMAT",
	} {
		t.Run(setting, func(t *testing.T) {
			name, value, _ := strings.Cut(setting, "=")
			t.Setenv(name, value)
			message := refused(t)
			if !strings.Contains(message, says) || strings.Count(message, "\n") != 1 {
				t.Errorf("want one line with %s: %s", says, message)
			}
			if strings.Contains(message, "hunter2") || strings.Contains(message, testKey) {
				t.Errorf("the message holds a secret: %s", message)
			}
		})
	}
	wantEmpty(t, server)
}

// wantEmpty wants a Redis in which nothing was written.
func wantEmpty(t *testing.T, server *testkit.Redis) {
	t.Helper()
	if keys, err := testkit.Client(t, server.Addr).Keys(t.Context(), "*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("Redis holds %v, %v", keys, err)
	}
}

func TestAFaultyScheduleFileStopsTheWorker(t *testing.T) {
	server := setup(t)
	file := filepath.Join(t.TempDir(), "schedules.yaml")
	testkit.NoError(t, os.WriteFile(file, []byte(`schedules:
  - name: a
    cron: 0 9 * *
    task: sync-list
  - name: b
    cron: 0 9 * * 1
    task: bulk-invite
    file: none.csv
`), 0o600))
	t.Setenv("USHER_RESERVE", "x")
	message := refused(t, "--schedule-file", file)
	if strings.Count(message, "\n") != 1 {
		t.Errorf("want one line: %s", message)
	}
	for _, fault := range []string{
		"USHER_SCHEDULE_FILE: got", `schedules.yaml:3: schedule "a": cron`,
		`schedules.yaml:8: schedule "b": file`, "USHER_RESERVE",
	} {
		if !strings.Contains(message, fault) {
			t.Errorf("%q is not in %q", fault, message)
		}
	}
	wantEmpty(t, server)
}

func TestAWrongRedisPasswordStopsTheWorker(t *testing.T) {
	server := setup(t)
	testkit.NoError(t, testkit.Client(t, server.Addr).ConfigSet(t.Context(), "requirepass", "sesame").Err())
	for _, password := range []string{"", ":hunter2@"} {
		message := refused(t, "--redis-url", "redis://"+password+server.Addr+"/0")
		if !strings.Contains(message, "refuses the user or the password") || strings.Contains(message, "hunter2") {
			t.Errorf("with %q it says %s", password, message)
		}
	}
}

func TestAStrictWorkerRefusesARedisThatMayLoseSomething(t *testing.T) {
	server := setup(t)
	testkit.NoError(t, testkit.Client(t, server.Addr).ConfigSet(t.Context(), "appendfsync", "everysec").Err())
	if message := refused(t, "--strict"); !strings.Contains(message, "appendfsync") {
		t.Errorf("it says %s", message)
	}
	log, stop := serve(t)
	if exit := stop(); exit != settings.ExitDone || !strings.Contains(log.String(), "appendfsync") {
		t.Errorf("one that is not strict: exit %d, log %s", exit, log)
	}
}

func TestANamespaceIsBoundToOneKindOfKey(t *testing.T) {
	setup(t)
	_, stop := serve(t)
	message := refused(t, "--clerk-secret-key", "sk_live_hunter2hunter2")
	if !strings.Contains(message, "USHER_NAMESPACE") || strings.Contains(message, "hunter2") {
		t.Errorf("with a live key in a test namespace it says %s", message)
	}
	if exit := stop(); exit != settings.ExitDone {
		t.Errorf("exit %d", exit)
	}
}
