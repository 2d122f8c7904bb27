package ledger_test

import (
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
)

// skippedOf lets a recipient be skipped.
func skippedOf(row ledger.Row) ledger.Outcome {
	cause := fate.Failure{Reason: fate.ReasonRejected, Code: fate.CodeUser}
	decision := fate.Decision{State: row.State, Next: fate.Skipped, Intent: fate.IntentRefused, Cause: &cause}
	return ledger.Outcome{Row: row, Decision: decision, At: time.Now()}
}

// newer are people whose rows earlier versions cannot read.
func newer(from, to int) []ledger.Recipient {
	list := people(from, to)
	for i := range list {
		list[i].Version = 2
	}
	return list
}

// adds wants the counts of a campaign to add up.
func adds(t *testing.T, c ledger.Campaign, recipients, sent, dead, skipped int) {
	t.Helper()
	if c.Recipients != recipients || c.Sent != sent || c.Dead != dead || c.Skipped != skipped ||
		c.Remaining() != recipients-sent-dead-skipped {
		t.Errorf("%d recipients, %d sent, %d dead, %d skipped, %d remaining; want %d, %d, %d, %d", c.Recipients, c.Sent,
			c.Dead, c.Skipped, c.Remaining(), recipients, sent, dead, skipped)
	}
}

func TestASkippedRecipientHasItsOutcome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", newer(0, 3))
	batch := b.take(t, 3, ledger.Waiting, time.Minute)
	b.settle(t, skippedOf(batch.Rows[0]), deadOf(batch.Rows[1], "x"),
		sentAs(batch.Rows[2], fate.IntentMade, "inv_1", time.Now()))
	if p := b.progress(t); p.State != ledger.Finished {
		t.Errorf("%+v", p)
	}
	adds(t, b.get(t, "c"), 3, 1, 1, 1)
	id := batch.Rows[0].ID
	found, err := b.Find(t.Context(), "c", []store.AddressID{id})
	if row := found[id]; err != nil || row.State != ledger.RowSkipped || row.Code != fate.CodeUser {
		t.Errorf("%+v, %v", row, err)
	}
	if upload := b.add(t, "c", newer(0, 3)); upload.Added != 0 || upload.Known != 3 ||
		upload.Campaign.State != ledger.Finished {
		t.Errorf("the same list again: %+v", upload)
	}
	if c, err := b.ReviveOne(t.Context(), "c", id, ledger.Revival{List: ledger.Singles}); err != nil || c.Skipped != 1 {
		t.Errorf("there is nothing to retry: %+v, %v", c, err)
	}
	if _, err := store.NewTombstones(b.rdb, "test").Set(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Erase(t.Context(), id); err != nil || n != 1 {
		t.Errorf("%d erased, %v", n, err)
	}
	adds(t, b.get(t, "c"), 2, 1, 1, 0)
}

// TestACampaignHasTheOldestVersionThatCanReadIt: workers and commands of earlier versions go on with campaigns that ask
// for nothing new.
func TestACampaignHasTheOldestVersionThatCanReadIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	version := func(name string) string {
		return b.rdb.HGet(t.Context(), "test:{once}:c:"+name+":meta", "v").Val()
	}
	b.add(t, "old", people(0, 1))
	b.add(t, "new", append(people(0, 1), newer(1, 2)...))
	if old, young := version("old"), version("new"); old != "1" || young != "2" {
		t.Errorf("versions %s and %s", old, young)
	}
	b.add(t, "new", people(2, 3))
	if young := version("new"); young != "2" {
		t.Errorf("version %s after others were added", young)
	}
}

// TestNobodyOfAnEarlierVersionTakesWhatItCannotRead: a driver of an earlier version looks at its campaign every few
// seconds. Until it has noticed that it was replaced, nobody gets the new recipients.
func TestNobodyOfAnEarlierVersionTakesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	grow := func(b bundle, _ ledger.Row) (ledger.Campaign, error) {
		upload, err := b.Add(t.Context(), "c", time.Time{}, newer(5, 6))
		return upload.Campaign, err
	}
	mend := func(b bundle, dead ledger.Row) (ledger.Campaign, error) {
		as := ledger.Revival{List: ledger.Singles, Recipient: dead.Recipient, ID: dead.ID, Version: 2}
		return b.ReviveOne(t.Context(), "c", dead.ID, as)
	}
	for name, change := range map[string]func(bundle, ledger.Row) (ledger.Campaign, error){"grow": grow, "mend": mend} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.add(t, "c", people(0, 3))
			batch := b.take(t, 1, ledger.Waiting, time.Minute)
			b.settle(t, deadOf(batch.Rows[0], "x"))
			began := time.Now()
			c, err := change(b, batch.Rows[0])
			if err != nil || c.State != ledger.Scheduled || c.Generation != 2 ||
				c.ScheduledAt.Before(began.Add(9*time.Second)) {
				t.Fatalf("%+v, %v: a driver that looks every few seconds may not have noticed", c, err)
			}
			if got := b.take(t, 9, ledger.Waiting, time.Minute); len(got.Rows) != 0 {
				t.Errorf("%d were given out", len(got.Rows))
			}
			if moving := b.rdb.SIsMember(t.Context(), "test:{once}:moving", "c").Val(); !moving {
				t.Error("nobody gives it a driver if its producer dies now")
			}
			if _, err := b.Start(t.Context(), "c"); err != nil {
				t.Fatal(err)
			}
			if got := b.take(t, 9, ledger.Waiting, time.Minute); len(got.Rows) < 2 {
				t.Errorf("%d were given out after it has started", len(got.Rows))
			}
		})
	}
}
