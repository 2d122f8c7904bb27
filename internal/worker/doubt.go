package worker

import (
	"context"
	"slices"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/intent"
	"example.com/usher/internal/ledger"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/record"
)

// askLost asks Clerk about recipients of whom nobody knows what became of their last call. An invitation that was made settles
// one; that there is none counts only when the last call could no longer make it, and then the recipient may be sent again.
func (d *driver) askLost(ctx context.Context) {
	b, err := d.read(func() (ledger.Batch, error) {
		return d.w.ledgers.TakeToAsk(ctx, d.campaign, policy.LostSize, policy.LostPatience+policy.SettleMargin, ledger.Unsure)
	}, true)
	if err != nil || len(b.rows) == 0 {
		_ = clock.Sleep(ctx, policy.RedisRest)
		return
	}
	asked := time.Now()
	lost := make([]dispatch.Lost, len(b.rows))
	for i, row := range b.rows {
		lost[i] = dispatch.Lost{Recipient: b.recipients[i], Since: asked.Add(row.Intent.Since.Sub(b.Now))}
		if !row.Intent.Open() {
			lost[i].Since = asked // nothing was lost: it is let go on
		}
	}
	found, err := d.w.dispatcher.FindLost(ctx, lost)
	outcomes := make([]ledger.Outcome, len(b.rows))
	for i, row := range b.rows {
		switch inv, made := unused(found[b.recipients[i].Folded()], row.Intent.Used); {
		case err != nil:
			outcomes[i] = ledger.WaitFor(row, intent.Untold, ledger.Unsure, d.w.policy.Backoff(row.Attempts+1)+time.Millisecond)
		case !row.Intent.Open():
			outcomes[i] = d.goOn(row, intent.Untold)
		case made:
			outcomes[i] = ledger.SentAs(row, intent.Found, inv.ID, time.Now())
		default:
			outcomes[i] = d.absent(row, b, b.addresses[i])
		}
	}
	d.write(b.Batch, outcomes)
}

// unused gives the first invitation that has not settled another intent.
func unused(found []clerkclient.Invitation, used []string) (clerkclient.Invitation, bool) {
	for _, inv := range found {
		if !slices.Contains(used, inv.ID) {
			return inv, true
		}
	}
	return clerkclient.Invitation{}, false
}

// absent is told that Clerk knows of no invitation. After a refusal for another's sake there is nothing to wait for: if Clerk has made
// one all the same and its list lags, it refuses the next call, and is asked again. Only where it would not refuse, absence must be sure.
func (d *driver) absent(row ledger.Row, b batch, address string) ledger.Outcome {
	if quiet := row.Intent.Till.Add(d.w.policy.Settle).Sub(b.Now); quiet > 0 && !row.Answered {
		return ledger.WaitFor(row, intent.Untold, ledger.Unsure, quiet)
	}
	if row.Refusal != nil {
		return d.bury(row, intent.Absent, row.Recipient, address, *row.Refusal)
	}
	if n := len(row.History); n > 0 && row.Attempts >= d.w.policy.MaxAttempts {
		failure := row.History[n-1].Failure
		failure.Reason = record.Exhausted
		row.History = row.History[:n-1] // the ending is the last one
		return d.bury(row, intent.Absent, row.Recipient, address, failure)
	}
	return d.goOn(row, intent.Absent)
}

func (d *driver) goOn(row ledger.Row, end intent.End) ledger.Outcome {
	row.Answered = false
	if row.Alone {
		return ledger.WaitFor(row, end, ledger.Singly, 0)
	}
	return ledger.WaitFor(row, end, ledger.Ready, 0)
}
