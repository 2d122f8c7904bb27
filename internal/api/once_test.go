package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

const key = "Idempotency-Key"

// One key is one request of a name: with the same body nothing is done twice, and with another body nothing at all.
func TestAKeyIsOneRequest(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := object{"email_address": "ada@example.com"}
	first := s.call(signup, "POST", "/v1/invitations", body, key, "order-1").is(http.StatusAccepted)
	id := first.object()["task_id"]
	again := s.call(signup, "POST", "/v1/invitations", `{ "email_address" : "ada@example.com" }`, key, "order-1").
		is(http.StatusAccepted)
	if again.object()["task_id"] != id || again.header.Get("Idempotency-Replayed") != "true" ||
		again.object()["exists"] != true || first.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("the second answer is %v %s", again.header, again.body)
	}
	for name, c := range map[string]struct {
		path string
		body any
	}{
		"another address": {"/v1/invitations", object{"email_address": "bob@example.com"}},
		"another option":  {"/v1/invitations", object{"email_address": "ada@example.com", "notify": true}},
		"another time":    {"/v1/invitations?in=1h", body},
		"another path":    {"/v1/syncs", nil},
	} {
		if got := s.call(signup, "POST", c.path, c.body, key, "order-1"); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		} else {
			got.is(http.StatusUnprocessableEntity, "idempotency-key-reused")
		}
	}
	if n := s.queued(); n != 1 {
		t.Fatalf("%d tasks are queued, want 1", n)
	}
	if id == s.call(other, "POST", "/v1/invitations", body, key, "order-1").is(http.StatusAccepted).object()["task_id"] {
		t.Error("two names share a key")
	}
}

// A request that was refused leaves no key.
func TestARefusedRequestLeavesNoKey(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.call(signup, "POST", "/v1/invitations", object{"email_address": "ada"}, key, "k").is(422, "validation")
	s.call(signup, "POST", "/v1/invitations?at=2020-01-01T00:00:00Z", object{"email_address": "ada@example.com"}, key, "k").
		is(422, "validation")
	s.call(signup, "POST", "/v1/campaigns/spring/recipients", csvBody("email_address\nada"), key, "k").is(422, "validation")
	s.call(signup, "POST", "/v1/campaigns/spring/recipients", csvBody("email_address\nada@example.com\n")).is(202)
	s.call(people, "POST", "/v1/campaigns/spring/cancel", nil, key, "k").is(200)
	s.call(signup, "POST", "/v1/campaigns/spring/recipients", csvBody("email_address\nbob@example.com\n"), key, "k").
		is(422, "validation")
	s.call(people, "POST", "/v1/dead-letters/none/retry", nil, key, "k2").is(404, "not-found")
	if keys := s.rdb.Keys(t.Context(), "usher:{once}:t:http~signup~*").Val(); len(keys) != 1 {
		t.Errorf("there are records of %q, want one, of the list that was taken", keys)
	}
	s.call(signup, "POST", "/v1/invitations", object{"email_address": "bob@example.com"}, key, "k").is(202)
}

// What a replay answers is how the task stands now: a dead one says so, why, and how to mend it.
func TestAReplayTellsHowItStands(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := object{"email_address": "ada@example.com"}
	id := s.call(signup, "POST", "/v1/invitations", body, key, "k").is(202).object()["task_id"].(string)
	s.die(id, body)
	a := s.call(signup, "POST", "/v1/invitations", body, key, "k").is(202).object()
	if a["state"] != "dead" || a["error"].(object)["code"] != "form_param_format_invalid" ||
		a["mend"] != "/v1/dead-letters/"+id+"/retry" {
		t.Errorf("answered %v", a)
	}
	// Its time has passed since, and that does no harm.
	s.call(signup, "POST", "/v1/syncs?in=1s", nil, key, "later").is(202)
	s.call(signup, "POST", "/v1/syncs?in=1s", nil, key, "later").is(202)
}

// A key whose request is under way is refused; once the request was broken off, it is free.
func TestAKeyInUseIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body, write := io.Pipe()
	slow, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/campaigns/spring/recipients", body)
	testkit.NoError(t, err)
	slow.Header.Set("Authorization", "Bearer "+signup)
	slow.Header.Set("Content-Type", "text/csv")
	slow.Header.Set(key, "list")
	ended := make(chan error, 1)
	go func() {
		_, err := http.DefaultTransport.RoundTrip(slow)
		ended <- err
	}()
	_, err = write.Write([]byte("email_address\nada@exam"))
	testkit.NoError(t, err)
	testkit.Eventually(t, "the key is taken", func() bool {
		return s.rdb.Exists(t.Context(), s.busy("signup", "list")).Val() == 1
	})
	list := csvBody("email_address\nada@example.com\n")
	a := s.call(signup, "POST", "/v1/campaigns/spring/recipients", list, key, "list").is(409, "idempotency-key-in-use")
	if a.header.Get("Retry-After") == "" {
		t.Error("it is not said when to come again")
	}
	s.call(other, "POST", "/v1/campaigns/summer/recipients", list, key, "list").is(202)
	testkit.NoError(t, write.CloseWithError(io.ErrClosedPipe))
	<-ended
	testkit.Eventually(t, "the key is free", func() bool {
		return s.rdb.Exists(t.Context(), s.busy("signup", "list")).Val() == 0
	})
	s.call(people, "GET", "/v1/campaigns/spring", nil).is(404, "not-found")
	s.call(signup, "POST", "/v1/campaigns/spring/recipients", list, key, "list").is(202)
	replay := s.call(signup, "POST", "/v1/campaigns/spring/recipients", list, key, "list").is(202)
	if replay.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeated list is no replay: %s", replay.body)
	}
	s.call(signup, "POST", "/v1/campaigns/spring/recipients", list+"bob@example.com\n", key, "list").
		is(422, "idempotency-key-reused")
}

// A change with a key is made once, whatever has happened since.
func TestAReplayedChangeChangesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.call(signup, "POST", "/v1/campaigns/spring/recipients?in=1h", csvBody("email_address\nada@example.com\n")).is(202)
	pause := func() object {
		return s.call(people, "POST", "/v1/campaigns/spring/pause", nil, key, "p").is(200).object()
	}
	if c := pause(); c["state"] != "paused" {
		t.Fatalf("it is %v", c["state"])
	}
	s.call(people, "POST", "/v1/campaigns/spring/resume", nil).is(200)
	if c := pause(); c["state"] == "paused" {
		t.Error("the replay has paused it again")
	}
	s.call(people, "POST", "/v1/campaigns/spring/cancel", nil, key, "p").is(422, "idempotency-key-reused")
}

// Ids of the API, of producers and of schedules are never the same.
func TestIDsAreNobodyElses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.call(signup, "POST", "/v1/syncs", nil, key, "k").is(202).object()["task_id"].(string)
	if _, err := tasks.Resolve(tasks.ID(id)); err == nil {
		t.Errorf("a producer may choose %s", id)
	}
	if record.OwnerOf(id) != "signup" || record.OwnerOf(strings.Replace(id, "~", ".", 1)) != "" {
		t.Errorf("the owner of %s is %q", id, record.OwnerOf(id))
	}
}

func (s *stage) busy(name, key string) string {
	keys := s.rdb.Keys(s.t.Context(), store.Keys(tasks.DefaultNamespace).Busy("http~"+name+"~*")).Val()
	if len(keys) != 1 {
		return "none"
	}
	return keys[0]
}

// TestAKeyCannotBeTried: who sees the id of a task finds no key by trying, because the id rests on a secret.
func TestAKeyCannotBeTried(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for range 2 { // two secrets
		s := setup(t)
		body := object{"email_address": "ada@example.com"}
		made := s.call(signup, "POST", "/v1/invitations", body, key, "ada@example.com").is(202).object()
		ids[made["task_id"].(string)] = true
	}
	if len(ids) != 2 {
		t.Errorf("the id of a key is the same everywhere: %v", ids)
	}
}
