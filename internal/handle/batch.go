package handle

import (
	"context"
	"slices"
	"time"

	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/tasks"
)

// Package fate decides what becomes of a campaign's recipients, as it does for invite tasks. Here they are taken
// from the ledger, and what was decided is written there.

// knownOfRow gives what is known of a recipient that was taken from the ledger.
func knownOfRow(row ledger.Row, recipient dispatch.Recipient, taken ledger.Batch) fate.Known {
	known := knownOf(recipient, row.State)
	known.Intent, known.Now = row.Intent.Intent, taken.Now
	known.First = row.Intent.Since.Equal(taken.Now) // intent.claim: only a first call's time is now
	return known
}

// finish decides by a call's answer what becomes of the recipients in it, and writes it. The dispatcher calls it after
// each call that took recipients of the campaign.
func (d *driver) finish(delivery *dispatch.Delivery) {
	tried := 0
	for i, row := range delivery.Batch.Rows {
		if kind := delivery.Answers[i].Kind; kind != fate.KindUnreadable && kind != fate.KindNothingYet {
			tried = max(tried, row.Tried())
		}
	}
	backoff := d.h.policy.Backoff(tried + 1) // one for all, so that they share a call again
	outcomes := d.garbage(delivery.Batch)
	for i, row := range delivery.Batch.Rows {
		answer := delivery.Answers[i]
		answer.Alone = answer.Alone || delivery.Alone
		decision := knownOfRow(row, delivery.Recipients[i], delivery.Batch).AfterAnswer(answer, backoff, d.h.rules)
		outcome := d.outcome(row, delivery.Recipients[i].EmailAddress, decision)
		outcome.Behind = delivery.Probe // the next probe is for somebody else
		outcomes = append(outcomes, outcome)
	}
	if len(outcomes) == 0 { // nobody was there
		d.change()
		return
	}
	d.write(outcomes)
}

// lookUp has some recipients looked up.
func (d *driver) lookUp(ctx context.Context) {
	taken, recipients := d.take(ctx, policy.LookupSize, policy.LookupPatience, ledger.Waiting)
	if len(recipients) == 0 {
		return
	}
	people := make([]tasks.Recipient, len(recipients))
	for i, r := range recipients {
		people[i] = r.Recipient
	}
	outcomes, saved := make([]ledger.Outcome, len(recipients)), 0
	for i, finding := range d.h.questions.LookUp(ctx, people) {
		row, recipient, found := taken.Rows[i], recipients[i], finding.LookUp
		found.Alone = found.Alone || !d.h.policy.RidesInBulk(recipient.HasMetadata(), true)
		outcomes[i] = d.outcome(row, recipient.EmailAddress, knownOfRow(row, recipient, taken).AfterLookUp(found))
		outcomes[i].Behind = true
		if outcomes[i].Decision.Next.Ends() {
			saved++
		}
	}
	d.h.observer.SavedByLookUp(saved)
	d.write(outcomes)
}

// resolveUnsure asks Clerk about recipients of whom nobody knows what became of their last call, and deals with
// duplicates. What it has no time for waits for the next question.
func (d *driver) resolveUnsure(ctx context.Context) {
	lost := d.askOnce(ctx)
	ctx, cancel := context.WithDeadline(ctx, lost.until)
	defer cancel()
	var outcomes []ledger.Outcome
	var duplicates []int
	for i, decision := range lost.decisions {
		if decision.Next == fate.Overcome {
			duplicates = append(duplicates, i)
		} else {
			outcomes = append(outcomes, d.answered(lost.rows[i], lost.subjects[i], decision))
		}
	}
	d.write(outcomes)
	outcomes = nil
	for _, i := range duplicates {
		s, decision := lost.subjects[i], lost.decisions[i]
		if ctx.Err() != nil {
			outcomes = append(outcomes, d.answered(lost.rows[i], s, decision))
			continue
		}
		s.known.State = decision.State
		d.write([]ledger.Outcome{d.answered(lost.rows[i], s, d.h.overcome(ctx, s))})
	}
	d.write(outcomes)
}

// question is what a question was about, and what follows for each recipient. Until then nobody else gets them.
type question struct {
	subjects  []subject
	rows      []ledger.Row
	decisions []fate.Decision
	until     time.Time
}

// askOnce asks about as many recipients as one question may be about. A driver asks one question at a time: each reads
// Clerk's list, however few recipients it is about.
func (d *driver) askOnce(ctx context.Context) question {
	d.reading.Lock()
	defer d.reading.Unlock()
	asked := time.Now()
	ctx, cancel := context.WithDeadline(ctx, asked.Add(policy.LostPatience))
	defer cancel()
	taken, recipients := d.take(ctx, policy.LostSize, policy.LostPatience, ledger.Unsure)
	if len(recipients) == 0 {
		return question{}
	}
	subjects := make([]subject, len(recipients))
	for i, row := range taken.Rows {
		subjects[i] = subject{
			recipient: recipients[i], known: knownOfRow(row, recipients[i], taken),
			campaign: d.campaign, owner: intent.CampaignOwner(d.campaign), token: row.Intent.Token,
			since: asked.Add(row.Intent.Since.Sub(taken.Now)), sinceOnRedis: sinceUnlessRetried(row.Intent),
		}
		subjects[i].known.Stopped = d.state.Load() == ledger.Cancelled
	}
	decisions := d.h.askAbout(ctx, subjects)
	return question{subjects, taken.Rows, decisions, asked.Add(policy.LostPatience)}
}

// answered gives what was decided after a question as the ledger takes it.
func (d *driver) answered(row ledger.Row, s subject, decision fate.Decision) ledger.Outcome {
	outcome := d.outcome(row, s.recipient.EmailAddress, decision)
	outcome.Behind = decision.Next != fate.Send
	return outcome
}

// takenAtOnce is how many recipients are taken for a question in one step, so that it does not stop Redis for long.
const takenAtOnce = 250

// take takes recipients for a question to Clerk that ends in time. Those that cannot be read become dead letters at
// once, and are not in the batch. If there is nobody to ask about it rests.
func (d *driver) take(
	ctx context.Context, n int, within time.Duration, from ledger.List,
) (all ledger.Batch, recipients []dispatch.Recipient) {
	for n > 0 {
		step := min(n, takenAtOnce)
		taken, err := d.h.ledgers.TakeToAsk(ctx, d.campaign, step, within+policy.SettleMargin, from)
		if all.Now.IsZero() {
			all.Now = taken.Now
		}
		outcomes := d.garbage(taken)
		for _, row := range taken.Rows {
			recipient, err := dispatch.ReadRow(row)
			if err != nil {
				answer := fate.UnreadableAnswer(err.Error())
				decision := knownOfRow(row, recipient, taken).AfterAnswer(answer, 0, d.h.rules)
				outcomes = append(outcomes, d.outcome(row, recipient.EmailAddress, decision))
				continue
			}
			all.Rows, recipients = append(all.Rows, row), append(recipients, recipient)
		}
		if len(outcomes) > 0 {
			d.write(outcomes)
		}
		if n -= step; err != nil || len(taken.Rows)+len(taken.Garbage) < step {
			break
		}
	}
	if len(recipients) == 0 {
		_ = policy.Sleep(ctx, policy.RedisRest)
	}
	return all, recipients
}

// garbage ends recipients whose entries in the ledger cannot be read. The entry itself is kept in the dead letter.
func (d *driver) garbage(taken ledger.Batch) (outcomes []ledger.Outcome) {
	for id, data := range taken.Garbage {
		answer := fate.UnreadableAnswer("the ledger's entry cannot be read")
		decision := fate.Known{}.AfterAnswer(answer, 0, d.h.rules)
		outcome := d.outcome(ledger.Row{ID: id, Hold: taken.Hold}, "", decision) // no row can hold what cannot be read
		outcome.Letter.Payload = data
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}

// outcome gives a decision as the ledger takes it, with the dead letter if the recipient ends as one.
func (d *driver) outcome(row ledger.Row, address string, decision fate.Decision) ledger.Outcome {
	o := ledger.Outcome{Row: row, Decision: decision, At: time.Now().UTC()}
	if decision.Next == fate.Dead {
		o.Letter = &deadletter.Entry{
			ID: deadletter.RecipientID(d.campaign, row.ID), TaskID: d.task, Type: tasks.TypeBulkInvite,
			Queue: queues.Name(d.h.namespace, queues.Campaign), Campaign: d.campaign, Recipient: &row.ID,
			EmailAddress: address, Failure: *decision.Cause, Attempts: decision.State.Attempts, FailedAt: o.At,
			Payload: row.Recipient, History: fate.Remember(decision.State.History, o.At, *decision.Cause),
		}
	}
	return o
}

// attemptsOf is how many attempts a recipient needed until its end, with the one that created its invitation.
func attemptsOf(end fate.Decision) int {
	if end.Next == fate.Sent && !end.State.Foreign {
		return end.State.Attempts + 1
	}
	return end.State.Attempts
}

// settledAtOnce is how many outcomes are written in one step. Dead ones take the longest: 100 of them stop Redis for
// two to four milliseconds.
const settledAtOnce = 100

// write writes outcomes. Where Redis stays away until the worker's last grace, the ledger gives the recipients out
// again when their hold has passed.
func (d *driver) write(outcomes []ledger.Outcome) {
	for some := range slices.Chunk(outcomes, settledAtOnce) {
		_ = d.settling.Do(some, len(some)) // the log has its error
	}
	d.change()
}

// settle writes outcomes of several batches in one step.
func (d *driver) settle(batches [][]ledger.Outcome) error {
	outcomes := slices.Concat(batches...)
	recorded, err := persisted(d.h.life.Writing, d.h, func(ctx context.Context) ([]ledger.Outcome, error) {
		return d.h.ledgers.Settle(ctx, d.campaign, outcomes)
	})
	if err != nil || len(recorded) < len(outcomes) {
		d.h.log.Error().Err(err).Str("campaign", d.campaign).Int("recipients", len(outcomes)).
			Int("settled", len(recorded)).Msg("outcomes could not be recorded in time")
	}
	for _, outcome := range recorded {
		if outcome.Decision.Next.Ends() {
			end := outcome.Decision
			d.h.recipientEnded(tasks.TypeBulkInvite, end.Next, end.Cause, attemptsOf(end))
		}
		if outcome.Letter != nil {
			d.h.logDead(*outcome.Letter, d.dead.Add(1) <= deadTold)
		}
	}
	return err
}
