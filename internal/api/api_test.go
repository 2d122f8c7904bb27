package api_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestInvite(t *testing.T) {
	t.Parallel()
	s := setup(t)
	a := s.call(signup, "POST", "/v1/invitations", object{
		"email_address": "ada@example.com", "public_metadata": object{"plan": "pro", "n": 12345678901234567}, "notify": false,
	}).is(http.StatusAccepted)
	task := a.object()
	id := task["task_id"].(string)
	if a.header.Get("Location") != "/v1/tasks/"+id || task["type"] != "invite" || task["state"] != "pending" ||
		task["token"] != "signup" || task["exists"] != false || !strings.HasPrefix(id, "http~signup~") {
		t.Errorf("answered %s, Location %s", a.body, a.header.Get("Location"))
	}
	shown := s.call(signup, "GET", "/v1/tasks/"+id, nil).is(http.StatusOK).object()
	if shown["task_id"] != id || shown["standstill"].(object)["reason"] != "no_worker" {
		t.Errorf("it is shown as %v", shown)
	}
	s.call(signup, "GET", "/v1/tasks/"+id+"?wait=50ms", nil).is(http.StatusOK)
	s.call(other, "GET", "/v1/tasks/"+id, nil).is(http.StatusNotFound, "not-found")
	s.call(viewer, "GET", "/v1/tasks/"+id, nil).is(http.StatusNotFound, "not-found")
	s.call(people, "GET", "/v1/tasks/"+id, nil).is(http.StatusOK)
	payload, err := s.rdb.HGet(t.Context(), "asynq:{usher:interactive}:t:"+id, "msg").Result()
	if err != nil || !strings.Contains(payload, `"n":12345678901234567`) || !strings.Contains(payload, `"no_notify":true`) {
		t.Errorf("%v: the payload is %q", err, payload)
	}
}

// TestFaultsOfABodyAreSaidInPlainWords, at the field that they are about.
func TestFaultsOfABodyAreSaidInPlainWords(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for body, want := range map[string]string{
		`{}`: `{"pointer":"/email_address","field":"email_address","reason":"is missing"}`,
		`{"email_address":"ada@example.com","colour":"red"}`: `{"pointer":"/colour","field":"colour",` +
			`"reason":"is no field of this request"}`,
	} {
		got := s.call(signup, "POST", "/v1/invitations", body).is(422, "validation")
		if !strings.Contains(string(got.body), want) {
			t.Errorf("%s: %s, want %s", body, got.body, want)
		}
	}
	got := s.call(people, "POST", "/v1/forgets", `{"email_address":""}`).is(422, "validation")
	if !strings.Contains(string(got.body), `"reason":"is missing"`) {
		t.Errorf("%s", got.body)
	}
	got = s.call(signup, "POST", "/v1/invitations", `{"email_address":"ada@example.com"}`, "Content-Type", "text/plain").
		is(415, "media-type")
	if !strings.Contains(string(got.body), "the header Content-Type must say so: application/json") {
		t.Errorf("%s", got.body)
	}
}

// TestAddressesAreCleaned as they come out of a web page, wherever one is given.
func TestAddressesAreCleaned(t *testing.T) {
	t.Parallel()
	s := setup(t)
	pasted := object{"email_address": "\u00A0mailto:ada@example.com\u200B\uFEFF "}
	for path, queue := range map[string]string{
		"/v1/invitations": "interactive", "/v1/revocations": "housekeeping", "/v1/deletions": "housekeeping",
	} {
		task := s.call(people, "POST", path, pasted).is(http.StatusAccepted).object()["task_id"].(string)
		key := "asynq:{usher:" + queue + "}:t:" + task
		payload, err := s.rdb.HGet(t.Context(), key, "msg").Result()
		if err != nil || !strings.Contains(payload, `"email_address":"ada@example.com"`) {
			t.Errorf("%s: the payload is %q, %v", path, payload, err)
		}
	}
	for _, path := range []string{"invitations", "revocations", "deletions", "forgets"} {
		wrong := object{"email_address": "ada@exam\u200Bple.com"}
		a := s.call(people, "POST", "/v1/"+path, wrong).is(http.StatusUnprocessableEntity)
		if !strings.Contains(string(a.body), "an invisible character in its domain") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	story := s.call(people, "POST", "/v1/find", object{"what": pasted["email_address"]}).is(http.StatusOK).object()
	if story["email_address"] != "ada@example.com" || len(story["events"].([]any)) == 0 {
		t.Errorf("found is %v", story)
	}
	s = setup(t)
	s.call(people, "POST", "/v1/invitations", pasted).is(http.StatusAccepted)
	s.call(people, "POST", "/v1/forgets", pasted).is(http.StatusOK)
	if n := s.queued(); n != 0 {
		t.Errorf("%d tasks have the address still", n)
	}
}
