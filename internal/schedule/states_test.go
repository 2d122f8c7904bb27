package schedule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// bundle is the states of schedules, and the hash of the schedule "a" in it.
type bundle struct {
	*states
	rdb *redis.Client
}

// onBoth runs a test on a real Redis and on the embedded one.
func onBoth(t *testing.T, test func(*testing.T, bundle)) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) { test(t, bundle{newStates(rdb, "test"), rdb}) })
}

// set changes fields of the schedule's hash behind its back.
func (b bundle) set(t *testing.T, fields ...any) {
	t.Helper()
	if err := b.rdb.HSet(t.Context(), b.keys("a")[0], fields...).Err(); err != nil {
		t.Fatal(err)
	}
}

// due makes the schedule due at the last whole second.
func (b bundle) due(t *testing.T) time.Time { return b.dueAt(t, time.Second) }

// dueAt makes the schedule due at the last whole second, minute or hour.
func (b bundle) dueAt(t *testing.T, whole time.Duration) time.Time {
	t.Helper()
	now, err := b.rdb.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	tick := now.Truncate(whole).UTC()
	b.set(t, "next", tick.UnixMilli())
	return tick
}

func (b bundle) adopted(t *testing.T, s Schedule, onlyMissing, want bool) {
	t.Helper()
	if changed, err := b.adopt(t.Context(), s, "s.yaml on here", onlyMissing); err != nil || changed != want {
		t.Errorf("adopting: changed %t, %v; want %t", changed, err, want)
	}
}

func (b bundle) seen(t *testing.T, s Schedule, worker string) glance {
	t.Helper()
	g, err := b.look(t.Context(), s, worker, "s.yaml on here")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (b bundle) took(t *testing.T, s Schedule, worker string, saw, tick, following time.Time, want bool) {
	t.Helper()
	if took, err := b.take(t.Context(), s, worker, saw, tick, following); err != nil || (took == taken) != want {
		t.Errorf("%s takes %s, having seen %s: %d, %v; want %t", worker, tick, saw, took, err, want)
	}
}

func (b bundle) confirmed(t *testing.T, tick time.Time, task string, want bool) {
	t.Helper()
	if confirmed, err := b.confirm(t.Context(), "a", tick, task, nil); err != nil || confirmed != want {
		t.Errorf("confirming %s: %t, %v; want %t", tick, confirmed, err, want)
	}
}

func (b bundle) standing(t *testing.T) Standing {
	t.Helper()
	var standings []Standing
	err := Each(t.Context(), b.rdb, "test", func(s Standing) error {
		standings = append(standings, s)
		return nil
	})
	if err != nil || len(standings) != 1 {
		t.Fatalf("%+v, %v", standings, err)
	}
	return standings[0]
}

// one reads a file of the one schedule "a".
func one(t *testing.T, keys string) Schedule {
	t.Helper()
	schedules, err := parse([]byte("schedules: [{name: a, "+keys+"}]"), "s.yaml", ".")
	if err != nil {
		t.Fatal(err)
	}
	return schedules[0]
}

const yearly = "cron: '0 0 1 1 *', task: sync-list"

func TestATickIsTakenOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		s := one(t, yearly)
		b.adopted(t, s, false, true)
		b.adopted(t, s, false, false)
		tick := b.due(t)
		following := tick.Add(time.Hour)
		b.took(t, s, "early", tick, tick.Add(time.Minute), following, false) // not due
		b.took(t, s, "late", tick.Add(-time.Minute), tick, following, false) // not what is there
		var took atomic.Int32
		var workers sync.WaitGroup
		for i := range 20 {
			workers.Go(func() {
				became, err := b.take(t.Context(), s, fmt.Sprint(i), tick, tick, following)
				ok := became == taken
				if err != nil {
					t.Error(err)
				}
				if ok {
					took.Add(1)
				}
			})
		}
		workers.Wait()
		if took.Load() != 1 {
			t.Errorf("%d workers took it", took.Load())
		}
		if s := b.standing(t); !s.Pending || !s.Next.Equal(following) {
			t.Errorf("%+v", s)
		}
	})
}

func TestAPendingTickIsFinishedByAnotherWorker(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		s := one(t, yearly)
		b.adopted(t, s, false, true)
		tick := b.due(t)
		following := tick.Add(time.Hour)
		b.took(t, s, "first", tick, tick, following, true)
		if g := b.seen(t, s, "second"); !g.pending.IsZero() || !g.next.Equal(following) {
			t.Errorf("a tick that is in hand is given out: %+v", g)
		}
		if g := b.seen(t, s, "first"); !g.pending.Equal(tick) {
			t.Errorf("whoever has it cannot try again: %+v", g)
		}
		b.set(t, "held_until", tick.UnixMilli())
		if g := b.seen(t, s, "second"); !g.pending.Equal(tick) {
			t.Errorf("after the hold: %+v", g)
		}
		b.due(t) // and a hold does not stop the next tick
		if g := b.seen(t, s, "third"); !g.pending.Equal(tick) {
			t.Errorf("when the next is due: %+v", g)
		}
		b.took(t, s, "third", tick, tick, following, false) // not before the pending one is confirmed
	})
}

// TestALateWorkerDoesNoHarm: it was stopped with a tick in hand, and others went on.
func TestALateWorkerDoesNoHarm(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		s := one(t, yearly)
		b.adopted(t, s, false, true)
		second := b.due(t)
		first := second.Add(-time.Second)
		b.set(t, "next", first.UnixMilli())
		b.took(t, s, "late", first, first, second, true)
		if g := b.seen(t, s, "other"); !g.pending.Equal(first) {
			t.Fatalf("%+v", g)
		}
		b.confirmed(t, first, "x", true)
		b.took(t, s, "other", second, second, second.Add(time.Hour), true)
		b.confirmed(t, first, "y", false)
		b.took(t, s, "late", first, first, second, false)
		got := b.standing(t)
		if !got.Pending || !got.Last.Equal(first) || got.LastTask != "x" {
			t.Errorf("%+v", got)
		}
		b.confirmed(t, second, "z", true)
		if got := b.standing(t); got.Pending || !got.Last.Equal(second) || got.LastTask != "z" {
			t.Errorf("%+v", got)
		}
	})
}

func TestTheWorkerThatStartedLastRules(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		old, other, later := one(t, yearly), one(t, "cron: '0 0 1 1 *', task: invite, email_address: ada@example.com"),
			one(t, "cron: '0 0 2 1 *', task: sync-list")
		b.adopted(t, old, false, true)
		tick := b.due(t)
		b.adopted(t, other, false, true)
		if got := b.standing(t); !got.Next.Equal(tick) || got.Task != "invite" {
			t.Errorf("its times have not changed: %+v", got)
		}
		if !b.seen(t, old, "w").foreign {
			t.Error("the old schedule goes on")
		}
		b.took(t, old, "w", tick, tick, tick.Add(time.Hour), false)
		b.adopted(t, old, true, false)
		b.adopted(t, later, false, true)
		if got := b.standing(t); got.Next.Day() != 2 || got.Cron != "0 0 2 1 *" {
			t.Errorf("its times have changed: %+v", got)
		}
	})
}

func TestGarbageIsReplaced(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		s := one(t, yearly)
		if !b.seen(t, s, "w").missing {
			t.Error("there is something before anything was written")
		}
		b.adopted(t, s, true, true)
		for _, garbage := range []string{"soon", "", "-1", "1e300", "0", "999999999999999"} {
			b.set(t, "next", garbage, "pending", "x", "held_until", "y", "last", "z", "last_error",
				"\x1b[2J"+strings.Repeat("é", maxShown))
			if got := b.standing(t); strings.ContainsFunc(got.LastError, unicode.IsControl) ||
				len(got.LastError) > maxShown+1 || !got.Next.IsZero() || got.Pending || !got.Last.IsZero() {
				t.Errorf("%+v", got)
			}
			if g := b.seen(t, s, "w"); !g.missing {
				t.Errorf("next %q: %+v", garbage, g)
			}
			b.adopted(t, s, true, true)
			if g := b.seen(t, s, "w"); g.missing || g.foreign || !g.next.After(g.now) || !g.pending.IsZero() {
				t.Errorf("next %q: %+v", garbage, g)
			}
		}
	})
}

func TestAScheduleThatNoWorkerHasHasNoNextRun(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		s := one(t, yearly)
		b.adopted(t, s, false, true)
		names, now := b.keys("a")[1], time.Now()
		b.rdb.ZAdd(t.Context(), names,
			redis.Z{Score: float64(now.Add(-2 * policy.ScheduleLost).UnixMilli()), Member: "a"})
		if got := b.standing(t); !got.Next.IsZero() || got.Cron != "0 0 1 1 *" {
			t.Errorf("%+v", got)
		}
		if b.seen(t, s, "w"); b.standing(t).Next.IsZero() {
			t.Error("a worker has it again, and it is not shown")
		}
		b.rdb.ZAdd(t.Context(), names,
			redis.Z{Score: float64(now.Add(-stateKeep - time.Hour).UnixMilli()), Member: "forgotten"})
		b.rdb.ZAdd(t.Context(), names,
			redis.Z{Score: float64(now.Add(-2 * policy.ScheduleSeen).UnixMilli()), Member: "a"})
		b.seen(t, s, "w")
		if all, err := b.rdb.ZRange(t.Context(), names, 0, -1).Result(); err != nil || fmt.Sprint(all) != "[a]" {
			t.Errorf("%v, %v", all, err)
		}
		if keep := b.rdb.PTTL(t.Context(), b.keys("a")[0]).Val(); keep < stateKeep-time.Hour {
			t.Errorf("the state is kept for %s", keep)
		}
	})
}

// recorder enqueues nothing and remembers what it should have.
type recorder struct {
	errs    []error // what it answers, before it succeeds
	ids     []string
	invites []tasks.Recipient
	lists   []tasks.BulkRequest
}

func (r *recorder) enqueue(ctx context.Context, id string, opts []tasks.Option) (tasks.Task, error) {
	if err := ctx.Err(); err != nil {
		return tasks.Task{}, err
	}
	options, err := tasks.Resolve(opts...)
	if options.ID != "" {
		id = options.ID
	}
	r.ids = append(r.ids, id)
	if len(r.errs) > 0 {
		err, r.errs = r.errs[0], r.errs[1:]
	}
	return tasks.Task{ID: id}, err
}

func (r *recorder) Invite(ctx context.Context, recipient tasks.Recipient, opts ...tasks.Option) (tasks.Task, error) {
	r.invites = append(r.invites, recipient)
	return r.enqueue(ctx, "", opts)
}

func (r *recorder) BulkInvite(
	ctx context.Context, request tasks.BulkRequest, opts ...tasks.Option,
) (tasks.Task, error) {
	r.lists = append(r.lists, request)
	return r.enqueue(ctx, "bulk:"+request.Campaign+":1", opts)
}

func (r *recorder) SyncList(ctx context.Context, opts ...tasks.Option) (tasks.Task, error) {
	return r.enqueue(ctx, "", opts)
}

// keeper gives the keeper of a schedule that is due.
func (b bundle) keeper(t *testing.T, s Schedule, to Enqueuer) (*keeper, time.Time) {
	t.Helper()
	k := &keeper{Runner: NewRunner(b.rdb, "test", nil, to, zerolog.Nop()), schedule: s, log: zerolog.Nop()}
	if pause, err := k.step(t.Context()); err != nil || pause <= 0 {
		t.Fatalf("the first step: %s, %v", pause, err)
	}
	return k, b.dueAt(t, time.Minute)
}

func (k *keeper) mustStep(t *testing.T) {
	t.Helper()
	if _, err := k.step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// everyMinute leaves a slow machine time: a tick of every second may come amid a test.
const everyMinute = "cron: '* * * * *', "

// TestATickBeforeARestorationComesToNothing: it may have happened after the copy was made.
func TestATickBeforeARestorationComesToNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		var to recorder
		k, tick := b.keeper(t, one(t, everyMinute+"task: sync-list"), &to)
		if _, err := store.BeginRestoration(t.Context(), store.Open(b.rdb, "test")); err != nil {
			t.Fatal(err)
		}
		k.mustStep(t)
		got := b.standing(t)
		if len(to.ids) != 0 || !got.Last.Equal(tick) || !strings.Contains(got.LastError, "restored from a copy") {
			t.Errorf("%v was enqueued: %+v", to.ids, got)
		}
	})
}

func TestATickIsEnqueuedAndConfirmed(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		var to recorder
		s := one(t, everyMinute+"task: invite, email_address: ada@example.com, options: {no_notify: true}")
		k, tick := b.keeper(t, s, &to)
		k.mustStep(t)
		id := "schedule.a." + strconv.FormatInt(tick.Unix(), 10)
		if len(to.ids) != 1 || to.ids[0] != id || !to.invites[0].NoNotify {
			t.Errorf("%+v", to)
		}
		if got := b.standing(t); !got.Last.Equal(tick) || got.LastTask != id || got.LastError != "" || got.Pending ||
			!got.Next.Equal(tick.Add(time.Minute)) {
			t.Errorf("%+v", got)
		}
	})
}

func TestATickThatCannotBeEnqueuedNowIsTriedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		away := errors.New("Redis is away")
		to := recorder{errs: []error{away, away, tasks.ErrExists}}
		k, tick := b.keeper(t, one(t, yearly), &to)
		k.schedule.times = times(t, "* * * * *", "UTC")
		for range 2 {
			if _, err := k.step(t.Context()); !errors.Is(err, away) {
				t.Errorf("%v", err)
			}
		}
		k.mustStep(t)
		if got := b.standing(t); len(to.ids) != 3 || to.ids[0] != to.ids[2] || got.LastTask != to.ids[0] ||
			!got.Last.Equal(tick) || got.Pending {
			t.Errorf("%+v, %+v", to, got)
		}
	})
}

func TestATickThatCanNeverBeEnqueuedIsOver(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		for _, err := range []error{tasks.ErrConflict,
			&tasks.InvalidError{Index: -1, Field: "campaign", Reason: "is cancelled"}} {
			k, tick := b.keeper(t, one(t, everyMinute+"task: sync-list"), &recorder{errs: []error{err}})
			k.mustStep(t)
			if got := b.standing(t); !got.Last.Equal(tick) || got.LastError == "" || got.Pending {
				t.Errorf("%v: %+v", err, got)
			}
		}
	})
}

func TestAnOldPendingTickIsGivenUp(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		var to recorder
		k, tick := b.keeper(t, one(t, yearly), &to)
		old := tick.Add(-policy.MissedTick - time.Minute)
		b.set(t, "next", tick.Add(time.Hour).UnixMilli(), "pending", old.UnixMilli())
		k.mustStep(t)
		if got := b.standing(t); len(to.ids) != 0 || !got.Last.Equal(old) || got.LastError == "" || got.Pending {
			t.Errorf("%+v, %+v", to, got)
		}
	})
}

// TestAWorkerThatWasStoppedEnqueuesNothingLate: its hold on the tick has ended, and somebody else has it.
func TestAWorkerThatWasStoppedEnqueuesNothingLate(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		var to recorder
		k, tick := b.keeper(t, one(t, yearly), &to)
		at := b.seen(t, k.schedule, k.worker)
		at.asked = at.asked.Add(-policy.TickHold)
		if err := k.finish(t.Context(), at, tick); !errors.Is(err, context.DeadlineExceeded) || len(to.ids) != 0 {
			t.Errorf("%v, %v", err, to.ids)
		}
	})
}

func TestMissedTicksHappenOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		var to recorder
		k, now := b.keeper(t, one(t, "cron: '*/5 * * * *', task: sync-list"), &to)
		b.set(t, "next", now.Add(-40*time.Minute).Truncate(5*time.Minute).UnixMilli())
		for range 3 {
			k.mustStep(t)
		}
		last := now.Truncate(5 * time.Minute)
		if len(to.ids) != 1 || to.ids[0] != "schedule.a."+strconv.FormatInt(last.Unix(), 10) {
			t.Errorf("%+v, want the tick of %s", to, last)
		}
		k.schedule.times = times(t, "0 0 1 1 *", "UTC") // whose last one is months ago
		b.set(t, "next", now.Add(-30*24*time.Hour).UnixMilli())
		for range 3 {
			k.mustStep(t)
		}
		if got := b.standing(t); len(to.ids) != 1 || !got.Next.After(now) || got.Pending {
			t.Errorf("%+v, %+v", to, got)
		}
	})
}

func TestAListIsReadAtEveryTick(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		file := filepath.Join(t.TempDir(), "people.csv")
		write := func(content string) {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("email\nada@example.com\n")
		var to recorder
		k, _ := b.keeper(t, one(t,
			everyMinute+"task: bulk-invite, campaign: c, options: {no_notify: true}, file: "+file), &to)
		k.mustStep(t)
		for content, fault := range map[string]bool{"email\nada@example.com\nbob@example.com\n": false,
			"email\nx\n": true, "": true} {
			write(content)
			b.dueAt(t, time.Minute)
			k.mustStep(t)
			if got := b.standing(t); (got.LastError != "") != fault ||
				(got.LastTask == "bulk:c:1") == fault || got.Pending {
				t.Errorf("%q: %+v", content, got)
			}
		}
		if len(to.lists) != 2 || len(to.lists[0].Recipients) != 1 || len(to.lists[1].Recipients) != 2 ||
			!to.lists[1].Recipients[1].NoNotify {
			t.Errorf("%+v", to.lists)
		}
	})
}

// TestNoTickHappensWhileItIsPaused: nor one that was due then, when nobody looked.
func TestNoTickHappensWhileItIsPaused(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		var to recorder
		k, tick := b.keeper(t, one(t, everyMinute+"task: sync-list"), &to)
		control := NewControl(b.rdb, "test")
		if s, err := control.Pause(t.Context(), "a"); err != nil || s.State != Paused {
			t.Fatalf("%+v, %v", s, err)
		}
		k.mustStep(t)
		if got := b.standing(t); len(to.ids) != 0 || !got.Next.After(tick) || got.Pending || got.State != Paused {
			t.Errorf("while it is paused: %v, %+v", to.ids, got)
		}
		b.set(t, "next", tick.UnixMilli()) // nobody looks
		if s, err := control.Resume(t.Context(), "a"); err != nil || s.State != Active {
			t.Fatalf("%+v, %v", s, err)
		}
		k.mustStep(t)
		if got := b.standing(t); len(to.ids) != 0 || got.Pending {
			t.Errorf("of the time when it was paused: %v, %+v", to.ids, got)
		}
		b.set(t, "resumed", tick.Add(-time.Minute).UnixMilli(), "next", tick.UnixMilli())
		k.mustStep(t)
		if len(to.ids) != 1 {
			t.Errorf("after that: %v", to.ids)
		}
	})
}

// hanging lets no look at a schedule end before its context does.
type hanging struct{ looks atomic.Int32 }

func (*hanging) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*hanging) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *hanging) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); len(args) > 6 && args[6] == "look" {
			h.looks.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}
		return next(ctx, cmd)
	}
}

// TestARunThatTakesLongIsNoFaultOfRedis: the wait may end amid a look.
func TestARunThatTakesLongIsNoFaultOfRedis(t *testing.T) {
	t.Parallel()
	b := bundle{rdb: testkit.MiniRedis(t)}
	b.states = newStates(b.rdb, "test")
	b.adopted(t, one(t, everyMinute+"task: sync-list"), false, true)
	h := &hanging{}
	b.rdb.AddHook(h)
	asked := false
	_, _, err := (&Control{b.states, 2 * runPoll}).Run(t.Context(), "a", func() { asked = true })
	if !errors.Is(err, ErrNotYet) || !asked || h.looks.Load() == 0 {
		t.Errorf("%v, asked: %t, %d looks", err, asked, h.looks.Load())
	}
}
