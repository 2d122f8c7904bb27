package page

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/kept"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// upload posts a list as a browser does without JavaScript.
func (w *browser) upload(list string, fields ...string) page {
	w.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		testkit.NoError(w.t, form.WriteField(fields[i], fields[i+1]))
	}
	file, err := form.CreateFormFile("list", `C:\lists\people.csv`)
	testkit.NoError(w.t, err)
	_, err = io.WriteString(file, list)
	testkit.NoError(w.t, errors.Join(err, form.Close()))
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/list", &body)
	testkit.NoError(w.t, err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	answer, err := w.client.Do(r)
	testkit.NoError(w.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	testkit.NoError(w.t, err)
	return page{answer.StatusCode, string(text), answer.Header, answer.Request.URL.RequestURI()}
}

// withClerk lets the pages ask a sandbox.
func withClerk(t *testing.T) (*bundle, *clerktest.Sandbox) {
	t.Helper()
	clerk, url := clerktest.NewServer(t, clerktest.Config{Key: settings.SandboxKey})
	b := setup(t, func(c *Config) {
		c.Clerk = func() (settings.Instance, error) {
			return settings.Instance{Key: settings.SandboxKey, Kind: settings.KindTest, URL: url}, nil
		}
	})
	return b, clerk
}

func (b *bundle) campaignOf(name string) tasks.Campaign {
	b.t.Helper()
	c, err := b.desk.Campaign(b.t.Context(), name)
	testkit.NoError(b.t, err)
	return c
}

func (b *bundle) actions() int {
	b.t.Helper()
	done, err := b.server.audit.List(b.t.Context())
	testkit.NoError(b.t, err)
	return len(done)
}

const threePeople = "email_address,public_metadata.plan\nada@example.com,pro\nbob@example.com,\ncid@example.com,pro\n"

// TestAListIsCheckedRehearsedAndSent: nobody is invited before it is confirmed, and Clerk's answers come.
func TestAListIsCheckedRehearsedAndSent(t *testing.T) {
	t.Parallel()
	b, clerk := withClerk(t)
	clerk.AddUser("bob@example.com")
	clerk.AddInvitation("cid@example.com")
	w := b.browser()
	w.get("/campaigns").must(t, http.StatusOK, `enctype="multipart/form-data"`, `action="/list"`, "ignore_existing")
	w.upload(threePeople, "campaign", "spring", "on_duplicate", "accept", "expires_in_days", "7").
		must(t, http.StatusOK, "List for campaign spring", "people.csv.", "Invite 3 people", "CSV, 3 rows")
	if _, err := b.desk.Campaign(t.Context(), "spring"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("the list is in its campaign before it is confirmed: %v", err)
	}
	var shown page
	testkit.Eventually(t, "Clerk has answered", func() bool {
		shown = w.get("/list")
		return strings.Contains(shown.body, "Would be sent")
	})
	shown.must(t, http.StatusOK, "<dt>Would be sent</dt><dd>1</dd>", "<dt>Skipped</dt><dd>1</dd>",
		"<dt>Refused</dt><dd>1</dd>", "1 × form_identifier_exists", "line 3: The address belongs to a user already.")
	w.get("/campaigns").must(t, http.StatusOK, "A list waits to be confirmed")
	before := b.actions()
	w.post("/list/send", "list", shown.value("list")).must(t, http.StatusOK, "Done: put a list into campaign spring",
		"ada@example.com")
	if c := b.campaignOf("spring"); c.Recipients != 3 {
		t.Errorf("%+v", c)
	}
	if n := b.actions(); n != before+1 {
		t.Errorf("%d actions are noted", n-before)
	}
	w.get("/list").must(t, http.StatusNotFound, "No list is kept")
	if keys := b.rdb.Keys(t.Context(), "usher:{kept}:*").Val(); len(keys) != 0 {
		t.Errorf("what was sent is kept: %s", keys)
	}
}

// TestAListConfirmedTwiceIsNotedOnce with all that was added, though both confirmations come together.
func TestAListConfirmedTwiceIsNotedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	const rounds, n = 4, 5000
	for round := range rounds {
		var list strings.Builder
		list.WriteString("email_address\n")
		for i := range n {
			fmt.Fprintf(&list, "p%d@example.com\n", i)
		}
		name := fmt.Sprintf("spring-%d", round)
		shown := w.upload(list.String(), "campaign", name).must(t, http.StatusOK)
		before := b.actions()
		var both sync.WaitGroup
		for range 3 {
			both.Go(func() { w.post("/list/send", "list", shown.value("list")).must(t, http.StatusOK, name) })
		}
		both.Wait()
		done, err := b.server.audit.List(t.Context())
		testkit.NoError(t, err)
		done = done[:len(done)-before]
		if len(done) != 1 || done[0].What != "put a list into campaign "+name || done[0].N != n {
			t.Errorf("noted are %+v", done)
		}
	}
}

// TestAListThatBrokeOffIsFinished by confirming it again, which is noted with what that has added.
func TestAListThatBrokeOffIsFinished(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	id := w.upload(threePeople, "campaign", "spring").must(t, http.StatusOK).value("list")
	b.rdb.Set(t.Context(), "usher:{once}:forgotten", "garbage", 0) // ends it behind the claim of its id
	w.post("/list/send", "list", id).must(t, http.StatusServiceUnavailable)
	b.rdb.Del(t.Context(), "usher:{once}:forgotten")
	w.post("/list/send", "list", id).must(t, http.StatusOK, "Done: put a list into campaign spring")
	if done, err := b.server.audit.List(t.Context()); err != nil || done[0].N != 3 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestAListWithoutANameGetsTheOneThatProducersGiveIt, or that of a campaign which an earlier version has made of it.
func TestAListWithoutANameGetsTheOneThatProducersGiveIt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	const list, earlier = "email\nlate0@example.com\n", "bulk-d32e09076dd8b0411489"
	shown := w.upload(list).must(t, http.StatusOK, "List for campaign bulk-", "Invite 1 person")
	name, err := b.desk.Name(t.Context(), tasks.BulkRequest{Recipients: []tasks.Recipient{{
		EmailAddress: "late0@example.com",
	}}})
	if err != nil || name == "" || name == earlier {
		t.Fatalf("%q, %v", name, err)
	}
	shown.must(t, http.StatusOK, "List for campaign "+name)
	w.post("/list/send", "list", shown.value("list")).must(t, http.StatusOK, "Done: put a list into campaign "+name)
	if c := b.campaignOf(name); c.Recipients != 1 {
		t.Errorf("%+v", c)
	}
	w.upload(list, "campaign", earlier).must(t, http.StatusOK)
	w.post("/list/send", "list", w.get("/list").value("list")).must(t, http.StatusOK)
	w.upload(list).must(t, http.StatusOK, "List for campaign "+earlier, "<dt>In it already</dt><dd>1</dd>")
}

// TestConfirmingTwiceSendsOnce at the same time and later, and what is noted is one action.
func TestConfirmingTwiceSendsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	shown := w.upload(threePeople, "campaign", "spring").must(t, http.StatusOK, "Clerk was not asked")
	id, before := shown.value("list"), b.actions()
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() { w.post("/list/send", "list", id).must(t, http.StatusOK, "spring") })
	}
	both.Wait()
	w.post("/list/send", "list", id).must(t, http.StatusOK, "spring")
	if n := b.actions(); n != before+1 {
		t.Errorf("%d actions are noted", n-before)
	}
	if c := b.campaignOf("spring"); c.Recipients != 3 {
		t.Errorf("%+v", c)
	}
	_, err := b.desk.Cancel(t.Context(), "spring")
	testkit.NoError(t, err)
	w.post("/list/send", "list", id).must(t, http.StatusOK, "spring")
	if c := b.campaignOf("spring"); c.Recipients != 3 || c.State != tasks.CampaignCancelled {
		t.Errorf("%+v", c)
	}
}

// TestWhatIsSentIsWhatWasShown: another list that was uploaded since is not sent by the first one's button.
func TestWhatIsSentIsWhatWasShown(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	first := w.upload(threePeople, "campaign", "spring").value("list")
	second := w.upload("email_address\ndan@example.com\n", "campaign", "spring").value("list")
	w.post("/list/send", "list", first).must(t, http.StatusConflict, "not the one that was shown")
	w.post("/list/send", "list", "").must(t, http.StatusConflict)
	if _, err := b.desk.Campaign(t.Context(), "spring"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("sent: %v", err)
	}
	w.post("/list/send", "list", second).must(t, http.StatusOK, "dan@example.com")
	if c := b.campaignOf("spring"); c.Recipients != 1 {
		t.Errorf("%+v", c)
	}
}

// TestALargeListComesWhole byte for byte, through as many pieces as it takes.
func TestALargeListComesWhole(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	const n = 20_000
	var list strings.Builder
	list.WriteString("email_address,public_metadata.plan\n")
	for i := range n {
		fmt.Fprintf(&list, "person%d@example.com,%x\n", i, i*7919)
	}
	shown := w.upload(list.String(), "campaign", "large").must(t, http.StatusOK, "Invite 20,000 people")
	if len(shown.body) > 100_000 {
		t.Errorf("%d bytes", len(shown.body))
	}
	w.post("/list/send", "list", shown.value("list")).must(t, http.StatusOK)
	if c := b.campaignOf("large"); c.Recipients != n {
		t.Errorf("%+v", c)
	}
}

// TestFaultsOfAListAreNamedByLine: the first 1,000, on pages; and without a word of the person nothing is sent.
func TestFaultsOfAListAreNamedByLine(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	var list strings.Builder
	list.WriteString("email_address\n")
	for range 1100 {
		list.WriteString("no address\n")
	}
	list.WriteString("ada@example.com\n")
	shown := w.upload(list.String(), "campaign", "spring").
		must(t, http.StatusOK, "Leave out 1,100 bad rows", "Only the first 1,000")
	id := shown.value("list")
	named := 0
	for path := "/list"; path != ""; {
		p := w.get(path).must(t, http.StatusOK)
		if len(p.body) > 100_000 {
			t.Errorf("%s has %d bytes", path, len(p.body))
		}
		for ; strings.Contains(p.body, fmt.Sprintf("<li>line %d: email_address: ", named+2)); named++ {
		}
		path = p.next()
	}
	if named != mostFaults {
		t.Errorf("%d faults are named", named)
	}
	w.post("/list/send", "list", id).must(t, http.StatusUnprocessableEntity, "Nothing was sent")
	w.post("/list/send", "list", id, "skip_invalid", "yes").must(t, http.StatusOK, "ada@example.com")
}

// TestAListThatCannotBeUsed is refused with what to do, in the words of the form, which keeps what was filled in.
func TestAListThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("over", 1)
	_, err := b.desk.Cancel(t.Context(), "over")
	testkit.NoError(t, err)
	w := b.browser()
	for name, c := range map[string]struct {
		list   string
		fields []string
		says   []string
	}{
		"nothing": {"", nil, []string{"is empty"}},
		"unknown column": {
			"email_address,x\na@example.com,1\n", nil, []string{"unknown columns", "“Ignore unknown columns”"},
		},
		"a bad option":   {threePeople, []string{"expires_in_days", "900"}, []string{"expires_in_days", `value="900"`}},
		"a bad name":     {threePeople, []string{"campaign", "a b"}, []string{"Campaign: ", `value="a b"`}},
		"a bad map":      {threePeople, []string{"map", "x"}, []string{"FIELD=COLUMN"}},
		"a bad encoding": {threePeople, []string{"encoding", "klingon"}, []string{"klingon"}},
		"cancelled":      {threePeople, []string{"campaign", "over"}, []string{"is cancelled"}},
		"not both": {
			threePeople, []string{"ignore_existing", "true", "on_duplicate", "accept"}, []string{"exclude each other"},
		},
	} {
		p := w.upload(c.list, c.fields...)
		if p.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", name, p.status)
		}
		p.must(t, http.StatusUnprocessableEntity, append(c.says, "Check the list", `role="alert"`)...)
	}
	w.get("/list").must(t, http.StatusNotFound)
	w.post("/list").must(t, http.StatusBadRequest)
	big := strings.Repeat("x", peoplefile.DefaultMaxBytes+1)
	if p := w.upload(big); p.status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", p.status)
	}
	guess := w.upload("name,mail\nAda,ada@example.com\n", "campaign", "guess").
		must(t, http.StatusOK, "more than one way", "meant as it was read")
	w.post("/list/send", "list", guess.value("list")).must(t, http.StatusUnprocessableEntity)
	w.post("/list/send", "list", guess.value("list"), "accept_guesses", "yes").must(t, http.StatusOK, "ada@example.com")
}

// TestAListSaysWhatBecomesOfItsRows: who is left out is named by line, as enqueue does.
func TestAListSaysWhatBecomesOfItsRows(t *testing.T) {
	t.Parallel()
	b, _ := withClerk(t)
	w := b.browser()
	list := "email,unsubscribed\nada@example.com,\n\u200Bada@example.com,\nbob@example.com,yes\n"
	p := w.upload(list, "campaign", "rows").must(t, http.StatusOK, "The first: ada@example.com.",
		"line 3 is the address of line 2, once it is cleaned",
		"line 4 must not be written to, as the column &#34;unsubscribed&#34; says")
	if strings.Contains(p.body, "bob@example.com") {
		t.Error("the page has the address of who is left out")
	}
	w.post("/list/drop").must(t, http.StatusOK)
	many := "email,unsubscribed\nada@example.com,\n" + strings.Repeat("bob@example.com,yes\n", pageRows+7)
	w.upload(many, "campaign", "rows").must(t, http.StatusOK, "<li>and 7 more</li>")
	w.post("/list/drop").must(t, http.StatusOK)
	google := "Exported\n\nFirst Name,Last Name,E-mail 1 - Label,E-mail 1 - Value,E-mail 2 - Value\n" +
		"Ada,L,Home, mailto:ada@example.com ,a@example.org\n"
	w.upload(google, "campaign", "rows").must(t, http.StatusOK, "line 1 was passed over",
		"1 × further addresses of a person, which are not used", "1 × an address was cleaned")
}

// TestAListIsItsBrowsersAlone: not another operator's, nor that of another browser, nor after a log-out. No stream of
// another shows it.
func TestAListIsItsBrowsersAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Anonymous, c.AdminToken = Nobody, "admin-token-admin-token-admin-to" })
	log := func(token string) *browser {
		w := b.browser()
		w.post("/login", "token", token).must(t, http.StatusOK)
		return w
	}
	ada, other, admin := log(operatorToken), log(operatorToken), log("admin-token-admin-token-admin-to")
	id := ada.upload("email_address\nhidden@example.com\n", "campaign", "spring").must(t, http.StatusOK).value("list")
	if first := <-ada.follow(t.Context(), "/list"); !strings.Contains(first, "campaign spring") {
		t.Errorf("%s", first)
	}
	if first := <-other.follow(t.Context(), "/list"); strings.Contains(first, "spring") {
		t.Errorf("another browser follows it: %s", first)
	}
	for _, w := range []*browser{other, admin} {
		w.get("/list").must(t, http.StatusNotFound)
		w.post("/list/send", "list", id).must(t, http.StatusConflict)
		w.post("/list/ask", "list", id).must(t, http.StatusNotFound)
	}
	cookies := ada.client.Jar.Cookies(must(http.NewRequest(http.MethodGet, b.url, nil)).URL)
	for _, c := range cookies {
		if c.Name == listCookie { // in the hand of another operator
			r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/list", nil))
			r.AddCookie(c)
			r.Header.Set("Authorization", "Bearer admin-token-admin-token-admin-to")
			answer := must(http.DefaultClient.Do(r))
			answer.Body.Close()
			if answer.StatusCode != http.StatusNotFound {
				t.Errorf("another operator with the cookie: %d", answer.StatusCode)
			}
		}
	}
	ada.post("/logout").must(t, http.StatusOK)
	if keys := b.rdb.Keys(t.Context(), "usher:{kept}:*").Val(); len(keys) != 0 {
		t.Errorf("after the log-out stay %s", keys)
	}
	vic := log(viewerToken)
	vic.upload(threePeople).must(t, http.StatusForbidden)
	if keys := b.rdb.Keys(t.Context(), "usher:{kept}:*").Val(); len(keys) != 0 {
		t.Errorf("a viewer has uploaded %s", keys)
	}
	for _, path := range []string{"/list/send", "/list/drop", "/list/ask"} {
		vic.post(path, "list", id).must(t, http.StatusForbidden)
	}
	vic.get("/list").must(t, http.StatusForbidden)
	if p := vic.get("/campaigns"); strings.Contains(p.body, "multipart") {
		t.Error("a viewer is offered to upload")
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// TestForgettingErasesLists: every one that is kept, and Redis never held the address where it can be read.
func TestForgettingErasesLists(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	id := w.upload("email_address\nhidden@example.com\n", "campaign", "spring").must(t, http.StatusOK).value("list")
	keys := b.rdb.Keys(t.Context(), "usher:{kept}:*").Val()
	for _, key := range keys {
		if dump := b.rdb.Dump(t.Context(), key).Val(); strings.Contains(dump, "hidden") {
			t.Errorf("%s can be read", key)
		}
		if ttl := b.rdb.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > kept.For {
			t.Errorf("%s is kept for %s", key, ttl)
		}
	}
	if len(keys) < 3 {
		t.Errorf("kept are %s", keys)
	}
	_, err := b.desk.Forget(t.Context(), "hidden@example.com", func(string) {})
	testkit.NoError(t, err)
	if keys := b.rdb.Keys(t.Context(), "usher:{kept}:*").Val(); len(keys) != 0 {
		t.Errorf("left are %s", keys)
	}
	w.get("/list").must(t, http.StatusNotFound, "earlier when an address is forgotten")
	w.post("/list/send", "list", id).must(t, http.StatusConflict)

	later := w.upload("email_address\nhidden@example.com\nada@example.com\n", "campaign", "spring").
		must(t, http.StatusOK, "<dt>Forgotten on request</dt><dd>1</dd>", "Invite 1 person")
	w.post("/list/send", "list", later.value("list")).must(t, http.StatusOK)
	if c := b.campaignOf("spring"); c.Recipients != 1 {
		t.Errorf("%+v", c)
	}
}

// TestAListIsThrownAway by its button, and by the next one.
func TestAListIsThrownAway(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	w.upload(threePeople, "campaign", "spring").must(t, http.StatusOK)
	w.upload(threePeople, "campaign", "summer").must(t, http.StatusOK)
	if n := b.rdb.HLen(t.Context(), "usher:{kept}:lists").Val(); n != 1 {
		t.Errorf("one browser has %d lists", n)
	}
	w.post("/list/drop").must(t, http.StatusOK, "Invite a list")
	if keys := b.rdb.Keys(t.Context(), "usher:{kept}:*").Val(); len(keys) != 0 {
		t.Errorf("left are %s", keys)
	}
}

// TestAnswersAreShownAsTheyCome: while one question waits, the other's answer is there.
func TestAnswersAreShownAsTheyCome(t *testing.T) {
	t.Parallel()
	b, clerk := withClerk(t)
	clerk.AddUser("bob@example.com")
	clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Endpoint: clerktest.List, Times: 1})
	w := b.browser()
	w.upload(threePeople, "campaign", "spring").must(t, http.StatusOK, "Clerk is being asked")
	testkit.Eventually(t, "one of two answers is shown", func() bool {
		return strings.Contains(w.get("/list").body, "1 of 2 answers are there, with 1 who are users already")
	})
	w.post("/list/drop").must(t, http.StatusOK)
	b.server.Wait() // who has thrown the list away waits for no answer
}

// TestClerkIsAskedAgain where it gave no answer, or the worker that asked has stopped.
func TestClerkIsAskedAgain(t *testing.T) {
	t.Parallel()
	b, clerk := withClerk(t)
	clerk.Inject(clerktest.Fault{Kind: clerktest.FaultUnauthorized, Endpoint: clerktest.Users, Times: 1})
	w := b.browser()
	w.upload(threePeople, "campaign", "spring").must(t, http.StatusOK)
	testkit.Eventually(t, "Clerk has refused", func() bool {
		return strings.Contains(w.get("/list").body, "Ask Clerk again")
	})
	a := answers{State: asking, At: time.Now().Add(-2 * silence)}
	if a.settle(); a.State != failed || a.Why == "" {
		t.Errorf("%+v", a)
	}
}

// TestWhatAListSaysStaysText: its name, its columns and its faults.
func TestWhatAListSaysStaysText(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const evil = "<script>alert(1)</script>"
	p := b.browser().upload("email_address,"+evil+"\n"+evil+"\u202e,x\nada@example.com,x\n", "ignore-columns", "yes")
	p.must(t, http.StatusOK, "&lt;script&gt;")
	if strings.Contains(p.body, evil) || strings.Contains(p.body, "\u202e") {
		t.Error(p.body)
	}
}

// TestAListStartsWhenItIsAsked: as the command's --at says it, and the page that asks shows it.
func TestAListStartsWhenItIsAsked(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	at := time.Now().UTC().AddDate(0, 0, 2).Truncate(time.Minute)
	w.get("/campaigns").must(t, http.StatusOK, `name="at"`, `name="retry-dead"`)
	shown := w.upload(threePeople, "campaign", "spring", "at", at.Format("2006-01-02 15:04")).
		must(t, http.StatusOK, "It starts at "+instant(at), "Invite 3 people")
	w.post("/list/send", "list", shown.value("list")).must(t, http.StatusOK, "spring")
	if c := b.campaignOf("spring"); c.State != tasks.CampaignScheduled || !c.ScheduledAt.Equal(at) {
		t.Errorf("%+v, want at %s", c, at)
	}
	w.get("/campaigns/spring").must(t, http.StatusOK, "Starts", instant(at))
	berlin := at.Add(time.Hour).In(time.FixedZone("", 3600)).Format(time.RFC3339)
	w.upload("email_address\ndan@example.com\n", "campaign", "spring", "at", berlin).
		must(t, http.StatusOK, "The campaign starts at "+instant(at)+", as it was scheduled before", "Invite 1 person")

	b.campaign("summer", 1)
	for text, says := range map[string]string{
		"yesterday":        "“Start”",
		"2020-01-01 09:00": "a time to come",
	} {
		w.upload(threePeople, "campaign", "later", "at", text).
			must(t, http.StatusUnprocessableEntity, says, `value="`+text+`"`, `role="alert"`)
	}
	w.upload(threePeople, "campaign", "summer", "at", berlin).
		must(t, http.StatusUnprocessableEntity, "has begun already")
}

// TestAListRetriesItsDead if that is asked, once, with the options that are given now, and not who dies after it was
// shown.
func TestAListRetriesItsDead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	b.campaign("spring", 3)
	b.dead("spring", 2)
	list := "email_address\nbulk0@example.com\nbulk1@example.com\nbulk2@example.com\n"
	w.upload(list, "campaign", "spring").
		must(t, http.StatusOK, "2 of the list are dead in the campaign, and not sent again", "there is nothing to send")
	shown := w.upload(list+"new@example.com\n", "campaign", "spring", "retry-dead", "yes", "expires_in_days", "5").
		must(t, http.StatusOK, "2 of the list are dead in the campaign, and retried with the options given here",
			"Invite 1 person and retry 2 dead letters")
	b.dead("spring", 1)
	before := b.actions()
	var both sync.WaitGroup
	for range 3 {
		both.Go(func() { w.post("/list/send", "list", shown.value("list")).must(t, http.StatusOK, "spring") })
	}
	both.Wait()
	if c := b.campaignOf("spring"); c.Recipients != 4 || c.Dead != 1 || b.letters() != 1 {
		t.Errorf("%+v, and %d dead letters", c, b.letters())
	}
	w.get("/campaigns/spring").must(t, http.StatusOK, "Of 2 of the remaining ones nobody knows whether their last call")
	if n := b.actions() - before; n < 1 || n > 3 { // each that has done something is noted
		t.Errorf("%d actions are noted", n)
	}
	again, err := ledger.New(b.rdb, tasks.DefaultNamespace).TakeToAsk(t.Context(), "spring", 9, time.Minute, ledger.Unsure)
	testkit.NoError(t, err)
	for _, row := range again.Rows {
		if !strings.Contains(string(row.Recipient), `"expires_in_days":5`) {
			t.Errorf("%s is to be sent", row.Recipient)
		}
	}
	if len(again.Rows) != 2 {
		t.Errorf("%d are sent again", len(again.Rows))
	}

	only := w.upload(list, "campaign", "spring", "retry-dead", "yes").must(t, http.StatusOK, "Retry 1 dead letter<")
	w.post("/list/send", "list", only.value("list")).must(t, http.StatusOK, "Done: put a list into campaign spring and "+
		"retried 1 dead letter")
	if n := b.letters(); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}
