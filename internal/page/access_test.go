package page

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/internal/tokens"
	"example.com/usher/tasks"
)

// locked gives pages for which one must log in.
func locked(t *testing.T) *bundle {
	t.Helper()
	return setup(t, func(c *Config) { c.Anonymous = Nobody })
}

func TestNobodyGetsInWithoutAToken(t *testing.T) {
	t.Parallel()
	b := locked(t)
	b.campaign("spring", 1)
	stranger := b.browser()
	for _, path := range []string{
		"/", "/campaigns", "/campaigns/spring", "/dead-letters", "/invitations", "/schedules", "/actions", "/nope",
	} {
		stranger.get(path).must(t, http.StatusUnauthorized, "Log in first")
	}
	for _, path := range []string{
		"/find", "/campaigns/spring/export", "/campaigns/spring/cancel", "/dead-letters/one?id=x",
	} {
		if p := stranger.get(path); p.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, p.status)
		}
	}
	for _, path := range []string{"/campaigns/spring/pause", "/dead-letters/retry", "/find", "/invitations"} {
		stranger.post(path).must(t, http.StatusForbidden)
	}
	stranger.get("/login").must(t, http.StatusOK, `type="password"`)
	stranger.get("/static/style.css").must(t, http.StatusOK)
}

func TestLoggingIn(t *testing.T) {
	t.Parallel()
	b := locked(t)
	for _, wrong := range []string{"", "nonsense", enqueueToken} {
		b.browser().post("/login", "token", wrong).must(t, http.StatusUnauthorized, "opens nothing here", `type="password"`)
	}
	ada := b.browser()
	ada.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	in := ada.post("/login", "token", operatorToken).must(t, http.StatusSeeOther)
	cookie := in.header.Get("Set-Cookie")
	for _, part := range []string{"HttpOnly", "SameSite=Strict", "Max-Age=43200", "Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("%s is missing in %s", part, cookie)
		}
	}
	if strings.Contains(cookie, operatorToken) {
		t.Errorf("the cookie holds the token: %s", cookie)
	}
	ada.get("/find").must(t, http.StatusOK, "ada")
	ada.post("/logout").must(t, http.StatusSeeOther)
	ada.get("/").must(t, http.StatusUnauthorized)

	bearer := b.browser()
	bearer.token = operatorToken
	bearer.get("/find").must(t, http.StatusOK, "ada")
	bearer.token = "nonsense"
	bearer.get("/").must(t, http.StatusForbidden)
}

// TestASessionEndsWithItsToken: any replica accepts it as long as the token stands, and its time has not passed.
func TestASessionEndsWithItsToken(t *testing.T) {
	t.Parallel()
	b := locked(t)
	now := time.Now()
	ada, _ := b.server.keys.lookup(operatorToken)
	value := session(ada, now)
	replica, err := tokens.Open(b.file, nil)
	testkit.NoError(t, err)
	if who, ok := newKeyring(replica, "").resumed(value, now); !ok || who.Name != "ada" {
		t.Errorf("another replica does not accept it: %v %v", who, ok)
	}
	for name, forged := range map[string]string{
		"later":           strings.Replace(value, "|"+strings.Split(value, "|")[1]+"|", "|99999999999|", 1),
		"another name":    strings.Replace(value, "ada", "vic", 1),
		"no proof":        "ada|" + strings.Split(value, "|")[1] + "|",
		"garbage":         "ada",
		"without a token": session(tokens.Identity{Name: "ada"}, now),
	} {
		if _, ok := b.server.keys.resumed(forged, now); ok {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, ok := b.server.keys.resumed(value, now.Add(sessionTime+time.Second)); ok {
		t.Error("it is accepted after its time")
	}
	b.writeTokens("vic: " + viewerToken + " read\n")
	testkit.Eventually(t, "the session ends", func() bool {
		_, ok := b.server.keys.resumed(value, now)
		return !ok
	})
}

func TestLogInsAreBounded(t *testing.T) {
	t.Parallel()
	b := locked(t)
	w := b.browser()
	for range loginBurst + 5 {
		if p := w.post("/login", "token", "x"); p.status == http.StatusTooManyRequests {
			if p.header.Get("Retry-After") == "" {
				t.Error("it does not say how long to wait")
			}
			return
		}
	}
	t.Error("tokens can be tried without a bound")
}

// TestOnlyThisSiteActs: no other site may post, frame a page, or lend it a name.
func TestOnlyThisSiteActs(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 1)
	w := b.browser()
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://elsewhere.example"},
		{"Host", "elsewhere.example"}, {"Host", "127.0.0.1.elsewhere.example:80"},
	} {
		w.do(http.MethodPost, "/campaigns/spring/pause", nil, header...).must(t, http.StatusForbidden)
	}
	w.do(http.MethodGet, "/", nil, "Host", "elsewhere.example").must(t, http.StatusForbidden)
	w.do(http.MethodGet, "/", nil, "Host", "localhost:8080").must(t, http.StatusOK)
	if c, err := b.desk.Campaign(t.Context(), "spring"); err != nil || c.State == "paused" {
		t.Errorf("%+v %v", c, err)
	}
	header := w.get("/").header
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := header.Get(name); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	policy := header.Get("Content-Security-Policy")
	if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Error(policy)
	}
}

// TestAViewerLearnsNoAddress: not from a page, a stream or an id, and does nothing.
func TestAViewerLearnsNoAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Anonymous = Viewer })
	b.campaign("spring", 3)
	b.letter("task-id-1", "hidden@example.com", "form_param_format_invalid", "hidden@example.com is wrong", time.Now())
	b.publish(invitation(1, "hidden@example.com"))
	testkit.NoError(t, b.desk.DeadLetters.Put(t.Context(), deadletter.Entry{
		ID: "revoke-1", TaskID: "revoke-1", Type: tasks.TypeRevoke, InvitationID: "inv_hidden", FailedAt: time.Now().UTC(),
	}))
	w := b.browser()
	pages := []string{
		"/", "/campaigns", "/campaigns/spring", "/campaigns/spring?outcome=waiting", "/dead-letters",
		"/dead-letters?code=form_param_format_invalid", "/invitations", "/schedules", "/actions",
	}
	var secrets []string
	for _, address := range []string{"hidden@example.com", "bulk0@example.com"} {
		id := store.IDOf(address)
		name, _, _ := strings.Cut(address, "@")
		secrets = append(secrets, name, hex.EncodeToString(id[:]))
	}
	for _, path := range pages {
		body := w.get(path).must(t, http.StatusOK).body
		ctx := t.Context()
		if !strings.HasPrefix(path, "/invitations") && path != "/actions" {
			body += <-w.follow(ctx, path)
		}
		for _, secret := range append(secrets, "secretplan", "inv_", "task-id-1") {
			if strings.Contains(body, secret) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
	}
	for _, path := range []string{
		"/find", "/dead-letters/one?id=task-id-1", "/campaigns/spring/export", "/campaigns/spring/cancel",
	} {
		w.get(path).must(t, http.StatusUnauthorized, "Log in first")
	}
	for _, path := range []string{
		"/campaigns/spring/cancel", "/dead-letters/delete", "/dead-letters/retry", "/dead-letters/mend", "/invitations",
		"/invitations/revoke", "/find", "/resume-calls", "/schedules/x/pause",
	} {
		w.post(path, "id", "task-id-1", "cut", exact(time.Now())).must(t, http.StatusForbidden)
	}
	if b.letters() != 2 {
		t.Error("a viewer has deleted a dead letter")
	}
}
