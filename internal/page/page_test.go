package page

import (
	"context"
	"fmt"
	"html"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

func TestAnEmptySystemHasEveryPage(t *testing.T) {
	t.Parallel()
	w := setup(t, nil).browser()
	for path, says := range map[string]string{
		"/": "No worker runs", "/campaigns": "No campaigns yet", "/dead-letters": "No dead letters",
		"/invitations": "never made", "/schedules": "No worker has a schedule", "/find": "Find",
		"/actions": "Nobody has done anything", "/login": "no tokens",
	} {
		p := w.get(path).must(t, http.StatusOK, says, "<main", `lang="en"`)
		if strings.Contains(p.body, "ZgotmplZ") || strings.Contains(p.body, "no value") {
			t.Errorf("%s: %s", path, p.body)
		}
	}
	for _, path := range []string{"/nope", "/campaigns/none", "/dead-letters/one?id=none"} {
		w.get(path).must(t, http.StatusNotFound)
	}
	w.post("/find", "what", "none").must(t, http.StatusNotFound, "Nothing is known")
	w.post("/find", "what", "nobody@example.com").must(t, http.StatusOK, "Nothing is known of this address")
}

// TestTheFirstPageShowsWhatRunsFirst: then what is paused, then what starts soonest, however many are newer.
func TestTheFirstPageShowsWhatRunsFirst(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, name := range []string{"runs", "rests", "over"} {
		b.campaign(name, 1)
	}
	_, err := b.desk.Pause(t.Context(), "rests")
	testkit.NoError(t, err)
	_, err = b.desk.Cancel(t.Context(), "over")
	testkit.NoError(t, err)
	const later = 205
	for i := range later {
		b.campaign(fmt.Sprintf("later-%d", i), 1, tasks.At(time.Now().Add(time.Duration(later-i)*time.Hour)))
	}
	p := b.browser().get("/").must(t, http.StatusOK, "At least 182 more are under way: ", "all campaigns")
	var shown []string
	for _, m := range regexp.MustCompile(`href="/campaigns/([^"]+)"`).FindAllStringSubmatch(p.body, -1) {
		shown = append(shown, m[1])
	}
	want := []string{"runs", "rests"}
	for i := range openRows - len(want) {
		want = append(want, fmt.Sprintf("later-%d", later-1-i))
	}
	if !slices.Equal(shown, want) {
		t.Errorf("shown are %s, want %s", shown, want)
	}
}

func TestACampaignIsPausedResumedAndCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 3)
	w := b.browser()
	w.get("/campaigns/spring").must(t, http.StatusOK, "Pause", "Cancel…", "bulk0@example.com")
	w.post("/campaigns/spring/pause").must(t, http.StatusOK, "Done: paused campaign spring", "Resume")
	if said := w.get("/campaigns/spring"); strings.Contains(said.body, "Done:") {
		t.Error("it is said twice")
	}
	w.post("/campaigns/spring/resume").must(t, http.StatusOK, "Done: resumed campaign spring")
	w.get("/campaigns/spring/cancel").must(t, http.StatusOK, "3 of 3 will not be invited", "Cancel the campaign")
	w.post("/campaigns/spring/cancel").must(t, http.StatusOK, "Done: cancelled campaign spring", "cancelled")
	w.post("/campaigns/spring/cancel").must(t, http.StatusOK)
	w.get("/campaigns/spring/cancel").must(t, http.StatusConflict, "is cancelled", "nothing to cancel")
	w.post("/campaigns/spring/resume").must(t, http.StatusConflict)
	w.post("/campaigns/spring/burn").must(t, http.StatusNotFound)
	for _, did := range []string{"paused", "resumed", "cancelled"} {
		w.get("/actions").must(t, http.StatusOK, did+" campaign spring")
	}
	w.get("/campaigns/spring/export").must(t, http.StatusOK, "\ufeffemail_address,", "bulk2@example.com,cancelled")
}

func TestEveryRecipientIsOnOnePage(t *testing.T) {
	t.Parallel()
	for _, n := range []int{120, 700} { // Redis keeps small and large hashes otherwise
		b := setup(t, nil)
		b.campaign("spring", n)
		w := b.browser()
		seen := map[string]bool{}
		for path, pages := "/campaigns/spring?outcome=waiting", 0; path != ""; pages++ {
			p := w.get(path).must(t, http.StatusOK)
			found := regexp.MustCompile(`bulk\d+@example.com`).FindAllString(p.body, -1)
			for _, address := range found {
				if seen[address] {
					t.Errorf("%s is there twice", address)
				}
				seen[address] = true
			}
			if len(found) > pageRows || pages > n/pageRows+1 || len(p.body) > 100_000 {
				t.Fatalf("%d rows, page %d, %d bytes", len(found), pages, len(p.body))
			}
			path = p.next()
		}
		if len(seen) != n {
			t.Errorf("%d of %d are seen", len(seen), n)
		}
		w.get("/campaigns/spring?outcome=dead").must(t, http.StatusOK, "No such recipients")
	}
}

// TestEveryActionIsOnOnePage: what is cut off is behind a link.
func TestEveryActionIsOnOnePage(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const all = 2*actionRows + 30
	for i := range all {
		did := store.Action{At: time.Unix(int64(i), 0), Who: "ada", What: fmt.Sprintf("did <%d>", i)}
		testkit.NoError(t, b.server.audit.Note(t.Context(), did))
	}
	w := b.browser()
	next, pages := all-1, 0
	for path := "/actions"; path != ""; pages++ {
		p := w.get(path).must(t, http.StatusOK)
		for _, found := range regexp.MustCompile(`did &lt;(\d+)&gt;`).FindAllStringSubmatch(p.body, -1) {
			if found[1] != strconv.Itoa(next) {
				t.Fatalf("page %d has action %s, want %d", pages, found[1], next)
			}
			next--
		}
		path = p.next()
	}
	if next != -1 || pages != 3 {
		t.Errorf("%d of %d actions are on %d pages", all-1-next, all, pages)
	}
	w.get("/actions?from=9999").must(t, http.StatusOK, "There are no older actions.")
	w.get("/actions?from=-1").must(t, http.StatusOK, "Older actions")
}

func TestDeadLettersAreGroupedMendedRetriedAndDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	at := time.Now().Add(-time.Hour)
	b.letter("one", "adaexample.com@", "form_param_format_invalid", "is no address", at)
	b.letter("two", "two@example.com", "duplicate_record", "is pending", at)
	b.letter("three", "three@example.com", "duplicate_record", "is pending", at)
	w := b.browser()
	w.get("/dead-letters").must(t, http.StatusOK, "2 × duplicate_record", "1 × form_param_format_invalid",
		"on_duplicate set to accept or resend", "422 duplicate_record: is pending")
	w.get("/dead-letters?code=duplicate_record").must(t, http.StatusOK, "two@example.com", "three@example.com")
	if strings.Contains(w.get("/dead-letters?code=duplicate_record").body, "adaexample.com@") {
		t.Error("the filter lets others pass")
	}

	one := w.get("/dead-letters/one?id=one").must(t, http.StatusOK, "secretplan", `value="adaexample.com@"`)
	failedAt := one.value("failed_at")
	form := map[string]string{
		"id": "one", "failed_at": failedAt, "email_address": "ada", "public_metadata": `{"plan":"secretplan"}`,
	}
	send := func() page {
		var fields []string
		for name, value := range maps.All(form) {
			fields = append(fields, name, value)
		}
		return w.post("/dead-letters/mend", fields...)
	}
	send().must(t, http.StatusUnprocessableEntity, "email_address", `value="ada"`)
	form["email_address"] = "ada@example.com"
	send().must(t, http.StatusOK, "Done: mended a dead letter and sent it again")
	send().must(t, http.StatusConflict, "Somebody was faster")
	if b.letters() != 2 {
		t.Errorf("%d dead letters are left", b.letters())
	}
	if n := b.rdb.LLen(t.Context(), "asynq:{usher:interactive}:pending").Val(); n != 1 {
		t.Errorf("%d tasks carry one letter", n)
	}
	w.post("/find", "what", "ada@example.com").
		must(t, http.StatusOK, "<h2>ada@example.com", "other address adaexample.com@")

	ask := w.get("/dead-letters/confirm?do=retry&code=duplicate_record").must(t, http.StatusOK, "That is 2 dead letters")
	cut := ask.value("cut")
	b.letter("later", "later@example.com", "duplicate_record", "is pending", time.Now().Add(time.Second))
	for range 2 { // a double click
		w.post("/dead-letters/retry", "cut", cut, "code", "duplicate_record").must(t, http.StatusOK)
	}
	if n := b.rdb.LLen(t.Context(), "asynq:{usher:interactive}:pending").Val(); n != 3 {
		t.Errorf("%d tasks carry three letters", n)
	}
	if _, err := b.desk.DeadLetters.Get(t.Context(), "later"); err != nil {
		t.Errorf("what died after the question was retried: %v", err)
	}
	w.post("/dead-letters/delete", "code", "duplicate_record").must(t, http.StatusBadRequest)
	cut = exact(time.Now().Add(10 * time.Second))
	w.post("/dead-letters/delete", "cut", cut, "id", "later").must(t, http.StatusOK, "Done: deleted")
	if b.letters() != 0 {
		t.Error("it was not deleted")
	}
}

// TestButtonsActOnWhatTheListShows: on one group of causes, with a code or without, or on what else was chosen.
func TestButtonsActOnWhatTheListShows(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	put := func(id, campaign, reason, code string, at time.Time) {
		testkit.NoError(t, b.desk.DeadLetters.Put(t.Context(), deadletter.Entry{
			ID: id, TaskID: id, Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: id + "@example.com",
			Campaign: campaign, FailedAt: at.UTC(), Failure: fate.Failure{Reason: fate.Reason(reason), Code: code},
			Payload: []byte(`{"v":1,"email_address":"` + id + `@example.com"}`),
		}))
	}
	of := map[string][3]string{ // campaign, reason, code
		"e1": {"spring", "exhausted", ""}, "e2": {"autumn", "exhausted", ""}, "i1": {"", "invalid", ""},
		"r1": {"spring", "rejected", "taken"}, "r2": {"autumn", "rejected", "taken"}, "x1": {"", "exhausted", "taken"},
	}
	for _, c := range []struct {
		link, words string // of the group on the list of all, or the address of a list
		chosen      []string
	}{
		{`1 × without a code</a> <small>invalid`, "all invalid dead letters without a code", []string{"i1"}},
		{`2 × without a code</a> <small>exhausted`, "all exhausted dead letters without a code", []string{"e1", "e2"}},
		{`2 × taken</a> <small>rejected`, "all rejected dead letters with the code taken", []string{"r1", "r2"}},
		{"/dead-letters?campaign=spring", "all dead letters of campaign spring", []string{"e1", "r1"}},
		{"/dead-letters?code=taken&campaign=autumn", "all dead letters with the code taken of campaign autumn",
			[]string{"r2"}},
		{"/dead-letters?no_code=yes&campaign=autumn", "all dead letters without a code of campaign autumn",
			[]string{"e2"}},
		{"/dead-letters", "all dead letters", []string{"e1", "e2", "i1", "r1", "r2", "x1"}},
	} {
		for _, do := range []string{"Retry", "Delete"} {
			for id, what := range of {
				put(id, what[0], what[1], what[2], time.Now().Add(-time.Minute))
			}
			path := c.link
			if !strings.HasPrefix(path, "/") {
				all := w.get("/dead-letters").must(t, http.StatusOK, c.link).body
				link := regexp.MustCompile(`href="([^"]+)">` + regexp.QuoteMeta(c.link)).FindStringSubmatch(all)
				path = html.UnescapeString(link[1])
			}
			list := w.get(path).must(t, http.StatusOK)
			_, below, _ := strings.Cut(list.body, `<section aria-labelledby="letters">`)
			for id := range of {
				if shown := strings.Contains(below, id+"@"); shown != slices.Contains(c.chosen, id) {
					t.Errorf("%s shows %s: %t", path, id, shown)
				}
			}
			button := regexp.MustCompile(`href="([^"]+)">` + do).FindStringSubmatch(below)
			ask := w.get(html.UnescapeString(button[1])).must(t, http.StatusOK, do+" "+c.words+"?",
				"That is "+letterCount(len(c.chosen)))
			put("later", "spring", "exhausted", "", time.Now().Add(time.Second))
			var fields []string
			for _, f := range regexp.MustCompile(`name="(\w+)" value="([^"]*)"`).FindAllStringSubmatch(ask.body, -1) {
				fields = append(fields, f[1], html.UnescapeString(f[2]))
			}
			w.post("/dead-letters/"+strings.ToLower(do), fields...).
				must(t, http.StatusOK, "ed "+c.words+fmt.Sprintf(": %d.", len(c.chosen)))
			w.post("/dead-letters/"+strings.ToLower(do), fields...).
				must(t, http.StatusOK, "ed 0 dead letters: nothing was there any more.")
			for id := range of {
				_, err := b.desk.DeadLetters.Get(t.Context(), id)
				if gone := err != nil; gone != slices.Contains(c.chosen, id) {
					t.Errorf("%s of %s: %s is gone: %t", do, path, id, gone)
				}
			}
			if _, err := b.desk.DeadLetters.Get(t.Context(), "later"); err != nil {
				t.Errorf("%s of %s: what died afterwards is gone", do, path)
			}
			_, err := b.desk.Retrier.Delete(t.Context(), "later")
			testkit.NoError(t, err)
		}
	}
}

// TestAStoryIsToldInWords, and a letter without a code without a gap.
func TestAStoryIsToldInWords(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 1)
	b.letter("one", "bulk0@example.com", "", "email_address was refused.", time.Now())
	b.publish(invitation(1, "bulk0@example.com"))
	_, err := b.desk.Revoke(t.Context(), invitation(1, "").ID, tasks.ID("revoke-1"))
	testkit.NoError(t, err)
	w := b.browser()
	p := w.post("/find", "what", "bulk0@example.com").must(t, http.StatusOK,
		`<strong>is a recipient</strong> in campaign <a href="/campaigns/spring">spring</a>`,
		"<strong>became a dead letter</strong> task one", "not by Usher as far as is known:</strong> invitation inv_")
	if strings.Contains(p.body, "<strong>dead-letter") || strings.Contains(p.body, "<strong>campaign") {
		t.Error(p.body)
	}
	w.post("/find", "what", "revoke-1").must(t, http.StatusOK, "revocation task revoke-1")
	w.get("/dead-letters").must(t, http.StatusOK, "422: email_address was refused.")
}

// TestTheStoryOfAnAddressThatWasReplacedSaysWhereItGoesOn.
func TestTheStoryOfAnAddressThatWasReplacedSaysWhereItGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.letter("one", "old@example.com", "form_param_format_invalid", "is no address", time.Now())
	w := b.browser()
	failedAt := w.get("/dead-letters/one?id=one").value("failed_at")
	w.post("/dead-letters/mend", "id", "one", "failed_at", failedAt, "email_address", "new@example.com").
		must(t, http.StatusOK, "Done: mended")
	w.post("/find", "what", "old@example.com").must(t, http.StatusOK, "<h2>old@example.com",
		"new@example.com has taken its place", `name="what" value="new@example.com"`)
}

// TestTheListOfDeadLettersHasAllOfThem: many of one instant too, and one that cannot be read hides no other.
func TestTheListOfDeadLettersHasAllOfThem(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i := range 130 {
		died := at.Add(time.Duration(i/100) * time.Second)
		b.letter(fmt.Sprintf("id%d", i), fmt.Sprintf("p%d@example.com", i), "duplicate_record", "", died)
	}
	testkit.NoError(t, b.rdb.HSet(t.Context(), "usher:{once}:d:e:id5", "entry", "garbage").Err())
	seen := map[string]bool{}
	var from deadletter.Cursor
	for range 10 {
		page, err := b.desk.DeadLetters.Newest(t.Context(), deadletter.Filter{}, deadletter.ParseCursor(from.String()), 30)
		if err != nil && !strings.Contains(err.Error(), "id5") {
			t.Fatal(err)
		}
		for _, e := range page.Letters {
			if seen[e.ID] {
				t.Errorf("%s is given twice", e.ID)
			}
			seen[e.ID] = true
		}
		if from = page.Next; from == (deadletter.Cursor{}) {
			break
		}
	}
	if len(seen) != 129 {
		t.Errorf("%d of 129 are given", len(seen))
	}
	w := b.browser()
	w.get("/dead-letters?from=1764400000000:spring:4").must(t, http.StatusBadRequest, "Begin with the newest ones.")
	shown := 0
	for path := "/dead-letters?code=duplicate_record"; path != ""; {
		p := w.get(path).must(t, http.StatusOK)
		shown += strings.Count(p.body, "/dead-letters/one?id=")
		path = p.next()
	}
	if shown != 129 {
		t.Errorf("%d of 129 are shown", shown)
	}
}

// TestAWholeAddressIsFoundAtOnce, however many newer invitations there are, and all its invitations are shown.
func TestAWholeAddressIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const often = pageRows + 10
	var list []clerkclient.Invitation
	for i := range often + directoryLooked {
		address := "ada@example.com"
		if i >= often {
			address = fmt.Sprintf("p%d.ada@example.com", i)
		}
		list = append(list, invitation(i, address))
	}
	b.publish(list...)
	w := b.browser()
	seen := 0
	for from := "0"; from != ""; {
		p := w.post("/invitations", "query", "ada@example.com", "from", from).must(t, http.StatusOK)
		seen += strings.Count(p.body, "/invitations/revoke?id=")
		if from = ""; strings.Contains(p.body, `name="from"`) {
			from = p.value("from")
		}
	}
	if seen != often {
		t.Errorf("%d of %d are seen", seen, often)
	}
	w.post("/invitations", "query", "\u00A0mailto:ada@example.com\u200B").must(t, http.StatusOK, "/invitations/revoke?id=")
	none := w.post("/invitations", "query", "bob@example.com").must(t, http.StatusOK, "No invitation has this address.")
	if strings.Contains(none.body, "Go on") {
		t.Error(none.body)
	}
}

func TestTheDirectoryIsSearchedAndRevokedFrom(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	var list []clerkclient.Invitation
	for i := range 120 {
		list = append(list, invitation(i, fmt.Sprintf("p%d@example.com", i)))
	}
	b.publish(list...)
	w := b.browser()
	seen := 0
	for path := "/invitations?status=pending"; path != ""; {
		p := w.get(path).must(t, http.StatusOK)
		seen += strings.Count(p.body, "/invitations/revoke?id=")
		path = p.next()
	}
	if seen != 120 {
		t.Errorf("%d of 120 are seen", seen)
	}
	found := w.post("/invitations", "query", "p77@").must(t, http.StatusOK, "p77@example.com")
	if strings.Contains(found.body, "p78@example.com") || strings.Contains(found.path, "p77") {
		t.Errorf("%s: %s", found.path, found.body)
	}
	w.post("/invitations", "query", "P77@example.com ").must(t, http.StatusOK, "p77@example.com", list[77].ID)
	w.post("/invitations", "query", "p77@example.com", "status", "accepted").
		must(t, http.StatusOK, "No accepted invitation has this address.")
	id := list[77].ID
	w.get("/invitations/revoke?id="+id).must(t, http.StatusOK, "That is 1 invitation")
	for range 2 {
		w.post("/invitations/revoke", "id", id).must(t, http.StatusOK, "which revokes an invitation")
	}
	if n := b.rdb.LLen(t.Context(), "asynq:{usher:housekeeping}:pending").Val(); n != 1 {
		t.Errorf("%d revocations", n)
	}
	w.post("/invitations/revoke", "id", "../x").must(t, http.StatusUnprocessableEntity)
}

// TestWhatOthersWroteStaysText: markup is escaped, and what hides or turns the text around stands there as its code.
func TestWhatOthersWroteStaysText(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const evil = `<script>alert(1)</script><img src=x onerror=alert(1)>"'` + "\u202e\x1b[31m"
	b.letter("evil", `"<b>x</b>"@example.com`, evil, evil, time.Now())
	b.publish(clerkclient.Invitation{
		ID: "inv_evil", EmailAddress: evil + "@example.com", Status: "pending", CreatedAt: time.Now(),
	})
	testkit.NoError(t, b.rdb.HSet(t.Context(), "usher:workers", "w1",
		fmt.Sprintf(`%d|{"host":"<script>h</script>","since":"2026-01-01T00:00:00Z"}`, time.Now().UnixMilli())).Err())
	w := b.browser()
	for _, p := range []page{
		w.get("/"), w.get("/dead-letters"), w.get("/dead-letters/one?id=evil"), w.get("/invitations"),
		w.get("/dead-letters/confirm?do=delete&code=%3Cscript%3E"), w.post("/find", "what", "<script>"),
		w.post("/invitations", "query", "<script>"), w.get("/campaigns/%3Cscript%3E"),
		w.get("/campaigns?from=%22%3E%3Cscript%3E"),
	} {
		for _, raw := range []string{"<script>alert", "<script>h", "<img", "<b>x", "\u202e", "\x1b", "<script>\""} {
			if strings.Contains(p.body, raw) {
				t.Errorf("%s holds %q", p.path, raw)
			}
		}
	}
	w.get("/dead-letters").must(t, http.StatusOK, "&lt;script&gt;alert(1)", `\u202e`)
}

// TestAnOpenPageFollows: what has changed arrives, and what has not is not sent again. Who leaves is forgotten.
func TestAnOpenPageFollows(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 2)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	messages := b.browser().follow(ctx, "/campaigns/spring")
	if first := <-messages; !strings.Contains(first, "bulk0@example.com") {
		t.Errorf("%s", first)
	}
	_, err := b.desk.Pause(ctx, "spring")
	testkit.NoError(t, err)
	for message := range messages {
		if strings.Contains(message, "paused") {
			break
		}
	}
	leave()
	for range messages { // what was on its way
	}
	testkit.Eventually(t, "nobody follows any more", func() bool {
		b.server.feeds.mu.Lock()
		defer b.server.feeds.mu.Unlock()
		return len(b.server.feeds.open) == 0 && b.server.feeds.followers == 0
	})
	p := b.browser().do(http.MethodGet, "/find", nil, "Accept", "text/event-stream")
	if p.header.Get("Content-Type") == "text/event-stream" {
		t.Error("a page that is not live streams")
	}
}

// TestOpenPagesCostLittle: what ten pages are told again costs Redis as much as one, when they are the same, and is
// bounded when they are not.
func TestOpenPagesCostLittle(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 3)
	for _, path := range []string{
		"/", "/", "/campaigns", "/campaigns?from=0", "/campaigns?from=1", "/campaigns/spring", "/dead-letters", "/schedules",
		"/campaigns/spring?outcome=sent", "/campaigns/spring?outcome=waiting",
	} {
		<-b.browser().follow(t.Context(), path)
	}
	b.server.feeds.mu.Lock()
	defer b.server.feeds.mu.Unlock()
	if n := len(b.server.feeds.open); n != 9 {
		t.Errorf("%d pages are drawn for nine different ones", n)
	}
	drawn := b.server.cost.commands.Load()
	if bound := int64(500); drawn > bound {
		t.Errorf("ten pages cost %d commands at once", drawn)
	}
}

// TestAQuestionSaysHowManyAreMeant: exactly, or how far counting came.
func TestAQuestionSaysHowManyAreMeant(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]deadletter.Counted{
		"1 dead letter":                {N: 1, Looked: 9, All: true},
		"at least 1,200 dead letters ": {N: 1200, Looked: 3000},
		"at least 0 dead letters (0 among the oldest 3,000; the others were not counted)": {Looked: 3000},
	} {
		if said := sum(c); !strings.HasPrefix(said, want) {
			t.Errorf("%+v: %s, want %s", c, said, want)
		}
	}
	b := setup(t, nil)
	b.letter("one", "one@example.com", "taken", "", time.Now().Add(-time.Minute))
	for code, button := range map[string]bool{"taken": true, "nosuch": false} {
		ask := b.browser().get("/dead-letters/confirm?do=delete&code="+code).must(t, http.StatusOK)
		if strings.Contains(ask.body, ">Delete</button>") != button {
			t.Errorf("%s: %s", code, ask.body)
		}
	}
}
