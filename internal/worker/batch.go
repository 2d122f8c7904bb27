package worker

import (
	"context"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/queues"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// batch is some recipients taken from the ledger, for a call or a look-up.
type batch struct {
	ledger.Batch
	rows       []ledger.Row
	addresses  []string
	recipients []dispatch.Recipient
}

// take takes recipients for a call, whose deadline is the context's. It is the dispatcher's to say when.
func (d *driver) take(ctx context.Context, n int, alone bool) (dispatch.Batch, error) {
	defer d.change()
	from := []ledger.Travel{ledger.Ready}
	switch {
	case alone:
		from = []ledger.Travel{ledger.Singly}
	case !d.w.policy.LooksUp():
		from = append(from, ledger.InBulk)
	}
	deadline, _ := ctx.Deadline()
	b, err := d.read(func() (ledger.Batch, error) {
		return d.w.ledgers.TakeForCall(ctx, d.campaign, n, time.Until(deadline), policy.SettleMargin, from...)
	}, alone)
	if err != nil {
		d.w.log.Warn().Err(err).Str("campaign", d.campaign).Msg("no recipients taken: Redis cannot answer")
		return dispatch.Batch{}, err
	}
	return dispatch.Batch{Recipients: b.recipients, Settle: func(results []dispatch.Result) { d.settle(b, results, alone) }}, nil
}

// lookUp has some recipients looked up. Those that Clerk would refuse are dead letters without a call.
func (d *driver) lookUp(ctx context.Context) {
	b, err := d.read(func() (ledger.Batch, error) {
		return d.w.ledgers.TakeToAsk(ctx, d.campaign, policy.LookupSize, policy.LookupPatience+policy.SettleMargin, ledger.InBulk)
	}, false)
	if err != nil || len(b.recipients) == 0 {
		_ = clock.Sleep(ctx, policy.RedisRest)
		return
	}
	recipients := make([]tasks.Recipient, len(b.recipients))
	for i, r := range b.recipients {
		recipients[i] = r.Recipient
	}
	findings := d.w.questions.LookUp(ctx, recipients)
	outcomes := make([]ledger.Outcome, len(findings))
	for i, finding := range findings {
		switch row := b.rows[i]; {
		case finding.Refusal != nil:
			outcomes[i] = d.foundRefused(row, b, i, dispatch.FoundBefore(finding))
		case finding.Alone:
			outcomes[i] = ledger.GoOn(row, intent.Untold, ledger.Singly)
		default:
			outcomes[i] = ledger.GoOn(row, intent.Untold, ledger.Ready)
		}
	}
	d.write(b.Batch, outcomes)
}

// foundRefused ends a recipient that a look-up has found to be refused, unless it wants more about a duplicate than a
// dead letter.
func (d *driver) foundRefused(row ledger.Row, b batch, i int, result dispatch.Result) ledger.Outcome {
	failure := rejection(result)
	switch {
	case !overcomes(b.recipients[i], failure):
		return d.bury(row, intent.Untold, row.Recipient, b.addresses[i], failure)
	case b.recipients[i].OnDuplicate == tasks.AcceptDuplicate:
		return ledger.SentAs(row, ifOpen(row, intent.Refused), result.InvitationID, time.Now())
	}
	return ledger.Reserve(row, failure, intent.Opened)
}

// read takes recipients from the ledger. Those that cannot be read become dead letters at once; those that may not ride in a
// bulk are put where they travel alone.
func (d *driver) read(take func() (ledger.Batch, error), alone bool) (batch, error) {
	taken, err := take()
	b := batch{Batch: taken}
	if err != nil {
		return b, err
	}
	var outcomes []ledger.Outcome
	invalid := func(row ledger.Row, payload []byte, address, message string) {
		failure := fate.Failure{Reason: fate.Invalid, Code: "invalid_recipient", Message: message}
		outcomes = append(outcomes, d.bury(row, release(row, taken), payload, address, failure))
	}
	for id, data := range taken.Garbage {
		invalid(ledger.Row{ID: id}, data, "", "the ledger's entry cannot be read")
	}
	for _, row := range taken.Rows {
		r, err := tasks.DecodeRecipient(row.Recipient)
		var recipient dispatch.Recipient
		if err == nil {
			recipient, err = dispatch.NewRecipient(r)
		}
		if row.Cleared && err == nil {
			recipient = recipient.IgnoringExisting()
		}
		switch {
		case err != nil:
			invalid(row, row.Recipient, r.EmailAddress, err.Error())
		case !alone && !d.w.policy.RidesInBulk(recipient.HasMetadata(), true):
			outcomes = append(outcomes, ledger.GoOn(row, release(row, taken), ledger.Singly))
		default:
			b.rows, b.addresses, b.recipients = append(b.rows, row), append(b.addresses, r.EmailAddress), append(b.recipients, recipient)
		}
	}
	if len(outcomes) > 0 {
		d.write(taken, outcomes)
	}
	return b, nil
}

// settle records what became of a batch in a call.
func (d *driver) settle(b batch, results []dispatch.Result, alone bool) {
	travel := ledger.Ready
	if alone {
		travel = ledger.Singly
	}
	tried := 0
	for _, row := range b.rows {
		tried = max(tried, row.Attempts)
	}
	delay := d.w.policy.Backoff(tried + 1) // one for all, so that they ride together again
	outcomes := make([]ledger.Outcome, len(results))
	for i, result := range results {
		row := b.rows[i]
		row.Alone = alone || result.Alone
		switch {
		case result.Again:
			outcomes[i] = ledger.WaitFor(row, release(row, b.Batch), travel, 0)
		case result.Doubt:
			row.Answered = !b.recipients[i].IgnoreExisting
			outcomes[i] = ledger.GoOn(row, intent.Unknown, ledger.Unsure)
		case result.Refusal == nil:
			outcomes[i] = ledger.SentAs(row, intent.Made, result.InvitationID, time.Now())
		default:
			outcomes[i] = d.refused(row, b, i, travel, result, delay)
		}
	}
	d.write(b.Batch, outcomes)
}

// release is the end of the intent of a recipient whose call was not made, or says nothing.
func release(row ledger.Row, taken ledger.Batch) intent.End {
	if !row.Intent.Open() {
		return intent.Untold
	}
	return intent.Claim{Fresh: row.Intent.Since.Equal(taken.Now)}.Release()
}

// refused ends a recipient that Clerk rejected or that has failed too often, and lets another try later. Whoever may have been
// invited all the same, by this call or an earlier one, is asked about first.
func (d *driver) refused(row ledger.Row, b batch, i int, travel ledger.Travel, result dispatch.Result, delay time.Duration) ledger.Outcome {
	failure := failureOf(result)
	row.Attempts++
	released := release(row, b.Batch)
	rejected := result.Refusal.Outcome == clerkclient.Rejected
	if rejected {
		failure = rejection(result)
	}
	recipient, address := b.recipients[i], b.addresses[i]
	switch exhausted := row.Attempts >= d.w.policy.MaxAttempts; {
	case rejected && released == intent.Absent:
		row.Refusal = &failure
		return ledger.GoOn(row, intent.Unknown, ledger.Unsure)
	case rejected && overcomes(recipient, failure):
		return ledger.Reserve(row, failure, intent.Unknown)
	case rejected:
		return d.bury(row, released, row.Recipient, address, failure)
	case !result.Refusal.Sent && exhausted:
		failure.Reason = fate.Exhausted
		return d.bury(row, released, row.Recipient, address, failure)
	}
	row.History = fate.Remember(row.History, time.Now(), failure)
	if !result.Refusal.Sent {
		return ledger.WaitFor(row, released, travel, delay)
	}
	return ledger.WaitFor(row, intent.Unknown, ledger.Unsure, delay)
}

// bury lets the ledger record that a recipient is dead, with its dead letter.
func (d *driver) bury(row ledger.Row, end intent.End, payload []byte, address string, failure fate.Failure) ledger.Outcome {
	now := time.Now().UTC()
	return ledger.DeadOf(row, end, deadletter.Entry{
		ID: deadletter.RecipientID(d.campaign, row.ID), TaskID: d.task, Type: tasks.TypeBulkInvite, Queue: queues.Name(d.w.namespace, queues.Campaign),
		Campaign: d.campaign, Recipient: &row.ID, EmailAddress: address, Failure: failure, Attempts: row.Attempts,
		History: fate.Remember(row.History, now, failure), FailedAt: now, Payload: payload,
	})
}

// write records outcomes. Where Redis stays away until the worker's last grace, the ledger gives the recipients out
// again when their hold has passed.
func (d *driver) write(taken ledger.Batch, outcomes []ledger.Outcome) {
	var recorded []ledger.Outcome
	err := d.w.persist(d.w.settling, func(ctx context.Context) (err error) {
		recorded, err = d.w.ledgers.Settle(ctx, d.campaign, taken, outcomes)
		return err
	})
	if err != nil || len(recorded) < len(outcomes) {
		d.w.log.Error().Err(err).Str("campaign", d.campaign).Int("recipients", len(outcomes)).Int("settled", len(recorded)).
			Msg("outcomes could not be recorded in time")
	}
	for _, outcome := range recorded {
		if outcome.Letter != nil {
			d.w.logDead(*outcome.Letter)
		}
	}
	d.change()
}

// ifOpen is the end of the intent of a recipient that is in no call; not every one has an intent.
func ifOpen(row ledger.Row, end intent.End) intent.End {
	if !row.Intent.Open() {
		return intent.Untold
	}
	return end
}

// rejection is the failure of a recipient that Clerk rejects.
func rejection(result dispatch.Result) fate.Failure {
	failure := failureOf(result)
	failure.Reason = fate.Rejected
	return failure
}

// failureOf says why a recipient got no invitation.
func failureOf(result dispatch.Result) fate.Failure {
	e := result.Refusal
	return fate.Failure{HTTPStatus: e.Status, Code: e.Code, Message: e.Message, TraceID: e.TraceID, FoundBeforeSending: result.Found}
}
