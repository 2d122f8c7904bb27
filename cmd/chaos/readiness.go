package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// readiness is what /readyz of a worker answered, by time.
type readiness struct {
	addr string
	seen []readyAnswer
}

type readyAnswer struct {
	at     time.Time
	status int
	reason string
}

// ask asks once; no answer is the status 0.
func (r *readiness) ask(ctx context.Context) (status int, reason string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+"/readyz", nil)
	if err != nil {
		return 0, err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 300))
	return response.StatusCode, strings.TrimSpace(string(body))
}

// during asks again and again for a while.
func (r *readiness) during(ctx context.Context, d time.Duration) error {
	const every = 100 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		at := time.Now()
		status, reason := r.ask(ctx)
		r.seen = append(r.seen, readyAnswer{at, status, reason})
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
	return nil
}

// violations tells the first answer from one time to another that was not 503 with a reason that names the key.
func (r *readiness) violations(from, to time.Time) []string {
	asked := 0
	for _, a := range r.seen {
		if a.at.Before(from) || a.at.After(to) {
			continue
		}
		asked++
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.reason, "key") {
			return []string{
				fmt.Sprintf(
					"/readyz was %d %q while the key was refused, want 503 and a reason that names the key",
					a.status,
					a.reason,
				),
			}
		}
	}
	if asked == 0 {
		return []string{"/readyz was not asked while the key was refused"}
	}
	return nil
}
