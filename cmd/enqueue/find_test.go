package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
)

// story is what find tells to a program: the kinds of events, in their order.
func (s *stage) story(what string) (kinds []string, object map[string]any) {
	s.t.Helper()
	object = s.ok("find", what)
	events, _ := object["events"].([]any)
	for _, e := range events {
		kinds = append(kinds, e.(map[string]any)["what"].(string))
	}
	return kinds, object
}

func TestTheStoryOfAnAddressIsToldInOrder(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 1, 1)
	s.list("dead-letter", "retry", "--all", "--set", "email_address=right@example.com")
	batch, err := s.ledgers.TakeToAsk(t.Context(), "spring", 1, time.Minute, ledger.Unsure)
	testkit.NoError(t, err)
	decision := fate.Decision{Next: fate.Sent, Intent: fate.IntentUntold, InvitationID: "inv_1"}
	settled, err := s.ledgers.Settle(t.Context(), "spring", batch,
		[]ledger.Outcome{{Row: batch.Rows[0], Decision: decision, At: time.Now()}})
	if testkit.NoError(t, err); len(settled) != 1 {
		t.Fatal("not settled")
	}
	now := time.Now()
	s.synced(clerkclient.Invitation{
		ID: "inv_1", EmailAddress: "Right@example.com", Status: "accepted", CreatedAt: now,
		UpdatedAt: now.Add(time.Millisecond),
	}, clerkclient.Invitation{ID: "inv_2", EmailAddress: "copyright@example.com", Status: "accepted", CreatedAt: now,
		UpdatedAt: now})
	for _, spelled := range []string{"right@example.com", " RIGHT@example.com", "inv_1"} {
		kinds, object := s.story(spelled)
		if !slices.Equal(kinds, []string{"campaign", "died", "mended", "sent", "accepted"}) {
			t.Errorf("%s: %v\n%v", spelled, kinds, object)
		}
	}
	kinds, object := s.story("spring0@example.com")
	if !slices.Equal(kinds, []string{"died", "mended"}) || !strings.Contains(fmt.Sprint(object), "right@example.com") {
		t.Errorf("the address that was replaced: %v\n%v", kinds, object)
	}
	s.ok("forget", "spring0@example.com", "--yes")
	if a := s.enqueue("find", "right@example.com"); strings.Contains(a.stdout, "spring0") {
		t.Errorf("a forgotten address is told:\n%s", a.stdout)
	}
}

func TestFindTellsOfAllThatIsOpen(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "waits")
	s.ok("invite", "ada@example.com", "--id", "later", "--in", "2h")
	s.ok("invite", "ada@example.com", "--id", "dies")
	s.dies("dies", "ada@example.com", s.queued("usher:interactive", "dies"))
	s.ok("invite", "bob@example.com", "--id", "other")
	wish := intent.Wish{Task: "waits", Address: store.IDOf("ada@example.com")}
	_, err := intent.NewTasks(s.rdb, "usher").Claim(t.Context(), "token", time.Minute, []intent.Wish{wish})
	testkit.NoError(t, err)
	kinds, object := s.story("ada@example.com")
	for _, kind := range []string{"waiting", "scheduled", "dead-letter", "doubt"} {
		if !slices.Contains(kinds, kind) {
			t.Errorf("no %s in %v", kind, kinds)
		}
	}
	if strings.Contains(fmt.Sprint(object), "other") {
		t.Errorf("another's task is told: %v", object)
	}
	kinds, _ = s.story("later")
	if !slices.Contains(kinds, "scheduled") {
		t.Errorf("the task: %v", kinds)
	}
	s.list("dead-letter", "retry", "dies", "--set", "notify=no")
	s.ended("dies:retry1", record.Record{State: record.Done, InvitationID: "inv_1"})
	if kinds, _ = s.story("dies"); !slices.Equal(kinds, []string{"dead", "done", "retried"}) {
		t.Errorf("the task that was retried: %v", kinds)
	}
	s.ok("forget", "gone@example.com", "--yes")
	if kinds, _ = s.story("gone@example.com"); !slices.Equal(kinds, []string{"forgotten"}) {
		t.Errorf("forgotten: %v", kinds)
	}
	if a := s.enqueue("find", "nothing"); a.exit != 1 || !strings.Contains(a.stderr, "nothing") {
		t.Errorf("exit %d, %s", a.exit, a.stderr)
	}
}
