package retry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// Wish is a dead letter, as it was read, that is to be put back to work.
type Wish struct {
	Letter deadletter.Entry
	// As is the request that is sent instead, whose recipient is checked; nil: the letter's.
	As *tasks.Recipient
	// Alone makes an invite of its own of a recipient of a campaign that is to be deleted, which takes its intent over.
	Alone bool
}

// Done is what became of a wish.
type Done struct {
	Carrier string // the task that carries the letter: one of its own, or that of the recipient's campaign
	// Err is deadletter.ErrNotFound if the letter is gone, or somebody else has retried it meanwhile,
	// deadletter.ErrChanged if it is another one by now, and deadletter.ErrBegun if a retry with another request was
	// begun and broken off.
	Err error
}

// attempt is the retry of one letter on its way.
type attempt struct {
	Wish  // whose Letter has the id of the next task and the mended payload that count, once the retry has begun
	sent  request
	task  *asynq.Task // that is enqueued in the queue, under the next id
	queue string
	Done
}

// RetryEach puts dead letters back to work and tells what became of each. It fixes the next ids, enqueues, and deletes
// the letters, in this order, so that repeating one that was broken off finishes it. Each step is taken for all of them
// in a few round trips, and none is taken for a letter whose step before has failed. Retries that have begun are
// finished, even if the context ends. There may be a hundred.
func (r *Retrier) RetryEach(ctx context.Context, wishes []Wish) []Done {
	tries := make([]*attempt, len(wishes))
	for i, wish := range wishes {
		tries[i] = &attempt{Wish: wish, Done: Done{Err: ctx.Err()}}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTime)
	defer cancel()
	steps := []func(context.Context, []*attempt){r.begin, r.repeat, r.invite, r.revive, r.note, r.remove}
	for _, step := range steps {
		step(ctx, standing(tries, nil))
	}
	done := make([]Done, len(tries))
	for i, t := range tries {
		if done[i] = t.Done; t.Err != nil {
			done[i] = Done{Err: fmt.Errorf("retrying dead letter %s: %w", t.Letter.ID, t.Err)}
		}
	}
	return done
}

// standing gives those that nothing has gone wrong with, of one kind or of all.
func standing(tries []*attempt, kind func(*attempt) bool) (some []*attempt) {
	for _, t := range tries {
		if t.Err == nil && (kind == nil || kind(t)) {
			some = append(some, t)
		}
	}
	return some
}

// fail notes what has gone wrong with each.
func fail(tries []*attempt, errs []error) {
	for i, err := range errs {
		if err != nil {
			tries[i].Err = err
		}
	}
}

// The three ways in which a letter goes on. The next id says how its retry was begun.
func repeats(t *attempt) bool { return t.Letter.Recipient == nil }
func travelsAlone(t *attempt) bool {
	return t.Letter.Recipient != nil && strings.HasPrefix(t.Letter.Next, alone)
}
func revives(t *attempt) bool { return !repeats(t) && !travelsAlone(t) }

// begin fixes the next ids, and what is sent.
func (r *Retrier) begin(ctx context.Context, tries []*attempt) {
	for _, t := range tries {
		t.Letter.Mended, t.Err = Payload(t.Letter, t.As)
	}
	r.number(ctx, standing(tries, nil))
	tries = standing(tries, nil)
	letters := make([]deadletter.Entry, len(tries))
	for i, t := range tries {
		letters[i] = t.Letter
	}
	begun, errs := r.letters.BeginRetry(ctx, letters...)
	fail(tries, errs)
	for i, t := range tries {
		wanted := t.Letter.Mended
		if t.Letter = begun[i]; t.Err != nil {
			continue
		}
		if t.Carrier = t.Letter.Next; t.As != nil && !bytes.Equal(t.Letter.Mended, wanted) {
			t.Err = deadletter.ErrBegun
			continue
		}
		t.sent, t.Err = sentAs(t.Letter)
	}
}

// number numbers the retries of tasks. An id that became free has had retries before, whose numbers are not used again:
// they have ended, and a task with such an id would not run. A recipient's letter gives its id outside, for the task's
// id is shown.
func (r *Retrier) number(ctx context.Context, tries []*attempt) {
	numbers := map[*attempt]int{}
	for _, t := range tries {
		_, number, _ := strings.Cut(t.Letter.ID, retryMark)
		numbers[t], _ = strconv.Atoi(number)
	}
	for len(tries) > 0 {
		for _, t := range tries {
			numbers[t]++
			t.Letter.Next = BaseOf(t.Letter.ID) + retryMark + strconv.Itoa(numbers[t])
			if t.Alone {
				t.Letter.Next = alone + t.Letter.Next
			}
		}
		var used []*attempt
		for i, f := range r.records.GetEach(ctx, nextIDs(tries)) {
			if tries[i].Err = f.Err; f.Known {
				used = append(used, tries[i])
			}
		}
		tries = used
	}
}

func nextIDs(tries []*attempt) (ids []string) {
	for _, t := range tries {
		ids = append(ids, t.Letter.Next)
	}
	return ids
}

// unended gives those whose next task has not run yet: a retry that was broken off may have enqueued it.
func (r *Retrier) unended(ctx context.Context, tries []*attempt) (some []*attempt) {
	for i, f := range r.records.GetEach(ctx, nextIDs(tries)) {
		if tries[i].Err = f.Err; f.Err == nil && !f.State.Ended() {
			some = append(some, tries[i])
		}
	}
	return some
}

// repeat enqueues tasks under new ids.
func (r *Retrier) repeat(ctx context.Context, tries []*attempt) {
	tries = r.unended(ctx, standing(tries, repeats))
	r.reopen(ctx, tries)
	tries = standing(tries, nil)
	bases := make([]string, len(tries))
	for i, t := range tries {
		bases[i] = BaseOf(t.Letter.ID)
		t.task, t.queue = asynq.NewTask(t.Letter.Type, t.sent.payload), t.Letter.Queue
	}
	at := time.Now().UTC()
	errs := r.records.ChangeEach(ctx, bases, func(i int, base *record.Record) bool {
		t := tries[i]
		base.Retry = t.Letter.Next
		base.Note(record.Act{At: at, What: actOn(t.Letter), Next: t.Letter.Next, Moved: t.sent.moved})
		return true
	})
	for i, err := range errs {
		if errors.Is(err, store.ErrGarbage) { // the task can go on without its record
			errs[i] = nil
		}
	}
	fail(tries, errs)
	r.enqueue(ctx, standing(tries, nil))
}

// reopen lets tasks ask Clerk about earlier calls before they call again.
func (r *Retrier) reopen(ctx context.Context, tries []*attempt) {
	var moved, asked []*attempt
	var left []intent.Owned
	var doubts []intent.Doubt
	for _, t := range tries {
		owned, owns := ownerOf(t.Letter)
		if !owns {
			continue
		}
		doubt := intent.Doubt{Owned: owned, Since: doubtSince(t.Letter)}
		if t.sent.moved { // no call was made for that address
			moved, left = append(moved, t), append(left, owned)
			doubt.Address, doubt.Since = store.IDOf(t.sent.address), 0
		}
		asked, doubts = append(asked, t), append(doubts, doubt)
	}
	fail(moved, r.intents.Forget(ctx, left...))
	fail(asked, r.intents.Reopen(ctx, doubts...))
}

// enqueuers is how many tasks are enqueued at once: asynq enqueues one a round trip.
const enqueuers = 8

// enqueue enqueues the task of each.
func (r *Retrier) enqueue(ctx context.Context, tries []*attempt) {
	var all sync.WaitGroup
	for first := range min(enqueuers, len(tries)) {
		all.Go(func() {
			for i := first; i < len(tries); i += enqueuers {
				t := tries[i]
				_, t.Err = queues.Enqueue(ctx, r.db, r.asynq, t.task, t.queue, t.Letter.Next, time.Time{})
			}
		})
	}
	all.Wait()
}

// invite enqueues invites for recipients of campaigns, under new ids.
func (r *Retrier) invite(ctx context.Context, tries []*attempt) {
	if tries = r.unended(ctx, standing(tries, travelsAlone)); len(tries) == 0 {
		return
	}
	restored, err := store.ReadRestoration(ctx, r.db)
	if err != nil {
		fail(tries, store.Each(len(tries), err))
		return
	}
	var going []*attempt
	var adoptions []intent.Adoption
	for _, t := range tries {
		e, since := t.Letter, doubtSince(t.Letter)
		if since == 0 && restored.MayHaveUndone(e.FailedAt) { // it may have been retried since the copy was made
			since = e.FailedAt.UnixMilli()
		}
		if t.task, t.Err = inviteOf(t.sent.payload); t.Err != nil {
			continue
		}
		t.queue = r.invites
		owned := intent.Owned{Owner: intent.CampaignOwner(e.Campaign), Address: *e.Recipient}
		adoption := intent.Adoption{Doubt: intent.Doubt{Owned: owned, Since: since}, Task: e.Next}
		going, adoptions = append(going, t), append(adoptions, adoption)
	}
	fail(going, r.intents.Adopt(ctx, adoptions...))
	r.enqueue(ctx, standing(going, nil))
}

// inviteOf makes the invite of a recipient of a campaign.
func inviteOf(stored []byte) (*asynq.Task, error) {
	var recipient tasks.Recipient
	if err := json.Unmarshal(stored, &recipient); err != nil {
		return nil, fmt.Errorf("its recipient cannot be read: %w", store.ErrGarbage)
	}
	data, err := json.Marshal(tasks.NewInvitePayload(recipient, time.Now().UnixMilli()))
	if err != nil {
		return nil, fmt.Errorf("encoding a payload: %w", err)
	}
	return asynq.NewTask(tasks.TypeInvite, data), nil
}

// revive lets recipients wait in their campaigns again.
func (r *Retrier) revive(ctx context.Context, tries []*attempt) {
	byCampaign := map[string][]*attempt{}
	for _, t := range standing(tries, revives) {
		byCampaign[t.Letter.Campaign] = append(byCampaign[t.Letter.Campaign], t)
	}
	for name, tries := range byCampaign {
		revivals := make([]ledger.Revival, len(tries))
		for i, t := range tries {
			revivals[i] = revival(t)
		}
		fail(tries, r.ledgers.Revive(ctx, name, revivals...))
		if tries = standing(tries, nil); len(tries) == 0 {
			continue
		}
		carrier := ""
		campaign, err := r.ledgers.Get(ctx, name)
		if err == nil { // finished: they were revived before, and have their outcome
			carrier, err = tasks.EnqueueDriver(ctx, r.db, r.asynq, r.queue, campaign)
		}
		for _, t := range tries {
			t.Carrier, t.Err = carrier, err
		}
	}
}

// revival says how a recipient waits in its campaign. One that was refused travels alone, so that it cannot spoil a
// bulk for others; one that only failed too often rides with them.
func revival(t *attempt) ledger.Revival {
	e := t.Letter
	as := ledger.Revival{
		Of: *e.Recipient, List: ledger.Singles, Since: doubtSince(e), ID: *e.Recipient, From: e.EmailAddress,
	}
	if e.Failure.Reason == fate.ReasonExhausted {
		as.List = ledger.Waiting
	}
	if len(e.Mended) > 0 {
		as.Recipient, as.ID, as.Version = e.Mended, store.IDOf(t.sent.address), t.sent.version
	}
	if t.sent.moved { // no call was made for that address
		as.Since = 0
	}
	return as
}

// note remembers what has happened to letters, for both addresses of one that goes to another one.
func (r *Retrier) note(ctx context.Context, tries []*attempt) {
	var all []history.Note
	var of []*attempt // of each
	at := time.Now().UTC()
	for _, t := range tries {
		e := t.Letter
		own, about := e.Address()
		if !about {
			continue
		}
		again := history.Event{At: at, What: actOn(e), TaskID: e.Next, Campaign: e.Campaign}
		if revives(t) {
			again.TaskID = ""
		}
		if !t.sent.moved {
			all, of = append(all, noteOf(own, e, again)), append(of, t)
			continue
		}
		became, came := again, again
		became.Address, became.Became = t.sent.address, true
		came.Address = e.EmailAddress
		all = append(all, noteOf(own, e, became), noteOf(store.IDOf(t.sent.address), e, came))
		of = append(of, t, t)
	}
	fail(of, r.histories.Note(ctx, all...))
}

// remove deletes the letters. Two retries of one at once are one: the one that comes second finds none. One that has
// died again meanwhile is another letter, and stays.
func (r *Retrier) remove(ctx context.Context, tries []*attempt) {
	letters := make([]deadletter.Entry, len(tries))
	for i, t := range tries {
		letters[i] = t.Letter
	}
	deleted, errs := r.letters.DeleteEach(ctx, letters, deadletter.Retried)
	fail(tries, errs)
	for i, t := range tries {
		if t.Err == nil && !deleted[i] {
			_, t.Err = r.letters.Get(ctx, t.Letter.ID)
		}
	}
}
