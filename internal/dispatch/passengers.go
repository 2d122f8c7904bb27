package dispatch

import (
	"context"
	"slices"

	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// passengers are who is in a call.
type passengers struct {
	d           *Dispatcher
	riders      []*rider
	claims      []claim
	parties     []party
	aboard      []Recipient
	made        []clerkclient.Invitation
	unreachable bool // a ledger could not be asked
}

// party is some passengers who are told together what became of them.
type party struct {
	seats  []int // of each in the call; notAboard for one who was left behind
	settle func([]Result)
}

const notAboard = -1

// claim chooses who shall be in the call: invite tasks first, then campaigns in turn. The dispatcher is locked.
func (p *passengers) claim(call policy.Call) {
	anybody := func(*rider) bool { return true }
	switch call {
	case policy.CreateCampaign:
		if p.claimFeeds(1, true); len(p.claims) == 0 {
			p.claimFeeds(1, false)
		}
	case policy.Bulk:
		p.claimRiders(policy.BulkSize, func(r *rider) bool { return r.looked && r.rides })
		p.claimFeeds(policy.BulkSize-len(p.riders), false)
	case policy.Create:
		if p.claimRiders(1, func(r *rider) bool { return !r.rides }); len(p.riders) == 0 {
			p.claimRiders(1, anybody)
		}
	default:
		p.claimRiders(1, anybody)
	}
}

func (p *passengers) claimRiders(n int, fits func(*rider) bool) {
	left := make([]*rider, 0, len(p.d.queue))
	for _, r := range p.d.queue {
		if len(p.riders) < n && fits(r) {
			p.riders = append(p.riders, r)
			continue
		}
		left = append(left, r)
	}
	p.d.queue = left
}

// claimFeeds ends the turn of the campaign that gives the last one.
func (p *passengers) claimFeeds(n int, alone bool) {
	feeds := p.d.feeds
	for _, f := range feeds {
		waiting := f.waiting.Ready
		if alone {
			waiting = f.waiting.Alone
		}
		if some := min(n, waiting); some > 0 {
			p.claims = append(p.claims, f.claim(some, alone))
			p.d.feeds = append(without(p.d.feeds, f), f)
			n -= some
		}
	}
}

// fetch lets aboard whom the call has claimed.
func (p *passengers) fetch(ctx context.Context) {
	for _, r := range p.riders {
		p.board([]Recipient{r.Recipient}, func(results []Result) { p.d.settleRider(r, results[0]) })
	}
	for len(p.claims) > 0 {
		c := p.claims[0]
		p.claims = p.claims[1:]
		batch, err := c.fetch(ctx)
		p.unreachable = p.unreachable || err != nil
		if len(batch.Recipients) > 0 {
			p.board(batch.Recipients, batch.Settle)
		}
	}
}

// board gives seats. Two recipients with one address never share a call: the second is left behind.
func (p *passengers) board(recipients []Recipient, settle func([]Result)) {
	seats := make([]int, len(recipients))
	for i, r := range recipients {
		if slices.ContainsFunc(p.aboard, func(other Recipient) bool { return other.folded == r.folded }) {
			seats[i] = notAboard
			continue
		}
		seats[i] = len(p.aboard)
		p.aboard = append(p.aboard, r)
	}
	p.parties = append(p.parties, party{seats: seats, settle: settle})
}

// travel makes the call.
func (p *passengers) travel(ctx context.Context, call policy.Call) (err error) {
	if call != policy.Bulk {
		var inv clerkclient.Invitation
		inv, _, err = p.d.clerk.Create(ctx, p.aboard[0].params)
		p.made = []clerkclient.Invitation{inv}
		return err
	}
	params := make([]*invitation.CreateParams, len(p.aboard))
	for i, r := range p.aboard {
		params[i] = r.params
	}
	p.made, _, err = p.d.clerk.CreateBulk(ctx, params)
	return err
}

// settle tells all what the answer means for them.
func (p *passengers) settle(answer error) {
	results := judge(p.aboard, p.made, answer)
	parties := p.parties
	p.parties = nil
	for _, party := range parties {
		theirs := make([]Result, len(party.seats))
		for i, seat := range party.seats {
			if theirs[i] = (Result{Again: true}); seat != notAboard {
				theirs[i] = results[seat]
			}
		}
		party.settle(theirs)
	}
}

// settleRider tells an invite task what became of its recipient, or lets it wait on.
func (d *Dispatcher) settleRider(r *rider, result Result) {
	if !result.Again {
		r.result <- result
		return
	}
	d.change(func() { d.requeue(r, result.Alone) })
}
