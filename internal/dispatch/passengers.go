package dispatch

import (
	"context"
	"slices"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/google/uuid"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/intent"
)

// passengers are who is in a call.
type passengers struct {
	d           *Dispatcher
	riders      []*rider // chosen, and not yet aboard, left behind or refused
	claims      []claim  // chosen, and not yet taken
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
			r.waited = time.Since(r.since)
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

// fetch lets aboard whom the call has chosen and whose address can be claimed for it.
func (p *passengers) fetch(ctx context.Context) {
	p.fetchRiders(ctx)
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

func (p *passengers) fetchRiders(ctx context.Context) {
	var wishes []intent.Wish
	var riders []*rider
	for _, r := range slices.Clone(p.riders) {
		if slices.ContainsFunc(wishes, func(other intent.Wish) bool { return other.Address == r.wish.Address }) {
			p.leaveBehind(r)
			continue
		}
		wishes, riders = append(wishes, r.wish), append(riders, r)
	}
	if len(wishes) == 0 {
		return
	}
	deadline, _ := ctx.Deadline()
	claims, err := p.d.intents.Claim(ctx, "t"+uuid.NewString(), time.Until(deadline), wishes)
	if err != nil {
		p.d.log.Warn().Err(err).Msg("no address claimed: Redis cannot answer")
		p.unreachable = true
	}
	for i, r := range riders {
		switch {
		case err != nil:
			p.leaveBehind(r)
		case claims[i].Verdict != intent.Granted:
			p.riders = without(p.riders, r)
			r.result <- Result{Claim: claims[i]}
		default:
			r.claim = claims[i]
			p.riders = without(p.riders, r)
			p.board([]Recipient{r.Recipient}, func(results []Result) { p.d.settleRider(r, results[0]) })
		}
	}
}

// leaveBehind lets an invite wait again that has not been in the call.
func (p *passengers) leaveBehind(r *rider) {
	p.riders = without(p.riders, r)
	p.d.change(func() { p.d.requeue(r) })
}

// giveUp lets everybody wait again who was chosen for a call that panicked before they were in it.
func (p *passengers) giveUp() {
	if len(p.riders) > 0 {
		_ = clock.Sleep(p.d.caller.Life, policy.RedisRest) // it may panic again
	}
	for _, r := range slices.Clone(p.riders) {
		p.leaveBehind(r)
	}
	for _, c := range p.claims {
		c.taken()
		c.feed.calls.Done()
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
func (p *passengers) travel(ctx context.Context, call policy.Call) error {
	if call != policy.Bulk {
		inv, answer, err := p.d.clerk.Create(ctx, p.aboard[0].params)
		p.d.questions.NoteDate(answer.Date)
		p.made = []clerkclient.Invitation{inv}
		return err
	}
	params := make([]*invitation.CreateParams, len(p.aboard))
	for i, r := range p.aboard {
		params[i] = r.params
	}
	made, answer, err := p.d.clerk.CreateBulk(ctx, params)
	p.d.questions.NoteDate(answer.Date)
	p.made = made
	return err
}

// settle tells all what the answer means for them.
func (p *passengers) settle(answer error) {
	results := judge(p.aboard, p.made, answer)
	for len(p.parties) > 0 {
		party := p.parties[0]
		p.parties = p.parties[1:] // first: if settling panics, the others are told all the same
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
	result.Claim = r.claim
	if !result.Again {
		r.result <- result
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), policy.SettleGrace)
	defer cancel()
	err := d.intents.Settle(ctx, intent.Settlement{Wish: r.wish, Token: r.claim.Token, End: r.claim.Release()})
	if err != nil { // it is asked about when its deadline has passed
		d.log.Warn().Err(err).Msg("claim could not be given back")
	}
	d.change(func() { d.requeue(r) })
}
