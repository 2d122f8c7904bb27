package clerkclient

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// What Config's zero values mean.
const (
	DefaultBaseURL = "https://api.clerk.com/v1"
	DefaultTimeout = 30 * time.Second
)

// apiVersion is the dated version of Clerk's API that this package was written for (documented). Every call names it
// in a header: without that, Clerk answers in the instance's default version.
const apiVersion = "2026-05-12"

// Config says how to reach Clerk. It is safe to print: that leaves out the key.
type Config struct {
	// Key is the instance's secret key, sk_test_… or sk_live_….
	Key string `json:"-"`
	// BaseURL must be https, because the key travels with every call; http is accepted for a loopback host only.
	// Empty means DefaultBaseURL.
	BaseURL string `json:"-"`
	// Version is the program's own version, for the User-Agent header. Empty means "dev".
	Version string
	// Timeout is the longest that a call may take, whatever its context says. 0 means DefaultTimeout.
	Timeout time.Duration
}

// Format prints the configuration without its key, for every verb, %+v and %#v included.
func (c Config) Format(f fmt.State, _ rune) {
	host := "?"
	if base, err := parseBaseURL(c.BaseURL); err == nil {
		host = base.Host
	}
	fmt.Fprintf(f, "clerkclient.Config{host %s, version %q, timeout %s}", host, redact(c.Version), c.Timeout)
}

// key is a secret key that has been checked. Only the closure knows it. So no verb of fmt can print it, however deep
// in a printed value it lies.
type key struct {
	authorization func() string
	kind          string
	fingerprint   string
}

// parseKey checks the form of the key. Only the prefix is documented. Its errors never hold the key.
func parseKey(secret string) (key, error) {
	foreign := func(r rune) bool { return r <= ' ' || r > '~' }
	kind, rest, _ := strings.Cut(strings.TrimPrefix(secret, "sk_"), "_")
	switch {
	case secret == "":
		return key{}, errors.New("the Clerk secret key is missing: " +
			"give the sk_test_… or sk_live_… key of your instance")
	case strings.ContainsFunc(secret, foreign):
		return key{}, errors.New("the Clerk secret key has spaces, line breaks or other characters that no key has: " +
			"give sk_test_… or sk_live_… alone")
	case strings.HasPrefix(secret, "pk_"):
		return key{}, errors.New("the Clerk key starts with pk_, so it is the publishable one: " +
			"give the secret key, sk_test_… or sk_live_…")
	case !strings.HasPrefix(secret, "sk_test_") && !strings.HasPrefix(secret, "sk_live_"):
		return key{}, errors.New("the Clerk secret key starts with neither sk_test_ nor sk_live_")
	case rest == "" || len(secret) > 256:
		return key{}, fmt.Errorf("the Clerk secret key is %d characters long, so it is not whole or not a key",
			len(secret))
	}
	sum := sha256.Sum256([]byte(secret))
	authorization := func() string { return "Bearer " + secret }
	return key{authorization: authorization, kind: kind, fingerprint: hex.EncodeToString(sum[:4])}, nil
}

// parseBaseURL checks where calls go. Its errors never hold the URL: a user name or password may be in it.
func parseBaseURL(raw string) (*url.URL, error) {
	base, err := url.Parse(cmp.Or(raw, DefaultBaseURL))
	switch {
	case err != nil, base.Host == "", base.Opaque != "":
		return nil, errors.New("the base URL of Clerk's API is not a URL: it looks like " + DefaultBaseURL)
	case base.User != nil:
		return nil, errors.New("the base URL of Clerk's API holds a user name or password: " +
			"only the secret key signs in")
	case base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
		return nil, errors.New("the base URL of Clerk's API has a query or fragment: " +
			"it ends with the path, as in " + DefaultBaseURL)
	case base.Scheme != "https" && base.Scheme != "http":
		return nil, fmt.Errorf("the base URL of Clerk's API has the scheme %q: only https is spoken",
			redact(base.Scheme))
	case base.Scheme == "http" && !isLoopback(base.Hostname()):
		return nil, fmt.Errorf("an https URL: over http to %q the secret key could be read on the way "+
			"(http is for loopback hosts only)", base.Hostname())
	}
	base.Path, base.RawPath = strings.TrimRight(base.Path, "/"), ""
	if base.Path == "" {
		base.Path = "/v1" // Clerk's own SDKs take the host alone (observed in @clerk/backend 3.25.0)
	}
	return base, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

var versionForm = regexp.MustCompile(`^[A-Za-z0-9._+~-]{1,64}$`)

// userAgent names the program: Clerk's edge refuses the generic names of libraries (observed, `error code: 1010`).
func userAgent(version string) (string, error) {
	if !versionForm.MatchString(version) {
		return "", errors.New("the version for the User-Agent header is not 1 to 64 letters, digits " +
			"or any of . _ + ~ -")
	}
	return "usher/" + version + " (+https://example.com/usher)", nil
}
