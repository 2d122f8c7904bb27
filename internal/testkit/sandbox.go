package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// Sandbox is a sandbox Clerk in a process of its own, and the way to its control.
type Sandbox struct {
	*Process
	addr string
}

// StartSandbox starts the sandbox that the worker's binary has. args are its flags, without that of the address.
func StartSandbox(ctx context.Context, worker, dir string, args ...string) (*Sandbox, error) {
	var clerk *Sandbox
	err := onFreePort(func(addr string) error {
		all := slices.Concat([]string{"sandbox-clerk", "--listen", addr}, args)
		p, err := Start(Command{Name: "sandbox-clerk", Path: worker, Dir: dir, Args: all})
		if err != nil {
			return err
		}
		clerk = &Sandbox{Process: p, addr: addr}
		return untilUp(ctx, p, "the sandbox Clerk answers", func(ctx context.Context) bool {
			_, err := clerk.Stats(ctx)
			return err == nil
		})
	})
	if err != nil {
		return nil, err
	}
	return clerk, nil
}

// URL is what the paths of Clerk's API come after, with /v1 before them or without.
func (s *Sandbox) URL() string { return "http://" + s.addr }

// Stats tells what it has counted so far.
func (s *Sandbox) Stats(ctx context.Context) (stats clerktest.Stats, err error) {
	err = s.Control(ctx, http.MethodGet, "/stats", nil, &stats)
	return stats, err
}

// Requests tells the requests that came after the one of a number; 0 is before all that it keeps.
func (s *Sandbox) Requests(ctx context.Context, after int) (requests []clerktest.Request, err error) {
	err = s.Control(ctx, http.MethodGet, "/requests?after="+strconv.Itoa(after), nil, &requests)
	return requests, err
}

// Ledger tells what was sent to whom.
func (s *Sandbox) Ledger(ctx context.Context) (sent []clerktest.Sent, err error) {
	err = s.Control(ctx, http.MethodGet, "/ledger", nil, &sent)
	return sent, err
}

// Control asks the sandbox's control and reads its answer into a pointer, or nowhere for nil.
func (s *Sandbox) Control(ctx context.Context, method, path string, body, into any) error {
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
		text, _ := io.ReadAll(
			io.LimitReader(response.Body, 300),
		) // what could be read says more than why no more could
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
