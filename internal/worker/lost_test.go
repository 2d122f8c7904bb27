package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestManyLostCallsAreAskedAboutTogether: a worker was killed whose calls carried 1200 recipients, every other call
// has worked, and the list is read once for all of them.
func TestManyLostCallsAreAskedAboutTogether(t *testing.T) {
	t.Parallel()
	b, clerk := beside(t, clerktest.Config{}, func(p *policy.Policy) {
		p.Create, p.Bulk = settings.Rate{}, settings.Rate{}
	})
	clerk.SetLimits(clerktest.Limit{}, clerktest.Limit{}, clerktest.Limit{})
	ledgers, ctx := ledger.New(b.rdb, "test"), t.Context()
	var list []ledger.Recipient
	for i := range 1200 {
		address := fmt.Sprintf("p%d@example.com", i)
		data, err := json.Marshal(tasks.Recipient{EmailAddress: address})
		testkit.NoError(t, err)
		list = append(list, ledger.Recipient{Folded: address, Data: data})
	}
	_, err := ledgers.Add(ctx, "c", time.Time{}, list)
	testkit.NoError(t, err)
	for range 6 {
		taken, err := ledgers.TakeForCall(ctx, "c", 200, time.Millisecond, 0, ledger.Waiting)
		if err != nil || len(taken.Rows) != 200 {
			t.Fatalf("%d taken, %v", len(taken.Rows), err)
		}
	}
	for i := 0; i < len(list); i += 2 {
		clerk.AddInvitation(fmt.Sprintf("p%d@example.com", i))
	}
	testkit.NoError(t, b.rdb.HSet(ctx, "test:{once}:c:c:meta", "lease_until", 0).Err()) // the sweep finds it at once
	testkit.Eventually(t, "the campaign has finished", func() bool {
		c, err := b.client.Campaign(ctx, "c")
		return err == nil && c.State == tasks.CampaignFinished && c.Sent == len(list)
	})
	if made := len(clerk.Invitations()); made != len(list) {
		t.Errorf("%d invitations for %d recipients", made, len(list))
	}
	reads := 0
	for _, r := range clerk.Requests() {
		if r.Method == "GET" {
			reads++
		}
	}
	if reads > 2*(2+1) { // two pages and the revoked ones; and once more, if the second question takes the rest
		t.Errorf("%d calls to ask about %d recipients", reads, len(list))
	}
}

// slowlyPending lists the invitations of lost calls at once, and pending ones of an address when it is told to.
type slowlyPending struct {
	fakeClerk
	made []clerkclient.Invitation
	tell chan struct{}
}

func (s *slowlyPending) List(
	ctx context.Context, q clerkclient.ListQuery,
) (page clerkclient.Page, _ clerkclient.Answer, _ error) {
	switch q.Status {
	case "":
		page.Invitations = s.made
	case "pending":
		select {
		case <-s.tell:
		case <-ctx.Done():
		}
		page.Invitations = []clerkclient.Invitation{{ID: "inv_of_" + q.Query, EmailAddress: q.Query}}
	}
	return page, clerkclient.Answer{}, nil
}

// TestDuplicatesKeepNobodyWaiting who was asked about by the same question, and each of them is dealt with as the
// campaign stands by then.
func TestDuplicatesKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	clerk := &slowlyPending{tell: make(chan struct{}), made: []clerkclient.Invitation{
		{ID: "inv_lost", EmailAddress: "lost@example.com", CreatedAt: time.Now().Add(time.Minute)},
	}}
	b := setup(t, clerk, func(p *policy.Policy) {
		p.Create, p.Bulk, p.Timeout = settings.Rate{}, settings.Rate{}, time.Hour
	})
	ledgers, ctx := ledger.New(b.rdb, "test"), t.Context()
	var list []ledger.Recipient
	for _, name := range []string{"lost", "first", "second"} {
		data, err := json.Marshal(tasks.Recipient{EmailAddress: name + "@example.com", OnDuplicate: "accept"})
		testkit.NoError(t, err)
		list = append(list, ledger.Recipient{Folded: name + "@example.com", Data: data})
	}
	_, err := ledgers.Add(ctx, "c", time.Time{}, list)
	testkit.NoError(t, err)
	taken, err := ledgers.TakeForCall(ctx, "c", 3, time.Minute, 0, ledger.Waiting)
	testkit.NoError(t, err)
	var outcomes []ledger.Outcome
	for _, row := range taken.Rows {
		o := ledger.Outcome{Row: row, Decision: fate.Decision{Next: fate.Ask, Intent: fate.IntentUnknown}, Behind: true}
		if !strings.Contains(string(row.Recipient), "lost") {
			o.Decision.Next, o.Decision.State.Foreign = fate.Overcome, true
			o.Decision.State.Refusal = &fate.Failure{Code: fate.CodeDuplicate}
		}
		outcomes = append(outcomes, o)
	}
	_, err = ledgers.Settle(ctx, "c", outcomes)
	testkit.NoError(t, err)
	testkit.NoError(t, b.rdb.HSet(ctx, "test:{once}:c:c:meta", "lease_until", 0).Err())
	sent := func(n int) func() bool {
		return func() bool {
			c, err := b.client.Campaign(ctx, "c")
			return err == nil && c.Sent == n
		}
	}
	testkit.Eventually(t, "the one whose call has worked is sent", sent(1))
	_, err = b.client.Pause(ctx, "c")
	testkit.NoError(t, err)
	testkit.Eventually(t, "the driver has seen the pause", func() bool {
		return strings.Contains(b.log.String(), "campaign is paused")
	})
	clerk.tell <- struct{}{}
	testkit.Eventually(t, "the duplicate that was dealt with is sent", sent(2))
	testkit.Eventually(t, "the other one waits", func() bool {
		return b.rdb.ZCard(ctx, "test:{once}:c:c:later").Val() == 1
	})
	close(clerk.tell)
	_, err = b.client.Resume(ctx, "c")
	testkit.NoError(t, err)
	testkit.Eventually(t, "all are sent", sent(3))
}

// silentClerk never answers a question.
type silentClerk struct {
	fakeClerk
	asked chan struct{}
}

func (s *silentClerk) List(
	ctx context.Context, _ clerkclient.ListQuery,
) (page clerkclient.Page, _ clerkclient.Answer, _ error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return page, clerkclient.Answer{}, ctx.Err()
}

// TestADriverThatWasReplacedAsksNoMore: its successor asks about the same recipients.
func TestADriverThatWasReplacedAsksNoMore(t *testing.T) {
	t.Parallel()
	clerk := &silentClerk{asked: make(chan struct{}, 1)}
	b := setup(t, clerk, func(p *policy.Policy) { p.Timeout = time.Hour })
	ledgers, ctx := ledger.New(b.rdb, "test"), t.Context()
	data, err := json.Marshal(tasks.Recipient{EmailAddress: "ada@example.com"})
	testkit.NoError(t, err)
	_, err = ledgers.Add(ctx, "c", time.Time{}, []ledger.Recipient{{Folded: "ada@example.com", Data: data}})
	testkit.NoError(t, err)
	_, err = ledgers.TakeForCall(ctx, "c", 1, time.Millisecond, 0, ledger.Waiting)
	testkit.NoError(t, err)
	meta := "test:{once}:c:c:meta"
	testkit.NoError(t, b.rdb.HSet(ctx, meta, "lease_until", 0).Err())
	<-clerk.asked
	testkit.NoError(t, b.rdb.HIncrBy(ctx, meta, "generation", 1).Err())
	testkit.Eventually(t, "its task has ended", func() bool {
		return strings.Contains(b.log.String(), "another task drives the campaign") &&
			b.rdb.LLen(ctx, "asynq:{test:campaign}:active").Val() == 0
	})
}
