package main

import (
	"fmt"
	"slices"
	"strconv"
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
	decision := fate.Decision{Next: fate.Sent, Intent: fate.IntentUnchanged, InvitationID: "inv_1"}
	outcome := ledger.Outcome{Row: batch.Rows[0], Decision: decision, At: time.Now()}
	settled, err := s.ledgers.Settle(t.Context(), "spring", []ledger.Outcome{outcome})
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
		if !slices.Equal(kinds, []string{"campaign", "dead", "mended", "sent", "accepted"}) {
			t.Errorf("%s: %v\n%v", spelled, kinds, object)
		}
	}
	kinds, object := s.story("spring0@example.com")
	if !slices.Equal(kinds, []string{"campaign", "dead", "mended"}) || !strings.Contains(fmt.Sprint(object), "right@example.com") {
		t.Errorf("the address that was replaced: %v\n%v", kinds, object)
	}
	s.ok("forget", "spring0@example.com", "--yes")
	if a := s.enqueue("find", "right@example.com"); strings.Contains(a.stdout, "spring0") {
		t.Errorf("a forgotten address is told:\n%s", a.stdout)
	}
}

// TestTheStatusSaysHowManyAreAskedAbout: they wait for a question, or one is under way.
func TestTheStatusSaysHowManyAreAskedAbout(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 2, 2)
	s.list("dead-letter", "retry", "--all", "--set", "redirect_url=https://example.com")
	for range 2 {
		a := s.enqueue("campaign", "status", "spring")
		if !strings.Contains(a.stdout, "Of 2 recipients nobody knows whether the last call has invited them;") {
			t.Errorf("%s%s", a.stdout, a.stderr)
		}
		if c := s.ok("campaign", "status", "spring"); fmt.Sprint(c["unsure"]) != "2" {
			t.Errorf("%v", c)
		}
		_, err := s.ledgers.TakeToAsk(t.Context(), "spring", 1, time.Minute, ledger.Unsure)
		testkit.NoError(t, err)
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
	kinds, object = s.story("dies")
	if person, _ := s.story("ada@example.com"); !slices.Equal(kinds, person) || !slices.Contains(kinds, "done") {
		t.Errorf("the task that was retried: %v\n%v", kinds, object)
	}
	s.ok("forget", "gone@example.com", "--yes")
	if kinds, _ = s.story("gone@example.com"); !slices.Equal(kinds, []string{"forgotten"}) {
		t.Errorf("forgotten: %v", kinds)
	}
	if a := s.enqueue("find", "nothing"); a.exit != 1 || !strings.Contains(a.stderr, "nothing") {
		t.Errorf("exit %d, %s", a.exit, a.stderr)
	}
}

// TestFindTellsWhatPeopleDidWithDeadLetters, when, by the id of each task and letter too.
func TestFindTellsWhatPeopleDidWithDeadLetters(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "ada")
	payload := s.queued("usher:interactive", "ada")
	s.dies("ada", "ada@example.com", payload)
	s.list("dead-letter", "retry", "ada")
	// The payload of the retry says when the first task was enqueued: it does not stand there.
	if kinds, object := s.story("ada@example.com"); !slices.Equal(kinds, []string{
		"enqueued", "dead", "retried", "waiting",
	}) {
		t.Errorf("%v\n%v", kinds, object)
	}
	for _, id := range []string{"ada", "ada:retry1"} {
		if kinds, object := s.story(id); !slices.Equal(kinds, []string{"enqueued", "dead", "retried", "waiting"}) {
			t.Errorf("%s: %v\n%v", id, kinds, object)
		}
	}
	s.dies("ada:retry1", "ada@example.com", payload)
	s.list("dead-letter", "retry", "ada:retry1", "--set", "notify=no")
	s.dies("ada:retry2", "ada@example.com", payload)
	s.list("dead-letter", "delete", "ada:retry2", "--yes")
	whole := []string{"enqueued", "dead", "retried", "dead", "mended", "dead", "deleted"}
	for _, id := range []string{"ada", "ada:retry1", "ada:retry2"} {
		if kinds, object := s.story(id); !slices.Equal(kinds, whole) {
			t.Errorf("%s: %v\n%v", id, kinds, object)
		}
	}
	if kinds, object := s.story("ada@example.com"); !slices.Equal(kinds, whole) {
		t.Errorf("%v\n%v", kinds, object)
	}
}

// TestFindKnowsCampaignsAndTheirLetters by name and id, also after a letter was retried, mended or deleted.
func TestFindKnowsCampaignsAndTheirLetters(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 3, 3)
	ids := map[string]string{}
	for _, letter := range s.list("dead-letter", "list") {
		ids[letter["email_address"].(string)] = letter["id"].(string)
	}
	s.list("dead-letter", "retry", ids["spring0@example.com"])
	s.list("dead-letter", "retry", ids["spring1@example.com"], "--set", "email_address=right@example.com")
	s.list("dead-letter", "delete", ids["spring2@example.com"], "--yes")
	for was, is := range map[string]string{
		"spring0@example.com": "spring0@example.com", "spring1@example.com": "right@example.com",
		"spring2@example.com": "spring2@example.com",
	} {
		if _, object := s.story(ids[was]); object["email_address"] != is {
			t.Errorf("%s: %v", was, object)
		}
	}
	if kinds, _ := s.story("spring2@example.com"); !slices.Equal(kinds, []string{"campaign", "dead", "deleted"}) {
		t.Errorf("deleted: %v", kinds)
	}
	s.mini.HSet("usher:{once}:c:spring:meta", "started_at", strconv.FormatInt(time.Now().UnixMilli(), 10))
	if kinds, object := s.story("spring"); !slices.Equal(kinds, []string{"enqueued", "started", "dead", "mended"}) {
		t.Errorf("the campaign: %v\n%v", kinds, object)
	}
	if a := s.enqueue("find", "spring"); !strings.Contains(a.stdout, "campaign spring, 1 recipient") {
		t.Errorf("%s", a.stdout)
	}
}

// TestFindTellsWhereAMendedInviteGoes by the id of its task, as long as something tells it.
func TestFindTellsWhereAMendedInviteGoes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "ada")
	payload := s.queued("usher:interactive", "ada")
	s.dies("ada", "ada@example.com", payload)
	s.list("dead-letter", "retry", "ada", "--set", "email_address=right@example.com")
	told := func(when string) {
		t.Helper()
		a := s.enqueue("invite", "ada@example.com", "--id", "ada")
		const words = "The invitation of ada@example.com (mended, it goes to right@example.com) exists already: task ada:retry1"
		if a.exit != 0 || !strings.HasPrefix(a.stdout, words) {
			t.Errorf("repeated %s: %+v", when, a)
		}
		for _, id := range []string{"ada", "ada:retry1"} {
			if _, object := s.story(id); object["email_address"] != "right@example.com" {
				t.Errorf("%s, %s: %v", when, id, object)
			}
		}
	}
	told("while it waits")
	s.ended("ada:retry1", record.Record{State: record.Done, InvitationID: "inv_1"})
	testkit.NoError(t, s.inspector().DeleteTask("usher:interactive", "ada:retry1"))
	s.synced(clerkclient.Invitation{ID: "inv_1", EmailAddress: "right@example.com", Status: "pending", CreatedAt: time.Now()})
	told("when it is done")
	s.synced()
	told("when it was deleted at Clerk")
	s.ok("forget", "right@example.com", "--yes")
	if a := s.enqueue("invite", "ada@example.com", "--id", "ada"); !strings.Contains(a.stdout, "it goes to another address") {
		t.Errorf("it goes nobody knows where: %+v", a)
	}
}

// TestTheStoryOfAMendedInviteGoesOnToItsEnd by the id of each of its tasks, and the address that was replaced says
// where.
func TestTheStoryOfAMendedInviteGoesOnToItsEnd(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "first@example.com", "--id", "one")
	s.dies("one", "first@example.com", s.queued("usher:interactive", "one"))
	s.list("dead-letter", "retry", "one", "--set", "email_address=second@example.com")
	s.dies("one:retry1", "second@example.com", s.queued("usher:interactive", "one:retry1"))
	s.list("dead-letter", "retry", "one:retry1", "--set", "email_address=third@example.com")
	s.ended("one:retry2", record.Record{State: record.Done, InvitationID: "inv_1"})
	testkit.NoError(t, s.inspector().DeleteTask("usher:interactive", "one:retry2"))
	told := func(what, address string, kinds ...string) {
		t.Helper()
		got, object := s.story(what)
		if !slices.Equal(got, kinds) || object["email_address"] != address {
			t.Errorf("%s: %v, want %v\n%v", what, got, kinds, object)
		}
	}
	whole := []string{"enqueued", "dead", "mended", "dead", "mended", "done"}
	told("one", "third@example.com", whole...) // although Clerk's list was never read
	s.synced(clerkclient.Invitation{
		ID: "inv_1", EmailAddress: "third@example.com", Status: "accepted", CreatedAt: time.Now(),
		UpdatedAt: time.Now().Add(time.Millisecond),
	})
	for _, id := range []string{"one", "one:retry1", "one:retry2"} {
		told(id, "third@example.com", append(whole, "accepted")...)
	}
	told("third@example.com", "third@example.com", "dead", "mended", "done", "accepted")
	for was, is := range map[string][2]string{
		"first@example.com": {"second@example.com", "one:retry1"}, "second@example.com": {"third@example.com", "one:retry2"},
	} {
		_, object := s.story(was)
		next, _ := object["goes_on"].([]any)
		if len(next) != 1 {
			t.Fatalf("%s goes on in %v", was, next)
		}
		want(t, next[0].(map[string]any), map[string]any{"email_address": is[0], "id": is[1]})
		if a := s.enqueue("find", was); !strings.Contains(a.stdout, "enqueue find "+is[0]) {
			t.Errorf("%s", a.stdout)
		}
	}
	s.ok("forget", "third@example.com", "--yes")
	for _, what := range []string{"one", "one:retry2", "second@example.com"} {
		if a := s.enqueue("find", what); strings.Contains(a.stdout, "third") {
			t.Errorf("a forgotten address is told:\n%s", a.stdout)
		}
	}
}

// TestTheAddressOfARowThatWasReplacedSaysWhereItGoesOn, by an id too that tells no address.
func TestTheAddressOfARowThatWasReplacedSaysWhereItGoesOn(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 1, 1)
	letter := s.list("dead-letter", "list")[0]["id"]
	s.list("dead-letter", "retry", "--all", "--set", "email_address=right@example.com")
	_, object := s.story("spring0@example.com")
	next, _ := object["goes_on"].([]any)
	if len(next) != 1 {
		t.Fatalf("it goes on in %v", next)
	}
	want(t, next[0].(map[string]any), map[string]any{"email_address": "right@example.com", "id": letter})
	if _, object := s.story(letter.(string)); object["email_address"] != "right@example.com" {
		t.Errorf("%v", object)
	}
}

// TestATaskWithAnIdThatBecameFreeIsNotInTheStoryOfAnother, who had the id before.
func TestATaskWithAnIdThatBecameFreeIsNotInTheStoryOfAnother(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "one")
	s.dies("one", "ada@example.com", s.queued("usher:interactive", "one"))
	s.list("dead-letter", "delete", "one", "--yes")
	s.ok("invite", "bob@example.com", "--id", "one")
	s.ended("one", record.Record{State: record.Done, InvitationID: "inv_1"})
	testkit.NoError(t, s.inspector().DeleteTask("usher:interactive", "one"))
	if kinds, _ := s.story("ada@example.com"); !slices.Equal(kinds, []string{"enqueued", "dead", "deleted"}) {
		t.Errorf("%v", kinds)
	}
	if _, object := s.story("one"); object["email_address"] != "bob@example.com" {
		t.Errorf("%v", object)
	}
	s.ok("forget", "ada@example.com", "--yes")
	if _, object := s.story("one"); object["email_address"] != "bob@example.com" {
		t.Errorf("after another was forgotten: %v", object)
	}
}

// TestWhatHasEndedTellsWhenItWasEnqueued, and a cancelled task when it was to run.
func TestWhatHasEndedTellsWhenItWasEnqueued(t *testing.T) {
	t.Parallel()
	s := setup(t)
	at := map[string]any{}
	for _, id := range []string{"done", "skips", "dies", "cancelled"} {
		at[id] = s.ok("invite", id+"@example.com", "--id", id, "--in", "2h")["enqueued_at"]
	}
	due := s.ok("status", "cancelled")["scheduled_at"]
	s.ended("done", record.Record{State: record.Done, InvitationID: "inv_1"})
	s.ended("skips", record.Record{State: record.Done, Skipped: &fate.Failure{Code: "form_identifier_exists"}})
	s.dies("dies", "dies@example.com", s.queued("usher:interactive", "dies"))
	s.list("task", "cancel", "cancelled", "--yes")
	for id, enqueued := range at {
		if enqueued == nil {
			t.Fatalf("%s has no time", id)
		}
		if id != "cancelled" {
			_ = s.inspector().DeleteTask("usher:interactive", id)
		}
		want(t, s.ok("status", id), map[string]any{"enqueued_at": enqueued})
		_, object := s.story(id)
		if first := object["events"].([]any)[0].(map[string]any); first["what"] != "enqueued" || first["at"] != enqueued {
			t.Errorf("%s: %v", id, first)
		}
	}
	want(t, s.ok("status", "cancelled"), map[string]any{"state": "cancelled", "scheduled_at": due})
	if a := s.enqueue("find", "cancelled@example.com"); !strings.Contains(a.stdout, "scheduled for") {
		t.Errorf("%s", a.stdout)
	}
}

// TestFindWithoutASubject says that it is no address, and is not a success.
// TestACampaignThatIsCancelledBeforeItsTimeIsNotScheduled any more.
func TestACampaignThatIsCancelledBeforeItsTimeIsNotScheduled(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("p", 2)), "--campaign", "later", "--in", "2h")
	if told := s.enqueue("find", "later").stdout; !strings.Contains(told, "│ scheduled │") {
		t.Errorf("before: %s", told)
	}
	s.ok("campaign", "cancel", "later", "--yes")
	told := s.enqueue("find", "later").stdout
	if strings.Contains(told, "│ scheduled │") || !strings.Contains(told, "scheduled for ") {
		t.Errorf("after: %s", told)
	}
}

func TestFindWithoutASubject(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for what, exit := range map[string]int{"@": 2, "Ada <ada@x>": 2, "a@b c@d": 2, "nothing": 1, "none:0123": 1, ":": 1} {
		if a := s.enqueue("find", what); a.exit != exit || a.stdout != "" {
			t.Errorf("%q: exit %d, want %d\n%s%s", what, a.exit, exit, a.stdout, a.stderr)
		}
	}
}

// TestFindTellsAllThatCanBeRead: one unreadable task, letter or record hides nothing else.
func TestFindTellsAllThatCanBeRead(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.unreadable()
	s.ok("invite", "one@example.com", "--id", "bad")
	s.ok("invite", "one@example.com", "--id", "good")
	s.ok("invite", "type@example.com", "--id", "later", "--in", "1h")
	s.mini.HSet("asynq:{usher:interactive}:t:bad", "msg", "garbage")
	for what, told := range map[string][2]string{
		"one@example.com":  {"good", `task "bad"`},
		"type@example.com": {"later", "dead letter type"},
		"type":             {"dead", "dead letter type"},
	} {
		a := s.enqueue("find", what)
		if a.exit != 1 || !strings.Contains(a.stdout, told[0]) || strings.Count(a.stderr, told[1]) != 1 {
			t.Errorf("%s: exit %d\n%s%s", what, a.exit, a.stdout, a.stderr)
		}
	}
}

// TestFindTellsActiveInvitesApart: one that waits for a permit from one whose call is under way. A cancel that came
// too late is nobody's doing.
func TestFindTellsActiveInvitesApart(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"one", "two"} {
		s.ok("invite", id+"@example.com", "--id", id)
		s.takes("usher:interactive", id)
	}
	wish := intent.Wish{Task: "two", Address: store.IDOf("two@example.com")}
	_, err := intent.NewTasks(s.rdb, "usher").Claim(t.Context(), "token", time.Minute, []intent.Wish{wish})
	testkit.NoError(t, err)
	for id, kind := range map[string]string{"one": "waiting", "two": "open"} {
		for _, what := range []string{id, id + "@example.com"} {
			if kinds, _ := s.story(what); !slices.Contains(kinds, kind) {
				t.Errorf("%s: %v, want %s", what, kinds, kind)
			}
		}
	}
	s.ended("two", record.Record{State: record.Done, InvitationID: "inv_1", By: "ada@desk"})
	if _, object := s.story("two"); strings.Contains(fmt.Sprint(object), "ada@desk") {
		t.Errorf("%v", object)
	}
	want(t, s.ok("status", "two"), map[string]any{"state": "done", "cancelled_by": nil})
}
