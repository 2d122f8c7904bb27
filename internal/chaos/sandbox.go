package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// clerkKey is the secret key that the sandbox accepts.
const clerkKey = "sk_test_chaos"

// sandbox is a sandbox Clerk in a process of its own, and the way to its control.
type sandbox struct {
	*process
	addr   string
	faults map[int]string // their names by the ids that the sandbox gave them
}

func startSandbox(ctx context.Context, worker, dir string, set setting, seed uint64) (*sandbox, error) {
	var clerk *sandbox
	err := onFreePort(func(addr string) error {
		p, err := start(command{name: "sandbox-clerk", path: worker, dir: dir, args: []string{
			"sandbox-clerk", "--listen", addr, "--key", clerkKey, "--create", set.create, "--bulk", set.bulk, "--overall", "0",
			"--min-latency", set.minLatency.String(), "--max-latency", set.maxLatency.String(), "--seed", strconv.FormatUint(seed, 10),
		}})
		if err != nil {
			return err
		}
		clerk = &sandbox{process: p, addr: addr, faults: map[int]string{}}
		if err = clerk.untilUp(ctx); err != nil {
			p.kill()
		}
		return err
	})
	return clerk, err
}

func (s *sandbox) untilUp(ctx context.Context) error {
	return poll(ctx, pollSoon, startupLimit, "the sandbox Clerk answers", func(ctx context.Context) (bool, error) {
		if err := s.alive(); err != nil {
			return false, err
		}
		_, err := s.stats(ctx)
		return err == nil, nil // while it is not up there is no connection, which is no fault
	})
}

// url is what the paths of Clerk's API come after.
func (s *sandbox) url() string { return "http://" + s.addr }

func (s *sandbox) stats(ctx context.Context) (stats clerktest.Stats, err error) {
	return stats, s.control(ctx, http.MethodGet, "/stats", nil, &stats)
}

// created is how many invitations there are by now.
func (s *sandbox) created(ctx context.Context) (int, error) {
	stats, err := s.stats(ctx)
	return stats.Invitations, err
}

// requests tells the requests that came after the one of a number.
func (s *sandbox) requests(ctx context.Context, after int) (requests []clerktest.Request, err error) {
	return requests, s.control(ctx, http.MethodGet, "/requests?after="+strconv.Itoa(after), nil, &requests)
}

// ledger tells what was sent to whom.
func (s *sandbox) ledger(ctx context.Context) (sent []clerktest.Sent, err error) {
	return sent, s.control(ctx, http.MethodGet, "/ledger", nil, &sent)
}

func (s *sandbox) configure(ctx context.Context, fields map[string]any) error {
	return s.control(ctx, http.MethodPatch, "/config", fields, nil)
}

// reject makes Clerk refuse an address for a reason that names nobody.
func (s *sandbox) reject(ctx context.Context, address string, status int, code string) error {
	return s.control(ctx, http.MethodPost, "/rejections", map[string]any{"email_address": address, "status": status, "code": code}, nil)
}

func (s *sandbox) revokeKey(ctx context.Context) error {
	return s.control(ctx, http.MethodDelete, "/key", nil, nil)
}

func (s *sandbox) restoreKey(ctx context.Context) error {
	return s.control(ctx, http.MethodPost, "/key", map[string]string{"key": clerkKey}, nil)
}

// inject adds a fault in the control's JSON.
func (s *sandbox) inject(ctx context.Context, name string, fault map[string]any) error {
	var given struct {
		ID int `json:"id"`
	}
	if err := s.control(ctx, http.MethodPost, "/faults", fault, &given); err != nil {
		return err
	}
	s.faults[given.ID] = name
	return nil
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
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the sandbox's answer to %s: %w", path, err)
	}
	return nil
}
