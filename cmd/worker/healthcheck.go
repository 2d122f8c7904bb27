package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"example.com/usher/internal/settings"
)

const healthTimeout = 3 * time.Second

type healthCommand struct{}

func (*healthCommand) Run(ctx context.Context, flags *workerFlags, out *streams) error {
	addr, _, err := settings.ListenAddr("USHER_ADMIN_ADDR", flags.AdminAddr)
	if err != nil {
		return err
	}
	if addr == "" {
		const want = "an address: without one the worker cannot be asked"
		return &settings.Error{Name: "USHER_ADMIN_ADDR", Got: `"off"`, Want: want}
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return err
	}
	// No proxy: an address that listens on every interface, such as 0.0.0.0:8080, is dialed on this machine.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no worker answers at %s: %w", addr, err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
	answer := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", answer)
	}
	fmt.Fprintln(out.stdout, answer)
	return nil
}
