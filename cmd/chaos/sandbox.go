package main

import (
	"context"
	"net/http"
	"strconv"

	"example.com/usher/internal/testkit"
)

// clerkKey is the secret key that the sandbox accepts.
const clerkKey = "sk_test_chaos"

// sandbox is a sandbox Clerk and what is broken in it.
type sandbox struct {
	*testkit.Sandbox
	faults map[int]string // their names by the ids that the sandbox gave them
}

func startSandbox(ctx context.Context, worker, dir string, set setting, seed uint64) (*sandbox, error) {
	clerk, err := testkit.StartSandbox(
		ctx,
		worker,
		dir,
		"--key",
		clerkKey,
		"--create",
		set.create,
		"--bulk",
		set.bulk,
		"--overall",
		"0",
		"--min-latency",
		set.minLatency.String(),
		"--max-latency",
		set.maxLatency.String(),
		"--seed",
		strconv.FormatUint(seed, 10),
	)
	if err != nil {
		return nil, err
	}
	return &sandbox{Sandbox: clerk, faults: map[int]string{}}, nil
}

// created is how many invitations there are by now.
func (s *sandbox) created(ctx context.Context) (int, error) {
	stats, err := s.Stats(ctx)
	return stats.Invitations, err
}

func (s *sandbox) configure(ctx context.Context, fields map[string]any) error {
	return s.Control(ctx, http.MethodPatch, "/config", fields, nil)
}

// reject makes Clerk refuse an address for a reason that names nobody.
func (s *sandbox) reject(ctx context.Context, address string, status int, code string) error {
	return s.Control(
		ctx,
		http.MethodPost,
		"/rejections",
		map[string]any{"email_address": address, "status": status, "code": code},
		nil,
	)
}

func (s *sandbox) revokeKey(ctx context.Context) error {
	return s.Control(ctx, http.MethodDelete, "/key", nil, nil)
}

func (s *sandbox) restoreKey(ctx context.Context) error {
	return s.Control(ctx, http.MethodPost, "/key", map[string]string{"key": clerkKey}, nil)
}

// inject adds a fault in the control's JSON.
func (s *sandbox) inject(ctx context.Context, name string, fault map[string]any) error {
	var given struct {
		ID int `json:"id"`
	}
	if err := s.Control(ctx, http.MethodPost, "/faults", fault, &given); err != nil {
		return err
	}
	s.faults[given.ID] = name
	return nil
}
