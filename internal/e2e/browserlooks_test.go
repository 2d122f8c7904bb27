//go:build browser

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// viewerToken is that of somebody who may look, and not act.
const viewerToken = "viewer-viewer-viewer-viewer-viewer"

// Names and an address that are as long as any that must fit on a phone.
const (
	longName    = "a-campaign-with-a-long-name-that-has-to-fit-somewhere-on-a-phone"
	longDead    = "the_dead_of_this_campaign_have_it_in_a_narrow_column_of_the_list"
	longAddress = "somebody.whose.name.has.many.parts+and.a.tag@a-department.of-a-large.organisation.example.com"
)

// refusedPages are those that a browser is to be refused, and with which status.
var refusedPages = []string{
	"404 /campaigns/nothing-has-this-name", "422 /list", "401 /login", "401 /find", "403 /find", "503 /campaigns",
	"503 /",
}

// gallery looks at pages in each colour scheme and width, with axe.
type gallery struct {
	*browser
	axe string
}

// scene is a page that is opened, and a text that would be missing if it did not show what it should. Bare is a page
// on which nothing is to be done, or the same thing to each row.
type scene struct {
	name, path, shows string
	bare              bool
}

func (g *gallery) visit(scenes ...scene) {
	g.t.Helper()
	for _, one := range scenes {
		g.open(one.path)
		g.look(one)
	}
}

// TestBrowserSeesEveryPage: no page has a serious fault of accessibility, scrolls sideways, breaks words or has two
// primary actions, whatever there is to show.
func TestBrowserSeesEveryPage(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile(os.Getenv("USHER_AXE"))
	if err != nil {
		t.Fatalf("USHER_AXE must name axe.min.js, see .ci/browser: %v", err)
	}
	file := filepath.Join(t.TempDir(), "tokens")
	testkit.NoError(t, os.WriteFile(file, []byte("vic: "+viewerToken+" read\n"), 0o600))
	g := &gallery{axe: string(axe)}
	g.browser = browse(t, true, "USHER_LIMIT_CREATE=30/1h", "USHER_LIMIT_BULK=12/1h", "USHER_API_TOKENS_FILE="+file)
	g.visit(
		scene{"now-empty", "/", "Nothing stands in the way", true},
		scene{"campaigns-empty", "/campaigns", "No campaigns yet", false},
		scene{"letters-empty", "/dead-letters", "No dead letters", true},
		scene{"invitations-empty", "/invitations", "was never made", true},
		scene{"schedules-empty", "/schedules", "No worker has a schedule", true},
		scene{"actions-empty", "/actions", "Nobody has done anything", true},
	)
	letter := g.furnish()
	g.visit(
		scene{"now", "/", "No invitation is sent at present", true},
		scene{"campaigns", "/campaigns", "starts ", false},
		scene{"cancel", "/campaigns/spring/cancel", "Go back", false},
		scene{"running", "/campaigns/spring", "Pause", false},
		scene{"paused", "/campaigns/" + longName, "Resume", false},
		scene{"scheduled", "/campaigns/summer", "Starts", false},
		scene{"finished", "/campaigns/winter", "finished", false},
		scene{"dead", "/campaigns/" + longDead, "form_identifier_exists", false},
		scene{"none-dead", "/campaigns/spring?outcome=dead", "No such recipients", false},
		scene{"letters", "/dead-letters", "without a code", false},
		scene{"letters-group", "/dead-letters?code=form_identifier_exists&reason=rejected", "Show all", false},
		scene{"letters-none", "/dead-letters?code=nothing_has_this_code", "None among", true},
		scene{"letter", "/dead-letters/one?id=" + letter, "Send it again", false},
		scene{"retry", "/dead-letters/confirm?do=retry", "as of", false},
		scene{"invitations", "/invitations", "Revoke", false},
		scene{"schedules", "/schedules", "Run now", true},
		scene{"find", "/find", "E-mail address", false},
		scene{"actions", "/actions", "checked a list", true},
		scene{"list", "/list", "Would be sent", false},
		scene{"unknown", "/campaigns/nothing-has-this-name", "Nothing is here", false},
	)
	g.answers()
	g.viewer()
	g.troubles()
}

// furnish fills the system with something of everything, and gives the id of a dead letter.
func (g *gallery) furnish() (letter string) {
	g.t.Helper()
	g.worker("USHER_ADMIN_ADDR=off", "USHER_SCHEDULE_FILE="+g.write("schedules.yaml", `schedules:
  - name: a-copy-of-the-list-of-clerk-for-every-page-that-shows-it
    cron: 0 3 1 1 *
    timezone: America/Argentina/Buenos_Aires
    task: sync-list
  - {name: yearly, cron: 0 9 1 1 *, task: sync-list}
`))
	g.clerk.AddUser(longAddress)
	for i := range 2 {
		g.clerk.AddUser(fmt.Sprintf("user%d@example.com", i))
		g.enqueue("invite", fmt.Sprintf("user%d@example.com", i), "--wait", "--wait-timeout", "20s")
	}
	testkit.NoError(g.t, deadletter.NewStore(g.rdb, "usher").Put(g.t.Context(), deadletter.Entry{
		ID: "no-code", TaskID: "no-code", Type: tasks.TypeInvite, Queue: "usher:interactive", Attempts: 1,
		EmailAddress: "eve@example.com", Payload: []byte(`{"v":1,"email_address":"eve@example.com"}`),
		FailedAt: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC),
		Failure:  fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Message: strings.Repeat("It is refused. ", 20)},
	}))
	dead := "email_address\nuser0@example.com\n" + longAddress + "\n"
	g.enqueue("bulk-invite", g.write("dead.csv", dead), "--campaign", longDead, "--wait")
	g.ok("bulk-invite", g.write("winter.csv", csv("w", 10)), "--campaign", "winter", "--wait")
	g.ok("bulk-invite", g.write("autumn.csv", csv("q", 4000)), "--campaign", longName)
	g.ok("campaign", "pause", longName)
	g.ok("bulk-invite", g.write("summer.csv", csv("s", 40)), "--campaign", "summer", "--in", "20d")
	g.ok("bulk-invite", g.write("spring.csv", csv("p", 400)), "--campaign", "spring")
	testkit.Eventually(g.t, "the limits are used up", func() bool {
		c := g.campaign("spring")
		return c.Sent > 0 && c.Standstill.Usual() && !c.ETA.IsZero()
	})
	g.ok("schedule", "pause", "yearly")
	g.ok("sync-list", "--wait", "--wait-timeout", "20s")
	g.upload(csv("r", 30) + "ada@example\n")
	g.shows("Would be sent")
	letters := g.list("dead-letter", "list")
	if len(letters) != 5 {
		g.t.Fatalf("%d dead letters: %v", len(letters), letters)
	}
	return fmt.Sprint(letters[1]["id"])
}

// upload has a list checked.
func (g *gallery) upload(list string) {
	g.t.Helper()
	g.open("/campaigns")
	g.do(chromedp.SetUploadFiles("input[type=file]", []string{g.write("people.csv", list)}))
	g.click("Check the list")
}

// answers looks at what forms answer.
func (g *gallery) answers() {
	g.t.Helper()
	g.upload("name,colour\nAda,red\n")
	g.look(scene{name: "upload-unusable", shows: "This list cannot be used"})
	g.upload("email_address,expires_in_days\nada@example,7\nbob@example.com,never\n" + longAddress + ",900\n")
	g.look(scene{name: "list-bad", shows: "line 4"})
	g.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Endpoint: clerktest.Users})
	g.upload(csv("r", 30))
	g.look(scene{name: "list-asking", shows: "Clerk is being asked"})
	g.clerk.ClearFaults()
	for name, what := range map[string]string{"found": longAddress, "found-nobody": "nobody@example.com"} {
		g.open("/find")
		g.do(chromedp.SendKeys("#what", what+kb.Enter), chromedp.WaitVisible(".story, .empty"))
		g.look(scene{name: name, shows: what})
	}
}

// viewer logs out, and in as somebody who may only look.
func (g *gallery) viewer() {
	g.t.Helper()
	g.do(chromedp.Click(`//header//button`), chromedp.WaitVisible("#token"))
	g.look(scene{name: "login", shows: "Token"})
	g.do(chromedp.SendKeys("#token", "no-such-token"+kb.Enter))
	g.look(scene{name: "login-wrong", shows: "opens nothing here"})
	g.visit(scene{"login-first", "/find", "Log in first", false})
	g.open("/login")
	g.do(chromedp.SendKeys("#token", viewerToken+kb.Enter), chromedp.WaitVisible(`//h1[text()="Now"]`))
	g.visit(
		scene{"viewer-now", "/", "Workers", true},
		scene{"viewer-campaign", "/campaigns/" + longDead, "s***@", true},
		scene{"viewer-letters", "/dead-letters", "u***@example.com", true},
		scene{"viewer-invitations", "/invitations", "p***@example.com", true},
		scene{"viewer-forbidden", "/find", "This is for operators", false},
	)
}

// troubles looks at the pages while Clerk refuses the key, and when Redis is away.
func (g *gallery) troubles() {
	g.t.Helper()
	g.do(chromedp.Click(`//header//button`), chromedp.WaitVisible("#token"))
	g.do(chromedp.SendKeys("#token", pagesToken+kb.Enter), chromedp.WaitVisible(`//h1[text()="Now"]`))
	g.clerk.RevokeKey()
	g.ok("sync-list")
	g.look(scene{name: "now-refused", shows: "Calls that rest"})
	g.redis.Kill()
	g.visit(scene{"redis-away", "/campaigns", "Try again", false})
}

// sideways tells whether a page is wider than the window.
const sideways = `document.documentElement.scrollWidth > document.documentElement.clientWidth`

// brokenWords gives the words that stand on more than one line: of tables' headings and cells, but for cells of what
// may be long, and of buttons. A hyphen may end a line.
const brokenWords = `[...document.querySelectorAll("main :is(thead th, td, button, .button)")].flatMap(element => {
	if (element.closest(".long") || element.closest("thead")?.clientWidth <= 1) return []
	const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT), broken = []
	while (texts.nextNode()) {
		const text = texts.currentNode
		if (text.parentElement.closest(".hidden")) continue
		for (const word of text.data.matchAll(/[^\s-]+/g)) {
			const range = document.createRange()
			range.setStart(text, word.index)
			range.setEnd(text, word.index + word[0].length)
			if (range.getClientRects().length > 1) broken.push(word[0])
		}
	}
	return broken
})`

// fits looks whether everything has its place at a width.
func (g *gallery) fits(name string, width int64) {
	g.t.Helper()
	g.do(chromedp.EmulateViewport(width, 900))
	if ask(g.browser, chromedp.Evaluate[bool](sideways)) {
		g.t.Errorf("%s scrolls sideways at %d", name, width)
	}
	if words := ask(g.browser, chromedp.Evaluate[[]string](brokenWords)); len(words) > 0 {
		g.t.Errorf("%s: words are broken at %d: %q", name, width, words)
	}
}

// schemes are the colour schemes, and by which of axe's rules each is judged: only colours differ.
var schemes = map[string]string{"light": "{}", "dark": `{runOnly: ["cat.color"]}`}

// look looks at the page that is open.
func (g *gallery) look(one scene) {
	g.t.Helper()
	g.shows(one.shows)
	most := 1
	if one.bare {
		most = 0
	}
	if n := ask(g.browser, chromedp.Evaluate[int](`document.querySelectorAll("main .primary").length`)); n != most {
		g.t.Errorf("%s has %d primary actions, want %d", one.name, n, most)
	}
	ask(g.browser, chromedp.Evaluate[int](g.axe+"; 0"))
	for _, width := range []int64{320, 768, 1024, 1160} {
		g.fits(one.name, width)
	}
	for scheme, rules := range schemes {
		_, err := chromedp.Call(g.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		testkit.NoError(g.t, err)
		for _, width := range []int64{390, 1440} {
			g.fits(one.name, width)
			g.judge(fmt.Sprintf("%s-%s-%d", one.name, scheme, width), rules)
		}
	}
}

// violation is what axe finds.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

// judge has axe look at the page by some of its rules, and keeps a picture.
func (g *gallery) judge(name, rules string) {
	g.t.Helper()
	run := "axe.run(" + rules + ")" +
		".then(r => JSON.stringify({violations: r.violations, passes: r.passes.map(p => p.id)}))"
	answer := ask(g.browser, chromedp.Evaluate[string](run, chromedp.EvalAwaitPromise))
	var found struct {
		Violations []violation
		Passes     []string
	}
	testkit.NoError(g.t, json.Unmarshal([]byte(answer), &found))
	if !slices.Contains(found.Passes, "color-contrast") {
		g.t.Errorf("%s: the contrast was not looked at: %v", name, found.Passes)
	}
	for _, v := range found.Violations {
		if v.Impact == "serious" || v.Impact == "critical" {
			g.t.Errorf("%s: %s: %s\n%v", name, v.ID, v.Help, v.Nodes)
		} else {
			g.t.Logf("%s: %s (%s): %s", name, v.ID, v.Impact, v.Help)
		}
	}
	if dir := os.Getenv("USHER_SCREENSHOTS"); dir != "" {
		picture := ask(g.browser, chromedp.FullScreenshot(100))
		testkit.NoError(g.t, os.MkdirAll(dir, 0o700))
		testkit.NoError(g.t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
	}
}
