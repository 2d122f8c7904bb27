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
	recipients []dispatch.Recipient
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
		return d.bury(row, intent.Untold, row.Recipient, b.recipients[i].EmailAddress, failure)
	case b.recipients[i].OnDuplicate == tasks.AcceptDuplicate:
		return ledger.SentAs(row, ifOpen(row, intent.Refused), result.InvitationID, time.Now())
	}
	return ledger.Reserve(row, failure, intent.Opened)
}

// read takes recipients from the ledger. Those that cannot be read become dead letters at once; those that may not share
// a bulk are put where they go alone.
func (d *driver) read(take func() (ledger.Batch, error), alone bool) (batch, error) {
	taken, err := take()
	b := batch{Batch: taken}
	if err != nil {
		return b, err
	}
	outcomes := d.garbage(taken)
	for _, row := range taken.Rows {
		recipient, err := dispatch.ReadRow(row)
		switch {
		case err != nil:
			outcomes = append(outcomes, d.invalid(row, taken, row.Recipient, recipient.EmailAddress, err.Error()))
		case !alone && !d.w.policy.RidesInBulk(recipient.HasMetadata(), true):
			outcomes = append(outcomes, ledger.GoOn(row, release(row, taken), ledger.Singly))
		default:
			b.rows, b.recipients = append(b.rows, row), append(b.recipients, recipient)
		}
	}
	if len(outcomes) > 0 {
		d.write(taken, outcomes)
	}
	return b, nil
}

// garbage ends recipients whose entries in the ledger cannot be read.
func (d *driver) garbage(taken ledger.Batch) (outcomes []ledger.Outcome) {
	for id, data := range taken.Garbage {
		row := ledger.Row{ID: id}
		outcomes = append(outcomes, d.invalid(row, taken, data, "", "the ledger's entry cannot be read"))
	}
	return outcomes
}

// invalid ends a recipient that cannot be read.
func (d *driver) invalid(row ledger.Row, taken ledger.Batch, payload []byte, address, message string) ledger.Outcome {
	failure := fate.Failure{Reason: fate.Invalid, Code: "invalid_recipient", Message: message}
	return d.bury(row, release(row, taken), payload, address, failure)
}

// settle records what became of recipients that the dispatcher took for a call.
func (d *driver) settle(of *dispatch.Delivery) {
	b := batch{Batch: of.Batch, rows: of.Batch.Rows, recipients: of.Recipients}
	travel := ledger.Ready
	if of.Alone {
		travel = ledger.Singly
	}
	tried := 0
	for i, row := range b.rows {
		if result := of.Results[i]; result.Invalid == nil && !result.Again {
			tried = max(tried, row.Attempts)
		}
	}
	delay := d.w.policy.Backoff(tried + 1) // one for all, so that they ride together again
	outcomes := d.garbage(b.Batch)
	for i, result := range of.Results {
		row, end := b.rows[i], release(b.rows[i], b.Batch)
		switch address := b.recipients[i].EmailAddress; {
		case result.Invalid != nil:
			outcomes = append(outcomes, d.invalid(row, b.Batch, row.Recipient, address, result.Invalid.Error()))
			continue
		case result.Again && result.Alone:
			outcomes = append(outcomes, ledger.GoOn(row, end, ledger.Singly))
			continue
		}
		row.Alone = of.Alone || result.Alone
		switch {
		case result.Again:
			outcomes = append(outcomes, ledger.WaitFor(row, end, travel, 0))
		case result.Doubt:
			row.Answered = !b.recipients[i].IgnoreExisting
			outcomes = append(outcomes, ledger.GoOn(row, intent.Unknown, ledger.Unsure))
		case result.Refusal == nil:
			outcomes = append(outcomes, ledger.SentAs(row, intent.Made, result.InvitationID, time.Now()))
		default:
			outcomes = append(outcomes, d.refused(row, b, i, travel, result, delay))
		}
	}
	if len(outcomes) == 0 { // nobody was there
		d.change()
		return
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
	recipient, address := b.recipients[i], b.recipients[i].EmailAddress
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
