package main

import (
	"context"
	"net/http"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// clerkKey is the secret key that the sandbox accepts.
const clerkKey = "sk_test_bench"

func (b *bench) startSandbox(ctx context.Context, s setup) (*testkit.Sandbox, error) {
	return testkit.StartSandbox(ctx, b.usher(), b.dir,
		"--key", clerkKey, "--create", s.create, "--bulk", s.bulk, "--overall", "0",
		"--min-latency", s.latency.String(), "--max-latency", s.latency.String())
}

// addUser makes an address a user's, so that Clerk refuses to invite it.
func (s *stage) addUser(ctx context.Context, address string) error {
	return s.clerk.Control(ctx, http.MethodPost, "/users", map[string]string{"email_address": address}, nil)
}

// created is how many invitations were made, and arrivals how many calls arrived, look-ups included.
func created(stats clerktest.Stats) (n int) {
	for _, endpoint := range stats.Endpoints {
		n += endpoint.Created
	}
	return n
}

func arrivals(stats clerktest.Stats) (n int) {
	for _, endpoint := range stats.Endpoints {
		n += endpoint.Arrivals
	}
	return n
}

// throttled is how many calls were refused with 429.
func throttled(stats clerktest.Stats) (n int) {
	for _, endpoint := range stats.Endpoints {
		n += endpoint.Throttled
	}
	return n
}
