package worker

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
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
	b, clerk := beside(t, clerktest.Config{}, func(p *policy.Policy) { p.Create, p.Bulk = settings.Rate{}, settings.Rate{} })
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
		taken, err := ledgers.TakeForCall(ctx, "c", 200, time.Millisecond, 0, ledger.InBulk)
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
