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

// Addresses are cleaned as everywhere, and refused for the same reasons.
func TestAddressesAsTheyAreCopied(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for path, status := range map[string]int{
		"invitations": http.StatusAccepted, "revocations": http.StatusAccepted, "deletions": http.StatusAccepted,
		"forgets": http.StatusOK,
	} {
		copied := object{"email_address": "\uFEFFmailto:" + path + "@example.com\u200B\u00A0"}
		s.call(people, "POST", "/v1/"+path, copied).is(status)
		wrong := object{"email_address": "ada@exam\u200Bple.com"}
		a := s.call(people, "POST", "/v1/"+path, wrong).is(http.StatusUnprocessableEntity)
		if !strings.Contains(string(a.body), "an invisible character in its domain") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	found := s.call(people, "POST", "/v1/find", object{"what": "invitations@example.com"}).is(http.StatusOK)
	if events, _ := found.object()["events"].([]any); len(events) == 0 {
		t.Errorf("of the clean address is known %s", found.body)
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
