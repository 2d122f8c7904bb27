package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
)

const (
	uploaded = 634 // three chunks
	// steps is how many an upload of them takes: each chunk is staged and moved, and between the two it is entered.
	steps = 3 + 1 + 3
)

// producer makes an upload step by step, and may be killed after each.
type producer struct {
	bundle
	name  string
	start time.Time
	list  []ledger.Recipient
	stage *ledger.Stage
	known ledger.Step
	done  int
	alone bool // nobody else has staged anything
}

func (b bundle) produce(name string) *producer {
	return &producer{bundle: b, name: name, list: people(0, uploaded), stage: b.Stage()}
}

func (p *producer) step(t *testing.T) {
	t.Helper()
	var err error
	switch at := p.done * 250; {
	case at < len(p.list):
		err = p.stage.Add(t.Context(), p.list[at:min(at+250, len(p.list))])
	case p.done == 3:
		if err = p.stage.Enter(t.Context(), p.name, p.start); err == nil {
			for _, key := range p.rdb.Keys(t.Context(), "*:stage:*").Val() {
				if ttl := p.rdb.TTL(t.Context(), key).Val(); ttl > 0 && p.alone {
					t.Errorf("%s expires after %s", key, ttl)
				}
			}
			p.known, err = p.MoveOnce(t.Context(), p.name, p.known)
		}
	default:
		p.known, err = p.MoveOnce(t.Context(), p.name, p.known)
	}
	if p.done++; err != nil {
		t.Fatalf("step %d: %v", p.done, err)
	}
}

// has checks that a campaign has so many recipients, each once, and that nothing of its uploads is left but what
// expires.
func (b bundle) has(t *testing.T, name string, n int) {
	t.Helper()
	ctx, key := t.Context(), "test:{once}:c:"+name+":"
	c, err := b.Get(ctx, name)
	if err != nil || c.Recipients != n || c.Uploads != 0 {
		t.Errorf("%s: %+v, %v; want %d recipients", name, c, err, n)
	}
	ids := b.rdb.LRange(ctx, key+"waiting", 0, -1).Val()
	seen := map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	if rows := b.rdb.HLen(ctx, key+"rows").Val(); len(ids) != len(seen) ||
		c.State != ledger.Cancelled && (len(ids) != n || int(rows) != n) {
		t.Errorf("%s: %d rows, %d wait, %d different ones; want %d", name, rows, len(ids), len(seen), n)
	}
	if after := b.rdb.HMGet(ctx, key+"meta", "after", "uploads").Val(); after[0] != nil || after[1] != nil &&
		after[1] != "" {
		t.Errorf("%s: %v", name, after)
	}
	left := append(b.rdb.Keys(ctx, "*:stage:*").Val(), b.rdb.Keys(ctx, "*:u:*").Val()...)
	for _, key := range left {
		if b.rdb.TTL(ctx, key).Val() <= 0 {
			t.Errorf("%s stays", key)
		}
	}
}

// TestAnUploadIsMadeOnceWhereverItsProducerIsKilled kills the producer after each of its steps. Something happens;
// then a worker finishes what was begun, and the producer's command is repeated.
func TestAnUploadIsMadeOnceWhereverItsProducerIsKilled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	between := map[string]func(t *testing.T, name string){
		"nothing": func(*testing.T, string) {},
		"paused and resumed": func(t *testing.T, name string) {
			held, err := b.Pause(t.Context(), name)
			if errors.Is(err, ledger.ErrNotFound) {
				return
			}
			if now, err := b.Move(t.Context(), name); err != nil || now.State != ledger.Paused ||
				now.Recipients != held.Recipients || now.Uploads != held.Uploads {
				t.Errorf("paused as %+v, it moved: %+v, %v", held, now, err)
			}
			if _, err := b.Resume(t.Context(), name); err != nil {
				t.Error(err)
			}
		},
		"the same uploaded": func(t *testing.T, name string) { b.add(t, name, people(0, uploaded)) },
		"half of it and more uploaded": func(t *testing.T, name string) {
			b.add(t, name, people(uploaded/2, uploaded+10))
		},
	}
	for what, happens := range between {
		for killed := range steps + 1 {
			name := fmt.Sprintf("%s.%d", strings.ReplaceAll(what, " ", "_"), killed)
			t.Run(name, func(t *testing.T) {
				p := b.produce(name)
				for range killed {
					p.step(t)
				}
				happens(t, name)
				worker := ledger.New(b.rdb, "test")
				if killed > 3 {
					if c, err := worker.Move(t.Context(), name); err != nil || c.State != ledger.Running ||
						c.Generation != 1 || c.Recipients < uploaded {
						t.Errorf("the worker left %+v, %v", c, err)
					}
				}
				again := b.add(t, name, people(0, uploaded))
				if again.Added+again.Known != uploaded || again.Campaign.State != ledger.Running ||
					killed > 3 && again.Known != uploaded {
					t.Errorf("%+v", again)
				}
				n := uploaded
				if what == "half of it and more uploaded" {
					n += 10
				}
				b.has(t, name, n)
				for p.done < steps { // it was only stopped, and goes on
					p.step(t)
				}
				b.has(t, name, n)
				if got, err := p.stage.Arrive(t.Context(), name); err != nil || got.Added+got.Known != uploaded {
					t.Errorf("it is told %+v, %v", got, err)
				}
			})
		}
	}
}

// TestAnUploadThatIsCancelled drops what has not moved, and tells the producer.
func TestAnUploadThatIsCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for killed := 4; killed <= steps; killed++ {
		name := fmt.Sprint("c", killed)
		p := b.produce(name)
		for range killed {
			p.step(t)
		}
		moved := min(uploaded, (killed-4)*250)
		c, err := b.Cancel(t.Context(), name)
		if err != nil || c.State != ledger.Cancelled || c.Recipients != moved || c.Uploads != 0 {
			t.Errorf("after step %d: %+v, %v", killed, c, err)
		}
		for p.done < steps {
			p.step(t)
		}
		if _, err := p.stage.Arrive(t.Context(), name); killed < steps && !errors.Is(err, ledger.ErrCancelled) {
			t.Errorf("after step %d: %v", killed, err)
		}
		if c, err := b.Move(t.Context(), name); err != nil || c.Recipients != moved {
			t.Errorf("after step %d: %+v, %v", killed, c, err)
		}
		b.has(t, name, moved)
	}
	if keys := b.rdb.Keys(t.Context(), "*:stage:*").Val(); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}
	if names, err := b.Moving(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestAnUploadForgetsWhoIsForgotten at each step: the address is in no stage and no row.
func TestAnUploadForgetsWhoIsForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stones := store.NewTombstones(b.rdb, "test")
	for killed := range steps + 1 {
		name, address := fmt.Sprint("c", killed), people(killed*80, killed*80+1)[0].Folded
		p := b.produce(name)
		for range killed {
			p.step(t)
		}
		if _, err := stones.Set(t.Context(), store.IDOf(address)); err != nil {
			t.Fatal(err)
		}
		_, err1 := b.EraseStaged(t.Context(), store.IDOf(address))
		_, err2 := b.Erase(t.Context(), store.IDOf(address))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		holds := func() bool {
			for _, key := range b.rdb.Keys(t.Context(), "*:stage:*").Val() {
				if strings.Contains(strings.Join(b.rdb.LRange(t.Context(), key, 0, -1).Val(), "\n"), `"`+address+`"`) {
					return true
				}
			}
			return strings.Contains(strings.Join(b.rdb.HVals(t.Context(), "test:{once}:c:"+name+":rows").Val(), "\n"),
				`"`+address+`"`)
		}
		if holds() {
			t.Errorf("after step %d something holds the address", killed)
		}
		for p.done < steps {
			if p.step(t); holds() {
				t.Errorf("killed after %d: after step %d something holds the address again", killed, p.done)
			}
		}
		c, err := b.Move(t.Context(), name)
		if err != nil || c.Recipients != uploaded-killed-1 || c.Uploads != 0 {
			t.Errorf("after step %d: %+v, %v", killed, c, err)
		}
	}
}

// TestWhatACampaignIsAfterAnUpload: an upload leaves a campaign as it was, but for one that is new or had finished.
func TestWhatACampaignIsAfterAnUpload(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	soon := time.Now().Add(time.Hour)
	finish := func(name string) {
		b.add(t, name, people(0, 1))
		b.rdb.HSet(ctx, "test:{once}:c:"+name+":meta", "state", "finished", "finished_at", 1)
	}
	for name, c := range map[string]struct {
		before     func(name string)
		start      time.Time
		meanwhile  func(name string) (ledger.Campaign, error)
		state      ledger.State
		generation int
	}{
		"new":           {state: ledger.Running, generation: 1},
		"new, later":    {start: soon, state: ledger.Scheduled, generation: 1},
		"new, too late": {start: time.Now().Add(time.Millisecond), state: ledger.Running, generation: 1},
		"running": {before: func(n string) { b.add(t, n, people(0, 5)) }, state: ledger.Running,
			generation: 1},
		"paused": {before: func(n string) { b.add(t, n, people(0, 5)); _, _ = b.Pause(ctx, n) },
			state: ledger.Paused, generation: 1},
		"paused, resumed meanwhile": {before: func(n string) { b.add(t, n, people(0, 5)); _, _ = b.Pause(ctx, n) },
			meanwhile: func(n string) (ledger.Campaign, error) { return b.Resume(ctx, n) }, state: ledger.Running,
			generation: 1},
		"scheduled": {before: func(n string) { _, _ = b.Add(ctx, n, soon, people(0, 5)) },
			state: ledger.Scheduled, generation: 1},
		"scheduled, paused meanwhile": {before: func(n string) { _, _ = b.Add(ctx, n, soon, people(0, 5)) },
			meanwhile: func(n string) (ledger.Campaign, error) {
				_, err1 := b.Pause(ctx, n)
				c, err2 := b.Resume(ctx, n)
				return c, errors.Join(err1, err2)
			},
			state: ledger.Scheduled, generation: 1},
		"finished":        {before: finish, state: ledger.Running, generation: 2},
		"finished, later": {before: finish, start: soon, state: ledger.Scheduled, generation: 2},
	} {
		name = strings.NewReplacer(",", "", " ", "_").Replace(name)
		if c.before != nil {
			c.before(name)
		}
		p := b.produce(name)
		p.start, p.alone = c.start, true
		for range steps {
			if p.step(t); p.done == 5 {
				if head, err := b.Get(ctx, name); err != nil || head.State != ledger.Uploading || head.Uploads != 1 {
					t.Errorf("%s: %+v, %v", name, head, err)
				}
				if batch, err := b.TakeForCall(ctx, name, 1, time.Minute, 0, ledger.Waiting); err != nil ||
					len(batch.Rows) != 0 {
					t.Errorf("%s: a call is made: %+v, %v", name, batch, err)
				}
				if progress, err := b.Advance(ctx, name, 1); err != nil || progress.State != ledger.Uploading {
					t.Errorf("%s: %+v, %v", name, progress, err)
				}
				if c.meanwhile != nil {
					if _, err := c.meanwhile(name); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
		head, err := b.Move(ctx, name)
		if err != nil || head.State != c.state || head.Generation != c.generation ||
			c.state == ledger.Scheduled && head.ScheduledAt.UnixMilli() != soon.UnixMilli() {
			t.Errorf("%s: %+v, %v, want %s, generation %d", name, head, err, c.state, c.generation)
		}
		if c.state == ledger.Running && !head.FinishedAt.IsZero() {
			t.Errorf("%s: finished at %s", name, head.FinishedAt)
		}
		b.has(t, name, uploaded)
		if again := b.add(t, name, people(0, 1)); again.Campaign.State != c.state || again.Known != 1 {
			t.Errorf("%s: nothing new makes it %+v", name, again)
		}
	}
	finish("nothing new")
	if u := b.add(t, "nothing new", people(0, 1)); u.Campaign.State != ledger.Finished || u.Campaign.Generation != 1 ||
		u.Campaign.FinishedAt.IsZero() {
		t.Errorf("%+v", u)
	}
}

// TestALateUploadChangesNothing: a command of a producer that has given up, or has gone on, may arrive late.
func TestALateUploadChangesNothing(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	given := b.produce("given-up")
	given.step(t)
	given.stage.Discard(ctx)
	given.step(t)
	if err := given.stage.Enter(ctx, "given-up", time.Time{}); err == nil {
		t.Error("a stage that was given up is entered")
	}
	if keys := b.rdb.Keys(ctx, "*:stage:*").Val(); len(keys) != 0 {
		t.Errorf("a stage that was given up comes back: %v", keys)
	}
	p := b.produce("c")
	for range 5 {
		p.step(t)
	}
	late := *p
	late.stage = new(ledger.Stage)
	*late.stage, late.done = *p.stage, 3
	late.stage.Discard(ctx) // it is entered: this comes too late
	late.step(t)            // entering it
	late.step(t)            // a chunk that has moved
	late.stage.Discard(ctx)
	for p.done < steps {
		p.step(t)
	}
	late.step(t)
	b.has(t, "c", uploaded)
}

// TestWhatAnEarlierVersionDoesMeanwhile: it pauses a campaign that takes in an upload, resumes and even finishes it.
func TestWhatAnEarlierVersionDoesMeanwhile(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	for name, state := range map[string]string{"resumes": "running", "finishes": "finished", "begins": "scheduled"} {
		p := b.produce(name)
		for range 5 {
			p.step(t)
		}
		b.rdb.HSet(ctx, "test:{once}:c:"+name+":meta", "state", state)
		if progress, err := b.Advance(ctx, name, 1); err != nil || string(progress.State) != state {
			t.Errorf("%+v, %v", progress, err)
		}
		c, err := b.Move(ctx, name)
		if err != nil || c.State != ledger.Running {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		b.has(t, name, uploaded)
	}
}

// TestWhoIsForgottenAndComesBackIsSentOnce: the lists still name who was forgotten.
func TestWhoIsForgottenAndComesBackIsSentOnce(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.add(t, "c", people(0, 3))
	id, stones := store.IDOf(people(1, 2)[0].Folded), store.NewTombstones(b.rdb, "test")
	_, err1 := stones.Set(ctx, id)
	_, err2 := b.Erase(ctx, id)
	_, err3 := stones.Lift(ctx, id)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if upload := b.add(t, "c", people(0, 3)); upload.Added != 1 || upload.Known != 2 {
		t.Errorf("%+v", upload)
	}
	batch := b.take(t, 10, ledger.Waiting, time.Minute)
	if n := b.settle(t, sent(batch)...); n != 3 || len(batch.Rows) != 3 {
		t.Errorf("%d of %d", n, len(batch.Rows))
	}
	if p := b.progress(t); p.State != ledger.Finished {
		t.Errorf("%+v", p)
	}
}

// TestASliceIsSmall: no script goes through a whole campaign, whatever the state of its recipients.
func TestASliceIsSmall(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	const all, most = 1500, 600 // each script runs twice
	b.add(t, "c", people(0, all))
	b.rdb.Set(ctx, "test:{once}:lost", time.Now().Add(time.Minute).UnixMilli(), 0)
	if batch := b.take(t, 10, ledger.Waiting, time.Minute); len(batch.Rows) != 0 {
		t.Errorf("%d are called that have to be asked about", len(batch.Rows))
	}
	if p := b.progress(t); p.Unsure == 0 || p.Unsure > most || p.Waiting != all-p.Unsure {
		t.Errorf("%+v", p)
	}
	b.rdb.Del(ctx, "test:{once}:lost")
	var later []redis.Z
	for _, id := range b.rdb.LRange(ctx, "test:{once}:c:c:waiting", 0, -1).Val() {
		later = append(later, redis.Z{Score: 1, Member: id})
	}
	b.rdb.Del(ctx, "test:{once}:c:c:waiting")
	b.rdb.ZAdd(ctx, "test:{once}:c:c:later", later...)
	if p := b.progress(t); p.Waiting == 0 || p.Waiting > most || p.Waiting+p.Later != len(later) {
		t.Errorf("%+v", p)
	}
	for i := range later {
		later[i].Score = 1e15
	}
	b.rdb.ZAdd(ctx, "test:{once}:c:c:later", later...)
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "state", "cancelled") // by one that was killed then
	if p := b.progress(t); p.Later == 0 || p.NextDue != 0 {
		t.Errorf("%+v", p)
	}
	if c, err := b.Cancel(ctx, "c"); err != nil || c.State != ledger.Cancelled {
		t.Errorf("%+v, %v", c, err)
	}
	if p := b.progress(t); p.Later != 0 || p.Waiting != 0 || p.Unsure == 0 {
		t.Errorf("%+v", p)
	}
}

// TestAnUploadWhoseRecipientsEndInAnErrorAddsNobody, and what was staged of it is gone.
func TestAnUploadWhoseRecipientsEndInAnErrorAddsNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broken := errors.New("broken")
	_, err := b.AddSome(t.Context(), "c", time.Time{}, func(yield func([]ledger.Recipient, error) bool) {
		if yield(people(0, ledger.RoundTrip), nil) {
			yield(nil, broken)
		}
	})
	if !errors.Is(err, broken) || errors.Is(err, ledger.ErrUnsure) {
		t.Errorf("%v", err)
	}
	if _, err := b.Get(t.Context(), "c"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("the campaign: %v", err)
	}
	for _, key := range b.rdb.Keys(t.Context(), "*").Val() {
		if strings.Contains(key, ":stage:") {
			t.Errorf("%q stays", key)
		}
	}
}
