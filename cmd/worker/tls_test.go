package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
)

// TestTheAdminAddressBehindTLS: all of it, and a certificate that is replaced in its files is used without a restart.
func TestTheAdminAddressBehindTLS(t *testing.T) {
	setup(t)
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	dir := t.TempDir()
	cert, key := testkit.Certify(t, dir, 1)
	const token = "admin-token-admin-token-admin-to"
	for name, value := range map[string]string{
		"USHER_ADMIN_ADDR": addr, "USHER_ADMIN_TOKEN": token, "USHER_ADMIN_TLS_CERT": cert, "USHER_ADMIN_TLS_KEY": key,
	} {
		t.Setenv(name, value)
	}
	log, stop := serve(t)
	serial := int64(0)
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true,
			VerifyConnection: func(c tls.ConnectionState) error {
				serial = c.PeerCertificates[0].SerialNumber.Int64()
				return nil
			},
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.PostForm("https://"+addr+"/login", url.Values{"token": {token}})
	testkit.NoError(t, err)
	answer.Body.Close()
	if cookie := answer.Header.Get("Set-Cookie"); answer.StatusCode != http.StatusSeeOther ||
		!strings.Contains(cookie, "; Secure") || serial != 1 {
		t.Errorf("%d, %s, certificate %d", answer.StatusCode, cookie, serial)
	}
	if plain, err := client.Get("http://" + addr + "/healthz"); err == nil {
		plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %d", plain.StatusCode)
		}
	}
	if exit := run(t.Context(), []string{"healthcheck"}, io.Discard, os.Stderr); exit != settings.ExitDone {
		t.Errorf("healthcheck: exit %d", exit)
	}
	ask := func() int64 {
		answer, err := client.Get("https://" + addr + "/healthz")
		testkit.NoError(t, err)
		answer.Body.Close()
		return serial
	}
	testkit.Certify(t, dir, 2)
	testkit.Eventually(t, "the new certificate is used", func() bool { return ask() == 2 })
	testkit.NoError(t, os.WriteFile(key, []byte("no key"), 0o600))
	testkit.Eventually(t, "the fault is told", func() bool {
		return ask() == 2 && strings.Contains(log.String(), "the certificate stays as it was")
	})
	if exit := stop(); exit != settings.ExitDone {
		t.Errorf("exit %d", exit)
	}
}

// TestNoPagesInTheClear: beyond loopback they are served with TLS only, ours or a proxy's.
func TestNoPagesInTheClear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config adminConfig
		pages  bool
	}{
		"loopback":     {adminConfig{loopback: true}, true},
		"in the clear": {adminConfig{}, false},
		"TLS":          {adminConfig{tls: &tls.Config{}}, true},
		"a proxy":      {adminConfig{behindProxy: true}, true},
	} {
		clerk := func() (i settings.Instance, err error) { return i, err }
		testkit.NoError(t, c.config.servePages(t.Context(), testkit.MiniRedis(t), clerk, "usher", false, zerolog.Nop()))
		if (c.config.pages != nil) != c.pages {
			t.Errorf("%s: pages %v", name, c.config.pages != nil)
		}
	}
}
