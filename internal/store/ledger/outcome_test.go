package ledger_test

import (
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/ledger"
)

// sentAs ends a recipient with an invitation.
func sentAs(row ledger.Row, end fate.End, id string, at time.Time) ledger.Outcome {
	row.Foreign = end != fate.IntentMade && end != fate.IntentFound
	decision := fate.Decision{State: row.State, Next: fate.Sent, Intent: end, InvitationID: id}
	return ledger.Outcome{Row: row, Decision: decision, At: at}
}

// waitFor lets a recipient wait for a step, before all others now or after a delay.
func waitFor(row ledger.Row, end fate.End, travel ledger.List, delay time.Duration) ledger.Outcome {
	next := fate.Send
	if travel == ledger.Unsure {
		next = fate.Ask
	}
	row.Alone = travel == ledger.Singles
	return ledger.Outcome{Row: row, Decision: fate.Decision{State: row.State, Next: next, Intent: end, In: delay}}
}

// goOn lets a recipient wait behind all others.
func goOn(row ledger.Row, end fate.End, travel ledger.List) ledger.Outcome {
	o := waitFor(row, end, travel, 0)
	o.Behind = true
	return o
}
