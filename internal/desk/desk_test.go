package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

func TestLettersAreChosenByAllThatIsGiven(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	d.letter(t, "a", "", "x")
	d.letter(t, "b", "spring", "x")
	d.letter(t, "c", "spring", "y")
	for name, c := range map[string]struct {
		chosen Letters
		want   []string
	}{
		"all":              {Letters{}, []string{"a", "b", "c"}},
		"ids, as given":    {Letters{IDs: []string{"c", "a"}}, []string{"c", "a"}},
		"a code":           {Letters{Code: "x"}, []string{"a", "b"}},
		"a campaign":       {Letters{Campaign: "spring"}, []string{"b", "c"}},
		"both":             {Letters{Code: "y", Campaign: "spring"}, []string{"c"}},
		"an id and a code": {Letters{IDs: []string{"a", "c"}, Code: "y"}, []string{"c"}},
		"none":             {Letters{Code: "z"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			_, err := d.EachLetter(t.Context(), c.chosen, func(e deadletter.Entry) error {
				got = append(got, e.ID)
				return nil
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v, %v, want %v", got, err, c.want)
			}
		})
	}
}

// TestAnIdThatIsNotThereStopsNoOther: it is told after them.
func TestAnIdThatIsNotThereStopsNoOther(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	d.letter(t, "a", "", "x")
	n := 0
	count := func(deadletter.Entry) error { n++; return nil }
	_, err := d.EachLetter(t.Context(), Letters{IDs: []string{"nobody", "a", "nor this"}}, count)
	if !errors.Is(err, deadletter.ErrNotFound) || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	stop := errors.New("stop")
	for _, chosen := range []Letters{{}, {IDs: []string{"a"}}} {
		_, err := d.EachLetter(t.Context(), chosen, func(deadletter.Entry) error { return stop })
		if !errors.Is(err, stop) {
			t.Errorf("%v", err)
		}
	}
}

func TestThePaceLooksAtAWindowAtLeast(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	after := func(d time.Duration, sent int) tasks.Campaign {
		return tasks.Campaign{Sent: sent, StartedAt: start, ETA: start.Add(d)} // looked at then
	}
	over := after(9*time.Hour, 600)
	over.FinishedAt = start.Add(2 * time.Hour)
	for name, c := range map[string]struct {
		window time.Duration
		looks  []tasks.Campaign
		want   float64 // at the last look
	}{
		"not started":             {time.Hour, []tasks.Campaign{{Sent: 5}}, 0},
		"in its first window":     {time.Hour, []tasks.Campaign{after(time.Minute, 330)}, 330},
		"since it started":        {time.Hour, []tasks.Campaign{after(2*time.Hour, 600)}, 300},
		"without a limit":         {0, []tasks.Campaign{after(time.Second, 10)}, 3600},
		"over":                    {0, []tasks.Campaign{over}, 300},
		"watched for less":        {2 * time.Hour, []tasks.Campaign{after(time.Hour, 1), after(2*time.Hour, 6)}, 3},
		"the last window":         {time.Hour, []tasks.Campaign{after(time.Hour, 1), after(2*time.Hour, 6)}, 5},
		"the last of two windows": {1, []tasks.Campaign{after(0, 0), after(time.Hour, 1), after(2*time.Hour, 6)}, 5},
	} {
		p, got := pace{window: c.window}, 0.0
		for _, look := range c.looks {
			got = p.perHour(look, look.ETA)
		}
		if math.Abs(got-c.want) > 0.001 {
			t.Errorf("%s: %.1f an hour, want %.0f", name, got, c.want)
		}
	}
}

func TestAWatchBearsWithARedisThatIsAway(t *testing.T) {
	t.Parallel()
	d, server := setup(t)
	p := policy.Policy{Create: settings.Rate{N: 1, Window: time.Hour}, Timeout: time.Second}
	must(t, p.Announce(t.Context(), d.rdb, d.namespace))
	d.campaign(t, "spring", 1)
	looks := 0
	campaign, err := d.Watch(t.Context(), "spring", func(c tasks.Campaign, _ float64) error {
		switch looks++; looks {
		case 1:
			server.SetError("LOADING Redis is loading the dataset in memory")
			time.AfterFunc(300*time.Millisecond, func() { server.SetError("") })
		case 2:
			_, err := d.Cancel(t.Context(), "spring")
			return err
		}
		return nil
	})
	if err != nil || looks != 3 || campaign.State != tasks.CampaignCancelled {
		t.Errorf("%+v, %v after %d looks", campaign, err, looks)
	}
}

func TestAWatchEndsWithItsContextOrItsListener(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	d.campaign(t, "spring", 1)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := d.Watch(ctx, "spring", func(tasks.Campaign, float64) error { cancel(enough); return nil })
	if !errors.Is(err, enough) {
		t.Errorf("%v, want the context's cause", err)
	}
	_, err = d.Watch(t.Context(), "spring", func(tasks.Campaign, float64) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("%v, want the listener's", err)
	}
	if _, err := d.Watch(t.Context(), "nobody", nil); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("%v, want that there is no such campaign", err)
	}
}

// TestWhatBecameOfEverybody looks up more recipients than at once, half of them sent, with what the directory says of
// those.
func TestWhatBecameOfEverybody(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	const n = 2*lookedUp + 3
	d.campaign(t, "spring", n)
	batch, err := d.ledgers.TakeForCall(t.Context(), "spring", n/2, time.Minute, 0, ledger.Waiting)
	must(t, err)
	var outcomes []ledger.Outcome
	for i, row := range batch.Rows {
		id := fmt.Sprintf("inv_%d", i)
		decided := fate.Decision{State: row.State, Next: fate.Sent, Intent: fate.IntentMade, InvitationID: id}
		switch i {
		case 0:
			cause := fate.Failure{Code: "duplicate_record"}
			decided = fate.Decision{State: row.State, Next: fate.Dead, Intent: fate.IntentRefused, Cause: &cause}
		case 1:
			decided.Intent, decided.InvitationID, decided.State.Foreign = fate.IntentRefused, "inv_foreign", true
		}
		outcomes = append(outcomes, ledger.Outcome{Row: row, Decision: decided, At: time.Now()})
	}
	_, err = d.ledgers.Settle(t.Context(), "spring", outcomes)
	must(t, err)
	draft, err := d.Directory.Begin(t.Context())
	must(t, err)
	must(t, draft.Add(t.Context(), []clerkclient.Invitation{{
		ID: "inv_2", EmailAddress: "bulk2@example.com", Status: "accepted", PublicMetadata: json.RawMessage("{}"),
		CreatedAt: time.Now(),
	}}))
	_, _, err = draft.Publish(t.Context())
	must(t, err)
	_, err = d.Cancel(t.Context(), "spring")
	must(t, err)

	counts, all := map[string]int{}, map[string]Recipient{}
	each, err := d.Recipients(t.Context(), "spring")
	must(t, err)
	must(t, each(func(r Recipient) error {
		counts[r.Outcome]++
		all[r.EmailAddress] = r
		return nil
	}))
	if len(all) != n || counts["sent"] != n/2-1 || counts["dead"] != 1 || counts["cancelled"] != n-n/2 {
		t.Errorf("%d recipients, %v", len(all), counts)
	}
	for i, want := range []Recipient{
		{Outcome: "dead", Cause: "duplicate_record"},
		{Outcome: "sent", InvitationID: "inv_foreign"}, // it was there before
		{Outcome: "sent", InvitationID: "inv_2", Attempts: 1, InvitationStatus: "accepted"},
		{Outcome: "sent", InvitationID: "inv_3", Attempts: 1},
	} {
		want.EmailAddress = fmt.Sprintf("bulk%d@example.com", i)
		got := all[want.EmailAddress]
		if got.SettledAt.IsZero() || got.SyncedAt.IsZero() != (want.InvitationID == "") {
			t.Errorf("settled at %s and synced at %s: %+v", got.SettledAt, got.SyncedAt, got)
		}
		if got.SettledAt, got.SyncedAt = want.SettledAt, want.SyncedAt; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	stop := errors.New("stop")
	if err := each(func(Recipient) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if _, err := d.Recipients(t.Context(), "nobody"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
