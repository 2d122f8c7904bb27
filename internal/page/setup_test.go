package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/internal/tokens"
	"example.com/usher/tasks"
)

const (
	operatorToken = "operator-token-operator-token-op"
	viewerToken   = "viewer-token-viewer-token-viewer"
	enqueueToken  = "enqueue-token-enqueue-token-enqu"
)

// bundle is the pages of a Redis, and who fills it.
type bundle struct {
	t      *testing.T
	rdb    *redis.Client
	desk   *desk.Desk
	server *Server
	url    string
	file   string // of the tokens
	end    func() // ends the life of the pages
}

func setup(t *testing.T, change func(*Config)) *bundle {
	t.Helper()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	d, err := desk.New(rdb, tasks.DefaultNamespace, "tests")
	testkit.NoError(t, err)
	b := &bundle{t: t, rdb: rdb, desk: d, file: filepath.Join(t.TempDir(), "tokens")}
	b.writeTokens("ada: " + operatorToken + " operate\nvic: " + viewerToken + " read\nsvc: " + enqueueToken + "\n")
	config := Config{
		Redis: rdb, Namespace: tasks.DefaultNamespace, Anonymous: Operator, Hosts: []string{"localhost", "127.0.0.1"},
		Log: zerolog.New(io.Discard),
	}
	if change != nil {
		change(&config)
		config.Tokens, err = tokens.Open(b.file, nil)
		testkit.NoError(t, err)
	}
	life, end := context.WithCancel(context.Background())
	b.end = end
	b.server, err = New(life, config)
	testkit.NoError(t, err)
	t.Cleanup(func() {
		end()
		b.server.Wait()
	})
	server := httptest.NewServer(b.server)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *bundle) writeTokens(text string) {
	testkit.NoError(b.t, os.WriteFile(b.file, []byte(text), 0o600))
}

// browser is somebody who looks at the pages.
type browser struct {
	*bundle
	client *http.Client
	token  string // sent with every request
}

func (b *bundle) browser() *browser {
	jar, err := cookiejar.New(nil)
	testkit.NoError(b.t, err)
	return &browser{bundle: b, client: &http.Client{Jar: jar}}
}

// page is an answer.
type page struct {
	status int
	body   string
	header http.Header
	path   string // where redirects have led
}

func (w *browser) do(method, path string, form url.Values, header ...string) page {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(form.Encode()))
	testkit.NoError(w.t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if w.token != "" {
		r.Header.Set("Authorization", "Bearer "+w.token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	answer, err := w.client.Do(r)
	testkit.NoError(w.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	testkit.NoError(w.t, err)
	return page{answer.StatusCode, string(body), answer.Header, answer.Request.URL.RequestURI()}
}

func (w *browser) get(path string) page { w.t.Helper(); return w.do(http.MethodGet, path, nil) }

func (w *browser) post(path string, fields ...string) page {
	w.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return w.do(http.MethodPost, path, form)
}

func (p page) must(t *testing.T, status int, texts ...string) page {
	t.Helper()
	if p.status != status {
		t.Fatalf("%s: status %d, want %d: %s", p.path, p.status, status, p.body)
	}
	for _, text := range texts {
		if !strings.Contains(p.body, text) {
			t.Errorf("%s lacks %q: %s", p.path, text, p.body)
		}
	}
	return p
}

// value is that of a hidden field of a form.
func (p page) value(name string) string {
	m := regexp.MustCompile(`name="` + name + `" value="([^"]+)"`).FindStringSubmatch(p.body)
	return html.UnescapeString(m[1])
}

// next is where a list goes on; empty at its end.
func (p page) next() string {
	m := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(p.body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// campaign makes a campaign of n recipients, bulk0@example.com and so on.
func (b *bundle) campaign(name string, n int, opts ...tasks.Option) {
	b.t.Helper()
	request := tasks.BulkRequest{Campaign: name}
	for i := range n {
		request.Recipients = append(request.Recipients, tasks.Recipient{
			EmailAddress: fmt.Sprintf("bulk%d@example.com", i), PublicMetadata: map[string]any{"plan": "secretplan"},
		})
	}
	_, err := b.desk.BulkInvite(b.t.Context(), request, opts...)
	testkit.NoError(b.t, err)
}

// letter writes the dead letter of an invite.
func (b *bundle) letter(id, address, code, message string, at time.Time) {
	b.t.Helper()
	payload, err := json.Marshal(tasks.InvitePayload{
		Version: 1, Recipient: tasks.Recipient{EmailAddress: address, PublicMetadata: map[string]any{"plan": "secretplan"}},
	})
	testkit.NoError(b.t, err)
	testkit.NoError(b.t, b.desk.DeadLetters.Put(b.t.Context(), deadletter.Entry{
		ID: id, TaskID: id, Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: address, FailedAt: at.UTC(),
		Failure: fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Code: code, Message: message}, Payload: payload,
		Attempts: 1,
	}))
}

func (b *bundle) letters() int {
	b.t.Helper()
	n, err := b.desk.DeadLetters.Count(b.t.Context())
	testkit.NoError(b.t, err)
	return n
}

// publish makes a copy of Clerk's list.
func (b *bundle) publish(list ...clerkclient.Invitation) {
	b.t.Helper()
	draft, err := directory.New(b.rdb, tasks.DefaultNamespace).Begin(b.t.Context())
	testkit.NoError(b.t, err)
	testkit.NoError(b.t, draft.Add(b.t.Context(), list))
	_, _, err = draft.Publish(b.t.Context())
	testkit.NoError(b.t, err)
}

func invitation(i int, address string) clerkclient.Invitation {
	return clerkclient.Invitation{
		ID: fmt.Sprintf("inv_%027d", i), EmailAddress: address, Status: "pending",
		CreatedAt: time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC),
	}
}

// follow opens the stream of a page, and gives its messages.
func (w *browser) follow(ctx context.Context, path string) <-chan string {
	w.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	testkit.NoError(w.t, err)
	r.Header.Set("Accept", "text/event-stream")
	answer, err := w.client.Do(r)
	testkit.NoError(w.t, err)
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		w.t.Fatalf("%s, status %d", kind, answer.StatusCode)
	}
	messages := make(chan string)
	go func() {
		defer close(messages)
		defer answer.Body.Close()
		var message strings.Builder
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			if data, is := strings.CutPrefix(lines.Text(), "data: "); is {
				message.WriteString(data + "\n")
				continue
			}
			if message.Len() == 0 {
				continue
			}
			select {
			case messages <- message.String():
				message.Reset()
			case <-ctx.Done():
				return
			}
		}
	}()
	return messages
}

// dead lets n recipients of a campaign die, each with a dead letter.
func (b *bundle) dead(campaign string, n int) {
	b.t.Helper()
	ctx, ledgers := b.t.Context(), ledger.New(b.rdb, tasks.DefaultNamespace)
	batch, err := ledgers.TakeForCall(ctx, campaign, n, time.Minute, 0, ledger.Waiting)
	if testkit.NoError(b.t, err); len(batch.Rows) != n {
		b.t.Fatalf("%d can die, want %d", len(batch.Rows), n)
	}
	var outcomes []ledger.Outcome
	for _, row := range batch.Rows {
		cause, now := fate.Failure{Reason: fate.ReasonRejected, Code: "boom"}, time.Now().UTC()
		var recipient tasks.Recipient
		testkit.NoError(b.t, json.Unmarshal(row.Recipient, &recipient))
		outcomes = append(outcomes, ledger.Outcome{
			Row: row, At: now,
			Decision: fate.Decision{State: row.State, Next: fate.Dead, Intent: fate.IntentRefused, Cause: &cause},
			Letter: &deadletter.Entry{
				ID: deadletter.RecipientID(campaign, row.ID), TaskID: ledger.TaskID(campaign, 1),
				Type: tasks.TypeBulkInvite, Campaign: campaign, Recipient: &row.ID,
				EmailAddress: recipient.EmailAddress, Failure: cause, FailedAt: now, Payload: row.Recipient,
			},
		})
	}
	settled, err := ledgers.Settle(ctx, campaign, outcomes)
	if testkit.NoError(b.t, err); len(settled) != n {
		b.t.Fatalf("%d have died, want %d", len(settled), n)
	}
}
