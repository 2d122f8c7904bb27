package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// spend makes n calls of a kind, all of which were answered.
func (b *bundle) spend(limiter *ratelimit.Limiter, call policy.Call, n int) {
	b.t.Helper()
	wants, _ := b.limits().Wants(call, "k")
	for range n {
		permit, wait, err := limiter.Try(b.t.Context(), time.Minute, wants...)
		if err != nil || permit == nil {
			b.t.Fatalf("no permit, wait %s, %v", wait, err)
		}
		testkit.NoError(b.t, permit.Done(b.t.Context()))
	}
}

// TestNowSaysWhatStandsInTheWay, in the words of a campaign that stands still for the same reason.
func TestNowSaysWhatStandsInTheWay(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	limiter := b.work()
	b.campaign("spring", 3)
	w := b.browser()
	w.get("/").must(t, http.StatusOK, "Nothing stands in the way of invitations")
	says := func(before string) {
		t.Helper()
		b.lives()
		c, err := b.desk.Campaign(t.Context(), "spring")
		testkit.NoError(t, err)
		if c.Standstill == nil {
			t.Fatal("the campaign does not stand still")
		}
		if c.Standstill.Until.IsZero() {
			t.Errorf("it does not say until when: %+v", c.Standstill)
		}
		w.get("/").must(t, http.StatusOK, before+":</strong> "+c.Standstill.Words(clock))
	}
	b.spend(limiter, policy.Bulk, 3)
	b.spend(limiter, policy.CreateCampaign, 8)
	says("No campaign makes a call at present")
	b.spend(limiter, policy.Create, 2)
	says("No invitation is sent at present")
	b.spend(limiter, policy.Revoke, 1) // nothing that these limits count
	says("No invitation is sent at present")

	const note = `<p class="note" role="status">It makes no call at present: `
	w.get("/campaigns/spring").must(t, http.StatusOK, note+"the limits are used up", "At no more than 38 an hour;")
	_, err := b.desk.Pause(t.Context(), "spring")
	testkit.NoError(t, err)
	w.get("/campaigns/spring").must(t, http.StatusOK, note+"it is paused")
	_, err = b.desk.Cancel(t.Context(), "spring")
	testkit.NoError(t, err)
	b.campaign("summer", 3, tasks.At(time.Now().Add(time.Hour)))
	w.get("/campaigns").must(t, http.StatusOK, `data-label="Ended"`, "<small>starts ")
}

// TestARedisThatIsFullIsTold in the words of the command, whatever a person does.
func TestARedisThatIsFullIsTold(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.work()
	b.campaign("spring", 3)
	b.campaign("summer", 3)
	at := time.Now().Add(-time.Hour)
	b.letter("one", "one@example.com", "duplicate_record", "is pending", at)
	b.letter("two", "two@example.com", "duplicate_record", "is pending", at)
	b.publish(invitation(1, "p1@example.com"))
	w := b.browser()
	mend := w.get("/dead-letters/one?id=one").value("failed_at")
	testkit.NoError(t, b.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	cut := exact(time.Now())
	const words = "Redis is full (its maxmemory is used up): nothing was changed. Raise its maxmemory"
	for name, p := range map[string]page{
		"pause":  w.post("/campaigns/spring/pause"),
		"cancel": w.post("/campaigns/summer/cancel"),
		"retry":  w.post("/dead-letters/retry", "cut", cut),
		"mend":   w.post("/dead-letters/mend", "id", "one", "failed_at", mend, "email_address", "new@example.com"),
		"revoke": w.post("/invitations/revoke", "id", invitation(1, "").ID),
		"upload": w.upload("email\nada@example.com\n"),
		"delete": w.post("/dead-letters/delete", "cut", cut),
	} {
		if p.status != http.StatusServiceUnavailable || !strings.Contains(p.body, words) || strings.Contains(p.body, "OOM") {
			t.Errorf("%s: status %d: %s", name, p.status, p.body)
		}
	}
	if left := b.letters(); left != 2 {
		t.Errorf("%d of 2 dead letters are left", left)
	}
	w.get("/").must(t, http.StatusOK, `<p class="alarm"`,
		"No invitation is sent at present:</strong> Redis is full, and workers cannot work (raise its maxmemory, or "+
			"delete campaigns)")
	if c, err := b.desk.Campaign(t.Context(), "spring"); err != nil || c.State != tasks.CampaignRunning ||
		!strings.Contains(c.Standstill.Message, "Redis is full, and workers cannot work") {
		t.Errorf("%+v, %v", c, err)
	}
	testkit.NoError(t, b.rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	w.get("/").must(t, http.StatusOK, "Nothing stands in the way of invitations")
	w.post("/campaigns/spring/pause").must(t, http.StatusOK, "Done: paused campaign spring")
}

// stopsAt lets the worker stop when a letter is about to be changed, together with others.
type stopsAt struct {
	key  string
	stop func()
}

func (h stopsAt) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h stopsAt) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h stopsAt) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if slices.Contains(cmd.Args(), any(h.key)) {
				h.stop()
			}
		}
		return next(ctx, cmds)
	}
}

// TestAnActionThatAStopBreaksOffIsNoted with what it has done.
func TestAnActionThatAStopBreaksOffIsNoted(t *testing.T) {
	t.Parallel()
	for do, path := range map[string]string{"retried": "/dead-letters/retry", "deleted": "/dead-letters/delete"} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			at := time.Now().Add(-time.Hour)
			const all, least = 1000, 200 // the stop comes in the second hundred, which is finished
			for i := range all {
				id := fmt.Sprint("n", i)
				b.letter(id, id+"@example.com", "duplicate_record", "is pending", at.Add(time.Duration(i)*time.Second))
			}
			b.rdb.AddHook(stopsAt{"usher:{once}:d:e:n150", b.end})
			b.browser().post(path, "cut", exact(time.Now())).must(t, http.StatusServiceUnavailable)
			b.server.Wait()
			noted, err := b.server.audit.List(t.Context())
			testkit.NoError(t, err)
			left := b.letters()
			if left == 0 || left > all-least || left%100 != 0 { // the action learns of the stop a moment later
				t.Errorf("%d letters are left", left)
			}
			if len(noted) != 1 || noted[0].What != do+" some of all dead letters" || noted[0].N != all-left {
				t.Errorf("%+v, and %d letters are left", noted, left)
			}
			b.browser().post(path, "cut", exact(time.Now())).must(t, http.StatusServiceUnavailable, "This worker stops")
		})
	}
}

// deaf carries scripts out and loses their answers, as long as it is told to.
type deaf struct{ now atomic.Bool }

func (d *deaf) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *deaf) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if d.now.Load() && strings.HasPrefix(cmd.Name(), "eval") {
			cmd.SetErr(os.ErrDeadlineExceeded)
			return os.ErrDeadlineExceeded
		}
		return err
	}
}

func (d *deaf) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestAnActionOfUnknownEndIsNoted: Redis carries it out, and answers neither that nor the note of it, until later.
func TestAnActionOfUnknownEndIsNoted(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 3)
	for _, do := range []func(context.Context, string) (tasks.Campaign, error){b.desk.Pause, b.desk.Resume} {
		_, err := do(t.Context(), "spring") // now Redis knows the script
		testkit.NoError(t, err)
	}
	testkit.NoError(t, b.server.audit.Note(t.Context(), store.Action{}))
	var d deaf
	b.rdb.AddHook(&d)
	d.now.Store(true)
	b.browser().post("/campaigns/spring/pause").must(t, http.StatusServiceUnavailable,
		"<h1>Nobody knows whether this was done</h1>", "Look whether it was, before you do it again.")
	testkit.NoError(t, b.rdb.Del(t.Context(), "usher:audit").Err()) // nor has it carried the note out
	d.now.Store(false)
	testkit.Eventually(t, "it is noted", func() bool {
		noted, err := b.server.audit.List(t.Context())
		return err == nil && len(noted) == 1 && noted[0].N == 0 &&
			strings.Contains(noted[0].What, "/campaigns/spring/pause")
	})
	if c, err := b.desk.Campaign(t.Context(), "spring"); err != nil || c.State != tasks.CampaignPaused {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestWhatChangesNothingIsNotedSo: somebody has done it before.
func TestWhatChangesNothingIsNotedSo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 3)
	for range 2 {
		b.browser().post("/campaigns/spring/pause").must(t, http.StatusOK)
		b.browser().post("/invitations/revoke", "id", "inv_xlNKaEd5UmVbHddMERPlSaR1C70").must(t, http.StatusOK)
	}
	noted, err := b.server.audit.List(t.Context())
	testkit.NoError(t, err)
	var counts []int
	for _, one := range slices.Backward(noted) {
		counts = append(counts, one.N)
	}
	if !slices.Equal(counts, []int{3, 1, 0, 0}) {
		t.Errorf("%+v", noted)
	}
}

// TestARedisThatIsAwayIsTold in the words of the command, too.
func TestARedisThatIsAwayIsTold(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	_ = b.rdb.ShutdownNoSave(t.Context()) // it gives no answer
	b.browser().post("/campaigns/spring/pause").
		must(t, http.StatusServiceUnavailable, "<h1>Redis cannot be reached</h1>",
			"Redis cannot be reached (is it running, and REDIS_URL right?)")
}

// TestEachFaultHasItsTitle: a person who reads it knows whether Redis is to be looked at.
func TestEachFaultHasItsTitle(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 1)
	testkit.NoError(t, b.rdb.HSet(t.Context(), "usher:{once}:c:spring:meta", "sent", "garbage").Err())
	p := b.browser().get("/campaigns/spring").must(t, http.StatusServiceUnavailable,
		"<h1>What Redis holds cannot be read</h1>", "ampaign spring")
	if strings.Contains(p.body, "answer") {
		t.Error(p.body)
	}
	for want, err := range map[string]error{
		"Redis does not answer":             context.DeadlineExceeded,
		"Redis cannot be reached":           &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"Redis does not know a command":     proto("ERR unknown command (evalsha)"),
		"Something else than Redis answers": errors.New(`redis: can't parse map reply: "HTTP/1.1 400 Bad request"`),

		"Redis closes the connection without an answer": io.EOF,

		"Redis does not serve this at present":   proto("LOADING Redis is loading the dataset in memory"),
		"Redis refuses the user or the password": proto("NOAUTH Authentication required."),
		"Redis is full":                          proto("OOM command not allowed when used memory > 'maxmemory'."),
		"This has failed":                        errors.New("something else"),
		"Nobody knows whether this was done":     fmt.Errorf("%w: %w", tasks.ErrUnsure, context.DeadlineExceeded),
	} {
		if p := asProblem(err); p.Title != want || p.status != http.StatusServiceUnavailable {
			t.Errorf("%v: %+v, want %q", err, p, want)
		}
	}
}

// proto is an error of Redis.
type proto string

func (e proto) Error() string { return string(e) }

// RedisError is for go-redis.
func (proto) RedisError() {}

// TestAnActionWithoutARightDoesNothing: it would break off in its middle.
func TestAnActionWithoutARightDoesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.campaign("spring", 3)
	testkit.NoError(t, b.rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-srem").Err())
	b.browser().post("/campaigns/spring/cancel").must(t, http.StatusServiceUnavailable, "<h1>Redis refuses this</h1>",
		"Nothing was done. Redis refuses SREM; ACL SETUSER default &#43;srem gives its user the right.")
	if c, err := b.desk.Campaign(t.Context(), "spring"); err != nil || c.State != tasks.CampaignRunning {
		t.Errorf("%+v, %v", c, err)
	}
}
