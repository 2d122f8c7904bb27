package worker

import (
	"context"
	"slices"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
)

// askLost asks Clerk about recipients of whom nobody knows what became of their last call. An invitation that was made settles
// one; that there is none counts only when the last call could no longer make it, and then the recipient may be sent again.
func (d *driver) askLost(ctx context.Context, state ledger.State) {
	b, err := d.read(func() (ledger.Batch, error) {
		return d.w.ledgers.TakeToAsk(ctx, d.campaign, policy.LostSize, policy.LostPatience+policy.SettleMargin, ledger.Unsure)
	}, true)
	if err != nil || len(b.rows) == 0 {
		_ = clock.Sleep(ctx, policy.RedisRest)
		return
	}
	asked := time.Now()
	var lost []ask.Lost
	for i, row := range b.rows {
		if row.Intent.Open() && !row.Foreign { // of others nothing was lost
			since := asked.Add(row.Intent.Since.Sub(b.Now))
			lost = append(lost, ask.Lost{Address: b.recipients[i].EmailAddress, Since: since})
		}
	}
	found, err := d.w.questions.FindLost(ctx, lost)
	ctx, cancel := context.WithDeadline(ctx, asked.Add(policy.LostPatience))
	defer cancel()
	outcomes := make([]ledger.Outcome, len(b.rows))
	for i, row := range b.rows {
		switch inv, made := unused(found[b.recipients[i].Folded()], row.Intent.Used); {
		case row.Foreign:
			outcomes[i] = d.overcome(ctx, state, row, b, i)
		case err != nil:
			outcomes[i] = ledger.WaitFor(row, intent.Untold, ledger.Unsure, d.w.policy.Backoff(row.Attempts+1)+time.Millisecond)
		case !row.Intent.Open():
			outcomes[i] = d.goOn(row, intent.Untold)
		case made:
			outcomes[i] = ledger.SentAs(row, intent.Found, inv.ID, time.Now())
		default:
			outcomes[i] = d.absent(ctx, state, row, b, i)
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
func (d *driver) absent(ctx context.Context, state ledger.State, row ledger.Row, b batch, i int) ledger.Outcome {
	address := b.recipients[i].EmailAddress
	if quiet := row.Intent.Till.Add(d.w.policy.Settle).Sub(b.Now); quiet > 0 && !row.Answered {
		return ledger.WaitFor(row, intent.Untold, ledger.Unsure, quiet)
	}
	if row.Refusal != nil && overcomes(b.recipients[i], *row.Refusal) {
		return d.overcome(ctx, state, row, b, i)
	}
	if row.Refusal != nil {
		return d.bury(row, intent.Absent, row.Recipient, address, *row.Refusal)
	}
	if n := len(row.History); n > 0 && row.Attempts >= d.w.policy.MaxAttempts {
		failure := row.History[n-1].Failure
		failure.Reason = fate.Exhausted
		row.History = row.History[:n-1] // the ending is the last one
		return d.bury(row, intent.Absent, row.Recipient, address, failure)
	}
	return d.goOn(row, intent.Absent)
}

func (d *driver) goOn(row ledger.Row, end intent.End) ledger.Outcome {
	row.Answered = false
	return ledger.WaitFor(row, end, travelOf(row), 0)
}

// travelOf says how a recipient goes on about whom nothing is left to ask.
func travelOf(row ledger.Row) ledger.Travel {
	if row.Alone {
		return ledger.Singly
	}
	return ledger.Ready
}

// overcome goes on with a recipient that meets a duplicate. For a campaign that does not run nothing is revoked.
func (d *driver) overcome(ctx context.Context, state ledger.State, row ledger.Row, b batch, i int) ledger.Outcome {
	switch state {
	case ledger.Running:
	case ledger.Cancelled:
		return d.goOn(row, ifOpen(row, intent.Absent))
	default:
		return ledger.WaitFor(row, intent.Untold, ledger.Unsure, policy.DriverPoll)
	}
	found, err := d.w.overcome(ctx, b.recipients[i], *row.Refusal)
	switch {
	case err != nil:
		return ledger.WaitFor(row, intent.Untold, ledger.Unsure, d.w.policy.Backoff(row.Attempts+1)+time.Millisecond)
	case found.accepted != "":
		return ledger.SentAs(row, ifOpen(row, intent.Refused), found.accepted, time.Now())
	case found.refusal != nil:
		return d.bury(row, ifOpen(row, intent.Absent), row.Recipient, b.recipients[i].EmailAddress, *found.refusal)
	}
	return ledger.Clear(row, ifOpen(row, intent.Absent), travelOf(row), found.cleared)
}
