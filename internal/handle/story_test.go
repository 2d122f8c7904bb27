package handle

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

// teller is a story, and what it has told.
type teller struct {
	story
	log      *testkit.Buffer
	asked    int
	forecast forecast.Forecast
	now      time.Time
}

func newTeller() *teller {
	t := &teller{log: new(testkit.Buffer), now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	t.story = story{
		log: zerolog.New(t.log).Level(zerolog.InfoLevel),
		foretell: func(context.Context) (forecast.Forecast, error) {
			t.asked++
			return t.forecast, nil
		},
	}
	return t
}

// after lets time pass and the driver look, once a second.
func (t *teller) after(d time.Duration, p ledger.Progress) {
	for end := t.now.Add(d); t.now.Before(end); {
		t.now = t.now.Add(time.Second)
		t.look(context.Background(), t.now, p)
	}
}

// told are the messages, each with who or why.
func (t *teller) told() (lines []string) {
	for line := range strings.Lines(t.log.String()) {
		var fields struct{ Message, By, Why string }
		_ = json.Unmarshal([]byte(line), &fields)
		lines = append(lines, strings.TrimSpace(fields.Message+" "+fields.By+fields.Why))
	}
	return lines
}

func running(sent, dead int) ledger.Progress {
	return ledger.Progress{State: ledger.Running, Recipients: 100_000, Sent: sent, Dead: dead}
}

// TestALongCampaignIsToldInAFewLines: a campaign that waits for hundreds of windows, is paused, and stands still.
func TestALongCampaignIsToldInAFewLines(t *testing.T) {
	t.Parallel()
	s := newTeller()
	s.begin(ledger.Campaign{Recipients: 100_000}, true)
	usedUp := func() forecast.Forecast {
		closed := &forecast.Standstill{
			Reason: forecast.ClosedWindow, Until: s.now.Add(time.Hour), Message: "the limits are used up",
		}
		return forecast.Forecast{Standstill: closed, ETA: s.now.Add(9 * time.Hour)}
	}
	for sent := 250; sent <= 20_000; sent += 250 {
		s.after(time.Second, running(sent, 0))
		s.forecast = usedUp()
		s.after(5*time.Minute, running(sent, 0))
	}
	if asked := s.asked; asked > 80 {
		t.Errorf("Redis was asked %d times in 80 windows", asked)
	}
	paused := running(20_000, 0)
	paused.State, paused.By = ledger.Paused, "ada@desk"
	s.after(time.Hour, paused)
	resumed := running(20_000, 0)
	resumed.By = "bob@desk"
	s.forecast = forecast.Forecast{Standstill: &forecast.Standstill{
		Reason: forecast.Endpoint, Message: "Clerk serves nobody: 503",
	}}
	s.after(time.Hour, resumed)
	s.forecast = forecast.Forecast{}
	s.after(time.Second, running(25_000, 0))
	s.after(time.Second, running(74_000, 1_500))
	end := ledger.Campaign{State: ledger.Finished, StartedAt: s.now.Add(-time.Hour), FinishedAt: s.now}
	s.end(end, running(98_000, 2_000))
	want := []string{
		"campaign started", "campaign waits: its window is closed the limits are used up", "campaign is paused ada@desk",
		"campaign is resumed bob@desk", "campaign stands still Clerk serves nobody: 503",
		"campaign moves again", "campaign is at a quarter", "campaign is at three quarters", "campaign ended",
	}
	if told := s.told(); !slices.Equal(told, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	if last := s.log.String(); !strings.Contains(last, `"duration_seconds":3600,`) ||
		!strings.Contains(last, `"sent":98000,"dead":2000,"skipped":0,"remaining":0,"outcome":"finished"`) {
		t.Errorf("%s", last)
	}
}

// TestEachQuarterIsTold, and until when a window is closed.
func TestEachQuarterIsTold(t *testing.T) {
	t.Parallel()
	s := newTeller()
	s.begin(ledger.Campaign{Recipients: 100_000}, true)
	for _, sent := range []int{10_000, 25_000, 49_000, 50_000, 75_000, 99_000} {
		s.after(time.Second, running(sent, 0))
	}
	until := time.Date(2026, 11, 28, 13, 0, 0, 0, time.UTC)
	s.forecast.Standstill = &forecast.Standstill{Reason: forecast.ClosedWindow, Until: until, Message: "used up"}
	s.after(5*time.Second, running(99_000, 0))
	want := []string{
		"campaign started", "campaign is at a quarter", "campaign is at a half", "campaign is at three quarters",
		"campaign waits: its window is closed used up",
	}
	if told := s.told(); !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if log := s.log.String(); !strings.Contains(log, `"until":"2026-11-28T13:00:00Z"`) {
		t.Errorf("it is not said until when: %s", log)
	}
}

// TestANewDriverTellsOnlyWhatIsNew: its predecessor has told the rest.
func TestANewDriverTellsOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	s := newTeller()
	s.begin(ledger.Campaign{Recipients: 100_000, Sent: 60_000}, false)
	s.after(time.Second, running(60_000, 0))
	s.after(time.Second, running(80_000, 0))
	cancelled := running(80_000, 0)
	cancelled.State, cancelled.By = ledger.Cancelled, "ada@desk"
	s.after(time.Second, cancelled)
	s.end(ledger.Campaign{State: ledger.Cancelled}, cancelled)
	want := []string{"campaign goes on", "campaign is at three quarters", "campaign ended ada@desk"}
	if told := s.told(); !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// TestAShortPauseIsToldToo: it began and ended between two looks.
func TestAShortPauseIsToldToo(t *testing.T) {
	t.Parallel()
	s := newTeller()
	s.begin(ledger.Campaign{Recipients: 100_000}, true)
	look := func(state ledger.State, by string, resumes int) {
		p := running(1, 0)
		p.State, p.By, p.Resumes = state, by, resumes
		s.after(time.Second, p)
	}
	look(ledger.Running, "", 2) // an earlier driver has told of these
	look(ledger.Running, "ada@desk", 3)
	look(ledger.Running, "ada@desk", 3)
	look(ledger.Paused, "bob@desk", 3)
	look(ledger.Running, "eve@desk", 4)
	want := []string{
		"campaign started", "campaign was paused and is resumed ada@desk", "campaign is paused bob@desk",
		"campaign is resumed eve@desk",
	}
	if told := s.told(); !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// TestHowLongACampaignRan: what was before it was reopened does not count.
func TestHowLongACampaignRan(t *testing.T) {
	t.Parallel()
	at := func(hour int) time.Time { return time.Date(2026, 11, 28, hour, 0, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		c    ledger.Campaign
		want time.Duration
	}{
		"never began": {ledger.Campaign{FinishedAt: at(9)}, 0},
		"once":        {ledger.Campaign{StartedAt: at(1), FinishedAt: at(9)}, 8 * time.Hour},
		"reopened":    {ledger.Campaign{StartedAt: at(1), ReopenedAt: at(7), FinishedAt: at(9)}, 2 * time.Hour},
		"reopened for later": {ledger.Campaign{StartedAt: at(1), ReopenedAt: at(7), ScheduledAt: at(8),
			FinishedAt: at(9)}, time.Hour},
	} {
		if got := test.c.Ran(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
