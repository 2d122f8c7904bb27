package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// clerkKey is the secret key that the sandbox accepts.
const clerkKey = "sk_test_bench"

// sandbox is a sandbox Clerk in a process of its own, and the way to its control.
type sandbox struct {
	*process
	addr string
}

func (b *bench) startSandbox(ctx context.Context, s setup) (*sandbox, error) {
	var clerk *sandbox
	err := onFreePort(func(addr string) (err error) {
		clerk, err = b.startSandboxAt(ctx, s, addr)
		return err
	})
	return clerk, err
}

func (b *bench) startSandboxAt(ctx context.Context, s setup, addr string) (*sandbox, error) {
	p, err := start(ctx, command{name: "sandbox-clerk", path: b.binary(usherBinary), dir: b.dir, args: []string{
		"sandbox-clerk", "--listen", addr, "--key", clerkKey, "--create", s.create, "--bulk", s.bulk, "--overall", "0",
		"--min-latency", s.latency.String(), "--max-latency", s.latency.String(),
	}})
	if err != nil {
		return nil, err
	}
	clerk := &sandbox{process: p, addr: addr}
	err = poll(ctx, startupLimit, "the sandbox Clerk answers", func(ctx context.Context) (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		_, err := clerk.stats(ctx)
		return err == nil, nil // while it is not up there is no connection, which is no fault
	})
	if err != nil {
		p.kill()
		return nil, err
	}
	return clerk, nil
}

// url is Clerk's base URL for a worker.
func (s *sandbox) url() string { return "http://" + s.addr + "/v1" }

func (s *sandbox) stats(ctx context.Context) (stats clerktest.Stats, err error) {
	return stats, s.control(ctx, http.MethodGet, "/stats", nil, &stats)
}

// requests tells every request since the start: the sandbox keeps more of them than any run that asks has.
func (s *sandbox) requests(ctx context.Context) (requests []clerktest.Request, err error) {
	return requests, s.control(ctx, http.MethodGet, "/requests", nil, &requests)
}

// ledger tells what was sent to whom.
func (s *sandbox) ledger(ctx context.Context) (sent []clerktest.Sent, err error) {
	return sent, s.control(ctx, http.MethodGet, "/ledger", nil, &sent)
}

// addUser makes an address a user's, so that Clerk refuses to invite it.
func (s *sandbox) addUser(ctx context.Context, address string) error {
	return s.control(ctx, http.MethodPost, "/users", map[string]string{"email_address": address}, nil)
}

// control asks the sandbox's control and reads its answer into a pointer, or nowhere for nil.
func (s *sandbox) control(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("asking the sandbox: %w", err)
	}
	url := "http://" + s.addr + clerktest.ControlPrefix + path
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("asking the sandbox: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("asking the sandbox: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300)) // what could be read says more than why no more could
		return fmt.Errorf("the sandbox answers %s %s with %s: %s", method, path, response.Status, text)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the sandbox's answer to %s: %w", path, err)
	}
	return nil
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
