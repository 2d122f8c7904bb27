package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

// broken is a campaign whose Redis refuses one command in every second step, and takes it when the step is repeated.
type broken struct {
	bundle
	t       *testing.T
	admin   *redis.Client
	command string
	repeats bool // each settlement that was refused; else every second worker dies

	dice      *rand.Rand
	refused   int
	deaths    int
	cancelled bool
	created   map[store.AddressID]int // invitations
	tried     map[store.AddressID]bool
}

// startBroken starts one on a server of its own.
func startBroken(t *testing.T, command string, repeats bool) *broken {
	t.Helper()
	server := testkit.RunRedis(t)
	b := &broken{
		t: t, admin: testkit.Client(t, server.Addr), command: command, repeats: repeats,
		dice: rand.New(rand.NewPCG(1, 2)), created: map[store.AddressID]int{}, tried: map[store.AddressID]bool{},
	}
	testkit.NoError(t, b.admin.Do(t.Context(), "ACL", "SETUSER", "usher", "on", ">p", "~*", "&*", "+@all").Err())
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "usher", Password: "p"})
	t.Cleanup(func() { _ = rdb.Close() })
	b.bundle = bundle{ledger.New(rdb, "test"), rdb}
	return b
}

// without does something, every second time while the command is refused, and gives what came of it.
func (b *broken) without(do func() error) error {
	b.t.Helper()
	if b.dice.IntN(2) == 0 {
		return do()
	}
	may := func(sign string) {
		testkit.NoError(b.t, b.admin.Do(b.t.Context(), "ACL", "SETUSER", "usher", sign+b.command).Err())
	}
	may("-")
	err := do()
	may("+")
	if err != nil {
		b.refused++
	}
	return err
}

// twice does something while the command is refused, and again if that has failed.
func (b *broken) twice(do func() error) {
	b.t.Helper()
	if b.without(do) != nil {
		testkit.NoError(b.t, do())
	}
}

// upload uploads recipients.
func (b *broken) upload(people []ledger.Recipient) {
	b.t.Helper()
	ctx, stage := b.t.Context(), b.Stage()
	testkit.NoError(b.t, stage.Add(ctx, people))
	testkit.NoError(b.t, stage.Enter(ctx, "c", time.Time{}))
	b.twice(func() error {
		_, err := b.Move(ctx, "c")
		return err
	})
}

// outcomeOf is what becomes of a recipient in a call: every fourth is sent, dead, sent after a second try, or its
// answer is lost.
func (b *broken) outcomeOf(row ledger.Row) ledger.Outcome {
	again := b.tried[row.ID]
	b.tried[row.ID] = true
	kind := row.Place % 4
	switch {
	case kind == 1:
		return deadOf(row, "odd")
	case kind == 2 && !again:
		decision := fate.Decision{State: row.State, Next: fate.Send, Intent: fate.IntentReleased, In: time.Millisecond}
		return ledger.Outcome{Row: row, Decision: decision, At: time.Now()}
	}
	b.created[row.ID]++
	if kind == 3 && !again {
		decision := fate.Decision{State: row.State, Next: fate.Ask, Intent: fate.IntentUnknown}
		return ledger.Outcome{Row: row, Decision: decision, At: time.Now()}
	}
	return sentAs(row, fate.IntentMade, fmt.Sprintf("inv_%x", row.ID), time.Now())
}

// answer is what Clerk says of an unsure recipient.
func (b *broken) answer(row ledger.Row) ledger.Outcome {
	decision := fate.Decision{State: row.State, Next: fate.Send, Intent: fate.IntentAbsent}
	switch {
	case b.created[row.ID] > 0:
		return sentAs(row, fate.IntentFound, fmt.Sprintf("inv_%x", row.ID), time.Now())
	case !row.Intent.Open:
		decision.Intent = fate.IntentUnchanged
	case b.cancelled:
		decision.Next, decision.Intent = fate.Skipped, fate.IntentRefused
		decision.Cause = &fate.Failure{Code: "cancelled"}
	}
	return ledger.Outcome{Row: row, Decision: decision, At: time.Now()}
}

// round takes, calls and settles once.
func (b *broken) round() {
	b.t.Helper()
	ctx := b.t.Context()
	const hold = 100 * time.Millisecond
	for _, step := range []struct {
		take func() (ledger.Batch, error)
		then func(ledger.Row) ledger.Outcome
	}{
		{func() (ledger.Batch, error) { return b.TakeToAsk(ctx, "c", 5, hold, ledger.Unsure) }, b.answer},
		{func() (ledger.Batch, error) {
			return b.TakeForCall(ctx, "c", 5, hold, 0, ledger.Waiting, ledger.Ready, ledger.Singles)
		}, b.outcomeOf},
	} {
		var batch ledger.Batch
		if b.without(func() (err error) { batch, err = step.take(); return err }) != nil {
			var err error
			batch, err = step.take()
			testkit.NoError(b.t, err)
		}
		var outcomes []ledger.Outcome
		for _, row := range batch.Rows {
			outcomes = append(outcomes, step.then(row))
		}
		settle := func() error {
			_, err := b.Settle(ctx, "c", outcomes)
			return err
		}
		if b.without(settle) == nil {
			continue
		}
		if b.deaths++; b.repeats || b.deaths%2 == 0 {
			testkit.NoError(b.t, settle())
		}
	}
}

// finish goes on until the campaign is over.
func (b *broken) finish() {
	b.t.Helper()
	generation := b.head(b.t).Generation
	testkit.Eventually(b.t, "the campaign is over", func() bool {
		b.round()
		var p ledger.Progress
		b.twice(func() (err error) {
			p, err = b.Advance(b.t.Context(), "c", generation)
			return err
		})
		return p.State == ledger.Finished || p.State == ledger.Cancelled && p.Open+p.Unsure+p.Later == 0
	})
}

// check wants the sums to add up, each recipient to have one end, and no intent to be in anybody's way.
func (b *broken) check(recipients int) {
	b.t.Helper()
	c, states := b.head(b.t), map[ledger.RowState]int{}
	testkit.NoError(b.t, b.Each(b.t.Context(), "c", func(e ledger.Entry) error {
		states[e.State]++
		if n := b.created[e.ID]; n > 1 || (n == 1) != (e.State == ledger.RowSent) {
			b.t.Errorf("recipient %d, which is %s, has %d invitations", e.Place, e.State, n)
		}
		return nil
	}))
	if c.Recipients != recipients || c.Sent != states[ledger.RowSent] || c.Dead != states[ledger.RowDead] ||
		c.DeadByCode["odd"] != c.Dead || c.Skipped != states[ledger.RowSkipped] ||
		!b.cancelled && c.Remaining() != 0 {
		b.t.Errorf("%+v, but they are %v", c, states)
	}
	if n, err := deadletter.NewStore(b.admin, "test").Count(b.t.Context()); n != c.Dead || err != nil {
		b.t.Errorf("%d dead letters, %v; want %d", n, err, c.Dead)
	}
	for _, key := range b.admin.Keys(b.t.Context(), store.Keys("test").Intents("*")).Val() {
		stands := b.admin.HGet(b.t.Context(), key, intent.CampaignOwner("c")).Val()
		if stands != "" && strings.Contains("cuak", stands[:1]) {
			b.t.Errorf("an intent stands in the way: %s", stands)
		}
	}
}

// writing are the commands with which scripts of campaigns write.
var writing = []string{
	"rpush", "hset", "hdel", "hincrby", "zadd", "zrem", "lpush", "lpop", "sadd", "srem", "unlink", "expire", "pexpire",
}

// TestARightThatGoesLosesNobody: Redis refuses a command in the middle of scripts. Each recipient has one end in the
// end, whether the worker repeats what was refused or dies.
func TestARightThatGoesLosesNobody(t *testing.T) {
	t.Parallel()
	commands, repeats := writing[:6], []bool{false}
	if testkit.Long {
		commands, repeats = writing, []bool{true, false}
	}
	for _, command := range commands {
		for _, repeats := range repeats {
			t.Run(fmt.Sprintf("%s, repeated: %t", command, repeats), func(t *testing.T) {
				t.Parallel()
				b := startBroken(t, command, repeats)
				b.upload(people(0, 20))
				b.finish()
				b.check(20)
				b.upload(people(0, 24))
				b.finish()
				b.check(24)
				b.revive()
				b.finish()
				b.check(24)
				b.upload(people(24, 40))
				b.round()
				b.cancelled = true
				b.twice(func() error {
					_, err := b.Cancel(t.Context(), "c")
					return err
				})
				b.finish()
				b.check(40)
				if b.refused == 0 {
					t.Error("it was never refused: no script of a campaign writes with it")
				}
			})
		}
	}
}

// revive retries a dead letter.
func (b *broken) revive() {
	b.t.Helper()
	ctx, letters := b.t.Context(), deadletter.NewStore(b.admin, "test")
	one := errors.New("one is enough")
	err := b.Each(ctx, "c", func(e ledger.Entry) error {
		if e.State != ledger.RowDead {
			return nil
		}
		b.twice(func() error {
			_, err := b.ReviveOne(ctx, "c", e.ID, ledger.Revival{List: ledger.Singles, ID: e.ID})
			return err
		})
		letter, err := letters.OfRecipient(ctx, "c", e.ID)
		testkit.NoError(b.t, err)
		_, err = letters.Delete(ctx, letter.ID, deadletter.Deleted)
		testkit.NoError(b.t, err)
		return one
	})
	if !errors.Is(err, one) {
		b.t.Fatalf("nobody is dead: %v", err)
	}
}

// TestAChangeThatBreaksOffSaysWhatItHasDone: a right goes after its first step.
func TestAChangeThatBreaksOffSaysWhatItHasDone(t *testing.T) {
	t.Parallel()
	for refused, test := range map[string]struct {
		do   func(*broken) (ledger.Campaign, error)
		says string
	}{
		"srem": {func(b *broken) (ledger.Campaign, error) { return b.Cancel(t.Context(), "c") },
			"c is cancelled, and workers drop its recipients: "},
		"hgetall": {func(b *broken) (ledger.Campaign, error) { return b.Pause(t.Context(), "c") },
			"c is paused now, but how it stands cannot be read: "},
	} {
		t.Run(refused, func(t *testing.T) {
			t.Parallel()
			b := startBroken(t, refused, false)
			b.upload(people(0, 3))
			testkit.NoError(t, b.admin.Do(t.Context(), "ACL", "SETUSER", "usher", "-"+refused).Err())
			if _, err := test.do(b); err == nil || !strings.HasPrefix(err.Error(), test.says) || !store.NoRight(err) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}
