package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/deadletter"
	"example.com/usher/internal/ledger"
	"example.com/usher/internal/queues"
	"example.com/usher/internal/record"
	"example.com/usher/tasks"
)

// passenger is a recipient in a call.
type passenger struct {
	row       ledger.Row
	recipient tasks.Recipient
	params    *invitation.CreateParams
}

// sendOnce makes one call for the campaign. Recipients are taken only when the permit is there, so that a bulk leaves
// with all who wait at that moment; their outcomes are recorded before it returns.
func (d *driver) sendOnce(ctx context.Context, travel ledger.Travel) {
	e, n := bulkCall, bulkSize
	if travel == ledger.Singly {
		e, n = campaignCreateCall, 1
	}
	var batch ledger.Batch
	var passengers []passenger
	var outcomes []ledger.Outcome
	var made map[string]clerkclient.Invitation
	_, err := d.w.caller.call(ctx, e, func(ctx context.Context, deadline time.Time) (err error) {
		batch, err = d.w.ledgers.Take(ctx, d.campaign, n, travel, time.Until(deadline)+d.w.policy.Settle+settleMargin)
		if err != nil {
			d.w.log.Warn().Err(err).Str("campaign", d.campaign).Msg("no recipients taken: Redis cannot answer")
			return errNothingSent
		}
		if passengers, outcomes = d.board(batch, travel); len(passengers) == 0 {
			return errNothingSent
		}
		made, err = d.carry(ctx, passengers, travel)
		return err
	})
	if len(passengers) > 0 {
		outcomes = append(outcomes, d.judge(passengers, travel, made, err)...)
	}
	if len(outcomes) > 0 {
		d.settle(batch, outcomes)
	} else {
		_ = sleep(ctx, redisRest) // nothing waits any more, or Redis is away: no hurry for the next permit
	}
}

// board reads a batch. Those that cannot be read become dead letters; those that may not ride in a bulk are put back to
// travel alone.
func (d *driver) board(batch ledger.Batch, travel ledger.Travel) (passengers []passenger, outcomes []ledger.Outcome) {
	for id, data := range batch.Garbage {
		row := ledger.Row{ID: id}
		failure := record.Failure{Reason: record.Invalid, Code: "invalid_recipient", Message: "the ledger's entry cannot be read"}
		outcomes = append(outcomes, d.bury(row, data, "", failure))
	}
	for _, row := range batch.Rows {
		recipient, err := tasks.DecodeRecipient(row.Recipient)
		var params *invitation.CreateParams
		if err == nil {
			params, err = createParams(recipient)
		}
		switch {
		case err != nil:
			failure := record.Failure{Reason: record.Invalid, Code: "invalid_recipient", Message: err.Error()}
			outcomes = append(outcomes, d.bury(row, row.Recipient, recipient.EmailAddress, failure))
		case travel == ledger.InBulk && d.w.policy.BulkMetadata == MetadataNever && len(recipient.PublicMetadata) > 0:
			outcomes = append(outcomes, ledger.WaitFor(row, ledger.Singly, 0))
		default:
			passengers = append(passengers, passenger{row: row, recipient: recipient, params: params})
		}
	}
	return passengers, outcomes
}

// carry makes the call and gives the invitations by folded address.
func (d *driver) carry(ctx context.Context, passengers []passenger, travel ledger.Travel) (map[string]clerkclient.Invitation, error) {
	made := make(map[string]clerkclient.Invitation, len(passengers))
	if travel == ledger.Singly {
		inv, _, err := d.w.clerk.Create(ctx, passengers[0].params)
		made[tasks.FoldAddress(inv.EmailAddress)] = inv
		return made, err
	}
	params := make([]*invitation.CreateParams, len(passengers))
	for i, p := range passengers {
		params[i] = p.params
	}
	invitations, _, err := d.w.clerk.CreateBulk(ctx, params)
	for _, inv := range invitations {
		made[tasks.FoldAddress(inv.EmailAddress)] = inv
	}
	return made, err
}

// judge says what an answer means for each passenger.
func (d *driver) judge(passengers []passenger, travel ledger.Travel, made map[string]clerkclient.Invitation, err error) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, 0, len(passengers))
	refusal, refused := errors.AsType[*clerkclient.Error](err)
	if err != nil && !refused {
		refusal = &clerkclient.Error{Outcome: clerkclient.Transient, Code: "failed", Message: fmt.Sprintf("%T", err)}
	}
	tried := slices.MaxFunc(passengers, func(a, b passenger) int { return cmp.Compare(a.row.Attempts, b.row.Attempts) }).row.Attempts
	delay := d.w.policy.backoff(tried + 1) // one for all, so that they ride together again
	for _, p := range passengers {
		switch {
		case err == nil:
			inv := made[tasks.FoldAddress(p.recipient.EmailAddress)]
			outcomes = append(outcomes, ledger.SentAs(p.row, inv.ID, time.Now()))
		case refusal.Outcome == clerkclient.Throttled, refusal.Outcome == clerkclient.Unauthorized:
			outcomes = append(outcomes, ledger.WaitFor(p.row, travel, 0))
		case refusal.Outcome == clerkclient.Rejected:
			outcomes = append(outcomes, d.rejected(p, passengers, travel, refusal))
		default:
			outcomes = append(outcomes, d.failed(p, travel, failureOf(refusal), delay))
		}
	}
	return outcomes
}

// rejected finds out whom a refusal is about. A bulk is refused whole for one bad address: those whom Clerk names are
// dead letters and the others ride again; where it names nobody, everybody travels alone, so that a bad address costs
// itself and nobody else.
func (d *driver) rejected(p passenger, passengers []passenger, travel ledger.Travel, refusal *clerkclient.Error) ledger.Outcome {
	failure := failureOf(refusal)
	failure.Reason = record.Rejected
	if travel == ledger.Singly || refusal.Whole {
		p.row.Attempts++
		return d.bury(p.row, p.row.Recipient, p.recipient.EmailAddress, failure)
	}
	named := func(p passenger) bool {
		return slices.Contains(refusal.Offenders, tasks.FoldAddress(p.recipient.EmailAddress))
	}
	switch {
	case named(p):
		p.row.Attempts++
		return d.bury(p.row, p.row.Recipient, p.recipient.EmailAddress, failure)
	case slices.ContainsFunc(passengers, named):
		return ledger.WaitFor(p.row, ledger.InBulk, 0)
	}
	return ledger.WaitFor(p.row, ledger.Singly, 0)
}

func (d *driver) failed(p passenger, travel ledger.Travel, failure record.Failure, delay time.Duration) ledger.Outcome {
	p.row.Attempts++
	if p.row.Attempts >= d.w.policy.MaxAttempts {
		failure.Reason = record.Exhausted
		return d.bury(p.row, p.row.Recipient, p.recipient.EmailAddress, failure)
	}
	p.row.History = record.Remember(p.row.History, time.Now(), failure)
	return ledger.WaitFor(p.row, travel, delay)
}

// bury writes the dead letter of a recipient, and then lets the ledger record that it is one.
func (d *driver) bury(row ledger.Row, payload []byte, address string, failure record.Failure) ledger.Outcome {
	now := time.Now().UTC()
	entry := deadletter.Entry{
		ID: deadletter.RecipientID(d.campaign, row.ID), TaskID: d.task, Type: tasks.TypeBulkInvite, Queue: queues.Name(d.w.namespace, queues.Campaign),
		Campaign: d.campaign, Recipient: &row.ID, EmailAddress: address, Failure: failure, Attempts: row.Attempts,
		History: record.Remember(row.History, now, failure), FailedAt: now, Payload: payload,
	}
	err := d.w.persist(d.w.settling, func(ctx context.Context) error { return d.w.deadLetters.Put(ctx, entry) })
	if err != nil {
		return ledger.WaitFor(row, ledger.Singly, 0) // never dead without its letter
	}
	d.w.logDead(entry)
	return ledger.DeadOf(row, failure.Code, now)
}

// settle records outcomes. Where Redis stays away until the worker's last grace, the ledger gives the recipients out
// again when their hold has passed.
func (d *driver) settle(batch ledger.Batch, outcomes []ledger.Outcome) {
	settled := 0
	err := d.w.persist(d.w.settling, func(ctx context.Context) (err error) {
		settled, err = d.w.ledgers.Settle(ctx, d.campaign, batch, outcomes)
		return err
	})
	if err != nil || settled < len(outcomes) {
		d.w.log.Error().Err(err).Str("campaign", d.campaign).Int("recipients", len(outcomes)).Int("settled", settled).
			Msg("outcomes could not be recorded in time")
	}
}
