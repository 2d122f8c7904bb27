package httpd

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// readyTime is how long a server may take to say whether it is ready.
const readyTime = 3 * time.Second

// AskReady asks a server of ours that listens at an address of this machine whether it is ready, and gives what it
// says. What names the server in errors, such as "worker".
func AskReady(ctx context.Context, what, addr string, https bool) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	scheme := "http"
	if https {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+"/readyz", nil)
	if err != nil {
		return "", err
	}
	// No proxy: an address that listens on every interface, such as 0.0.0.0:8080, is dialed on this machine.
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // it is asked for its health, and told nothing
	}}
	answer, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("no %s answers at %s: %w", what, addr, err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 1024))
	said = strings.TrimSpace(string(body))
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("not ready: %s", cmp.Or(said, answer.Status))
	}
	return said, nil
}
