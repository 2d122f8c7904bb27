//go:build browser

package e2e

import (
	"context"
	"fmt"
	"net/http"
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
			if err == nil && slices.Contains(complaints, m.Type) && !b.onPurpose(m.Text, m.URL) {
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

// onPurpose tells whether a complaint is that of a browser about a page that is to be refused.
func (b *browser) onPurpose(text, url string) bool {
	return slices.ContainsFunc(refusedPages, func(page string) bool {
		status, path, _ := strings.Cut(page, " ")
		return strings.Contains(text, "responded with a status of "+status+" ") && url == b.base+path
	})
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
