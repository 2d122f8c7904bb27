//go:build browser

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// pagesToken is that of an operator.
const pagesToken = "sesame-sesame-sesame-sesame-sesame"

// browser is a tab of a real Chromium at the pages of a worker.
type browser struct {
	*system
	ctx  context.Context
	base string
}

// browse starts a system with a worker and its pages, and a browser that has logged in. The test fails if the browser's
// console complains.
func browse(t *testing.T, scripts bool, env ...string) *browser {
	t.Helper()
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	env = append([]string{"USHER_ADMIN_ADDR=" + addr, "USHER_ADMIN_TOKEN=" + pagesToken, "USHER_RESERVE=0"}, env...)
	b := &browser{system: start(t, clerktest.Config{}, env...), base: "http://" + addr}
	b.worker()
	testkit.Eventually(t, "the pages are served", func() bool {
		answer, err := http.Get(b.base + "/login")
		if err == nil {
			answer.Body.Close()
		}
		return err == nil
	})

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	b.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	testkit.NoError(t, chromedp.Do(b.ctx, chromedp.EmulateViewport(1440, 900))) // this context is the browser's life
	complaints := []chromedp.ConsoleType{chromedp.ConsoleError, chromedp.ConsoleWarning, chromedp.ConsoleException}
	messages, done := chromedp.Console(b.ctx), make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err == nil && slices.Contains(complaints, m.Type) {
				t.Errorf("the console says: %s %s", m.Text, m.URL)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if !scripts {
		off := emulation.SetScriptExecutionDisabledParams{Value: true}
		_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, off)
		testkit.NoError(t, err)
	}
	b.open("/login")
	b.do(chromedp.SendKeys("#token", pagesToken+kb.Enter), chromedp.WaitVisible(`//h1[text()="Now"]`))
	return b
}

// do carries out actions, each of which must come to its end.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	for i, action := range actions {
		ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
		err := chromedp.Do(ctx, action)
		cancel()
		if err != nil {
			b.t.Fatalf("step %d in the browser: %v\n%s", i+1, err, b.text())
		}
	}
}

// ask carries out an action that answers.
func ask[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	answer, err := chromedp.Run(ctx, action)
	testkit.NoError(b.t, err)
	return answer
}

// open goes to a page.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// text is what the page shows.
func (b *browser) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("main")))
	return text
}

// shows waits for a text on the page.
func (b *browser) shows(text string) {
	b.t.Helper()
	testkit.Eventually(b.t, "the page shows "+text, func() bool { return strings.Contains(b.text(), text) })
}

// click clicks on the button or link with a text.
func (b *browser) click(text string) {
	b.t.Helper()
	b.do(chromedp.Click(fmt.Sprintf(`//main//*[(self::a or self::button) and starts-with(normalize-space(.), %q)]`, text)))
}

// press goes to the button or link with a text by the keyboard alone, and presses Enter there.
func (b *browser) press(text string) {
	b.t.Helper()
	for range 60 {
		b.do(chromedp.KeyEvent(kb.Tab))
		if strings.HasPrefix(ask(b, chromedp.Evaluate[string](`document.activeElement.textContent.trim()`)), text) {
			b.do(chromedp.KeyEvent(kb.Enter))
			return
		}
	}
	b.t.Fatalf("the keyboard does not reach %s", text)
}

// TestBrowserFollowsACampaign: the page shows what happens without being asked again, and obeys mouse and keyboard.
func TestBrowserFollowsACampaign(t *testing.T) {
	t.Parallel()
	b := browse(t, true, "USHER_LIMIT_CREATE=1/2s", "USHER_LIMIT_BULK=1/2s")
	b.ok("bulk-invite", b.write("spring.csv", csv("p", 400)), "--campaign", "spring")
	b.open("/campaigns/spring")
	sent := func() (n int) {
		_, after, _ := strings.Cut(b.text(), "Sent")
		_, _ = fmt.Sscan(after, &n)
		return n
	}
	first := sent()
	testkit.Eventually(t, "the page follows", func() bool { return sent() > first })

	b.click("Pause")
	b.shows("Resume")
	if state := b.campaign("spring").State; state != tasks.CampaignPaused {
		t.Errorf("after Pause the campaign is %s", state)
	}
	b.press("Resume")
	b.shows("Pause")
	if state := b.campaign("spring").State; state != tasks.CampaignRunning {
		t.Errorf("after Resume the campaign is %s", state)
	}
	b.press("Cancel…")
	b.shows("Go back")
	b.press("Cancel")
	testkit.Eventually(t, "the campaign is cancelled", func() bool {
		return b.campaign("spring").State == tasks.CampaignCancelled
	})
}

// TestBrowserMends: a dead letter is mended, sent, and gone from the list, with scripts and without.
func TestBrowserMends(t *testing.T) {
	t.Parallel()
	for name, scripts := range map[string]bool{"with scripts": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := browse(t, scripts)
			b.clerk.AddUser("ada@example.com")
			b.enqueue("invite", "ada@example.com", "--wait", "--wait-timeout", "20s")
			b.open("/dead-letters")
			b.shows("ada@example.com")
			b.click("Mend")
			b.shows("Send it again")
			b.do(chromedp.Clear("#email_address"), chromedp.SendKeys("#email_address", "eve@example.com"))
			b.click("Send it again")
			b.shows("Done:")
			b.open("/dead-letters")
			b.shows("No dead letters")
			testkit.Eventually(t, "eve is invited", func() bool { return len(b.clerk.Ledger()) == 1 })
		})
	}
}

// TestBrowserUploads: a list is dropped or chosen, what Clerk says about it is read, and it is sent, once.
func TestBrowserUploads(t *testing.T) {
	t.Parallel()
	list := "email_address,public_metadata.plan\nada@example.com,pro\nbob@example.com,pro\neve@example,pro\n"
	drop := fmt.Sprintf(`(() => {
		const data = new DataTransfer();
		data.items.add(new File([%q], "people.csv", {type: "text/csv"}));
		const drop = new DragEvent("drop", {dataTransfer: data, cancelable: true});
		document.querySelector("form[data-drop]").dispatchEvent(drop);
		return document.querySelector("input[type=file]").files.length;
	})()`, list)
	for name, scripts := range map[string]bool{"with scripts": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := browse(t, scripts)
			b.clerk.AddUser("bob@example.com")
			fill := func(campaign string) {
				b.open("/campaigns")
				if !scripts {
					b.do(chromedp.SetUploadFiles("input[type=file]", []string{b.write("people.csv", list)}))
				} else if n := ask(b, chromedp.Evaluate[int](drop)); n != 1 {
					t.Fatalf("%d files are on the form after the drop", n)
				}
				b.do(chromedp.SendKeys("#campaign", campaign))
			}
			fill("spring")
			b.click("Check the list")
			b.shows("List for campaign spring")
			if !scripts {
				testkit.Eventually(t, "Clerk has answered", func() bool {
					b.click("Refresh")
					return strings.Contains(b.text(), "form_identifier_exists")
				})
			}
			b.shows("form_identifier_exists")
			if n := len(b.clerk.Ledger()); n != 0 {
				t.Fatalf("%d were invited by looking", n)
			}
			b.do(chromedp.Click("#skip"))
			b.click("Invite 2 people")
			testkit.Eventually(t, "the list is worked off", func() bool {
				c, err := b.client.Campaign(t.Context(), "spring")
				return err == nil && c.Sent == 1 && c.Dead == 1
			})

			const sending = `//summary[starts-with(., "When it starts")]`
			fill("spring")
			b.do(chromedp.Click(sending), chromedp.SendKeys("#retry-dead", "yes"))
			b.click("Check the list")
			b.shows("1 of the list is dead in the campaign, and retried")
			b.do(chromedp.Click("#skip"))
			b.click("Retry 1 dead letter")
			b.shows("retried 1 dead letter")
			fill("later")
			b.do(chromedp.Click(sending), chromedp.SendKeys("#at", "2099-12-01 09:00"))
			b.click("Check the list")
			b.shows("It starts at 2099-12-01 09:00:00 UTC")
			b.do(chromedp.Click("#skip"))
			b.click("Invite 2 people")
			testkit.Eventually(t, "the list waits for its time", func() bool {
				c, err := b.client.Campaign(t.Context(), "later")
				return err == nil && c.State == tasks.CampaignScheduled && c.ScheduledAt.Year() == 2099
			})
		})
	}
}

// TestBrowserWithoutScripts: what scripts do for a page, a link does too.
func TestBrowserWithoutScripts(t *testing.T) {
	t.Parallel()
	b := browse(t, false, "USHER_LIMIT_CREATE=1/2s", "USHER_LIMIT_BULK=1/2s")
	b.ok("bulk-invite", b.write("spring.csv", csv("p", 400)), "--campaign", "spring")
	b.open("/campaigns/spring")
	b.shows("As of")
	b.click("Pause")
	b.shows("Resume")
	b.click("Resume")
	b.shows("Pause")
	before := b.campaign("spring").Sent
	testkit.Eventually(t, "more is sent", func() bool { return b.campaign("spring").Sent > before })
	b.click("Refresh")
	b.shows("Pause")
	b.click("Cancel…")
	b.click("Cancel")
	testkit.Eventually(t, "the campaign is cancelled", func() bool {
		return b.campaign("spring").State == tasks.CampaignCancelled
	})
}

// violation is what axe finds.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

// TestBrowserSeesEveryPage: no page has a serious fault of accessibility, and none scrolls sideways.
func TestBrowserSeesEveryPage(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile(os.Getenv("USHER_AXE"))
	if err != nil {
		t.Fatalf("USHER_AXE must name axe.min.js, see .ci/browser: %v", err)
	}
	b := browse(t, true, "USHER_LIMIT_CREATE=30/1h", "USHER_LIMIT_BULK=12/1h")
	paths := b.furnish()
	shows := map[string]string{ // what would be missing on a picture
		"now": "No invitation is sent at present", "running": "Pause", "paused": "Resume", "scheduled": "Starts",
		"finished": "finished", "campaigns": "starts ",
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{390, 1440} {
			media := emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			}
			_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media)
			testkit.NoError(t, err)
			b.do(chromedp.EmulateViewport(width, 900))
			for name, path := range paths {
				b.open(path)
				b.shows(shows[name])
				b.judge(fmt.Sprintf("%s-%s-%d", name, scheme, width), string(axe))
			}
		}
	}
}

// furnish fills the system with something of everything, and says where the pages are.
func (b *browser) furnish() map[string]string {
	b.t.Helper()
	for i := range 3 {
		b.clerk.AddUser(fmt.Sprintf("user%d@example.com", i))
		b.enqueue("invite", fmt.Sprintf("user%d@example.com", i), "--wait", "--wait-timeout", "20s")
	}
	const long = "a-campaign-with-a-long-name-that-has-to-fit-somewhere-on-a-phone"
	b.ok("bulk-invite", b.write("winter.csv", csv("w", 10)), "--campaign", "winter", "--wait")
	b.ok("bulk-invite", b.write("autumn.csv", csv("q", 4000)), "--campaign", long)
	b.ok("campaign", "pause", long)
	b.ok("bulk-invite", b.write("summer.csv", csv("s", 40)), "--campaign", "summer", "--in", "20d")
	b.ok("bulk-invite", b.write("spring.csv", csv("p", 400)), "--campaign", "spring")
	testkit.Eventually(b.t, "the limits are used up", func() bool {
		c := b.campaign("spring")
		return c.Sent > 0 && c.Standstill.Usual() && !c.ETA.IsZero()
	})
	b.ok("sync-list", "--wait", "--wait-timeout", "20s")
	b.open("/campaigns")
	list := b.write("people.csv", csv("r", 30)+"ada@example\n")
	b.do(chromedp.SetUploadFiles("input[type=file]", []string{list}))
	b.click("Check the list")
	b.shows("Would be sent")
	letters := b.list("dead-letter", "list")
	if len(letters) != 3 {
		b.t.Fatalf("%d dead letters", len(letters))
	}
	return map[string]string{
		"now": "/", "campaigns": "/campaigns", "cancel": "/campaigns/spring/cancel",
		"running": "/campaigns/spring", "paused": "/campaigns/" + long, "scheduled": "/campaigns/summer",
		"finished":  "/campaigns/winter",
		"none-dead": "/campaigns/spring?outcome=dead", "letters": "/dead-letters",
		"letter":       fmt.Sprint("/dead-letters/one?id=", letters[0]["id"]),
		"retry":        "/dead-letters/confirm?do=retry",
		"letters-none": "/dead-letters?code=nothing_has_this_code",
		"invitations":  "/invitations", "schedules": "/schedules", "find": "/find", "actions": "/actions",
		"login": "/login", "list": "/list",
	}
}

// brokenHeadings gives the words in the headings of tables that stand on more than one line.
const brokenHeadings = `[...document.querySelectorAll("thead th")].flatMap(heading => {
	const text = heading.firstChild
	return [...(text?.data ?? "").matchAll(/\S+/g)].filter(word => {
		const range = document.createRange()
		range.setStart(text, word.index)
		range.setEnd(text, word.index + word[0].length)
		return range.getClientRects().length > 1
	}).map(word => word[0])
})`

// judge looks at the page that is open.
func (b *browser) judge(name, axe string) {
	b.t.Helper()
	if ask(b, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > document.documentElement.clientWidth`)) {
		b.t.Errorf("%s scrolls sideways", name)
	}
	if words := ask(b, chromedp.Evaluate[[]string](brokenHeadings)); len(words) > 0 {
		b.t.Errorf("%s: words of a table's headings are broken: %q", name, words)
	}
	ask(b, chromedp.Evaluate[int](axe+"; 0"))
	run := `axe.run().then(r => JSON.stringify({violations: r.violations, passes: r.passes.map(p => p.id)}))`
	answer := ask(b, chromedp.Evaluate[string](run, chromedp.EvalAwaitPromise))
	var found struct {
		Violations []violation
		Passes     []string
	}
	testkit.NoError(b.t, json.Unmarshal([]byte(answer), &found))
	if !slices.Contains(found.Passes, "color-contrast") {
		b.t.Errorf("%s: the contrast was not looked at: %v", name, found.Passes)
	}
	for _, v := range found.Violations {
		if v.Impact == "serious" || v.Impact == "critical" {
			b.t.Errorf("%s: %s: %s\n%v", name, v.ID, v.Help, v.Nodes)
		} else {
			b.t.Logf("%s: %s (%s): %s", name, v.ID, v.Impact, v.Help)
		}
	}
	if dir := os.Getenv("USHER_SCREENSHOTS"); dir != "" {
		picture := ask(b, chromedp.FullScreenshot(100))
		testkit.NoError(b.t, os.MkdirAll(dir, 0o700))
		testkit.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
	}
}
