package handle

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/store/ledger"
)

const (
	// storyQuiet is how long a campaign makes no progress before its driver looks why.
	storyQuiet = 2 * time.Second
	// storyAgain is how soon it looks again if nothing tells when the next call is, and how soon the same standstill
	// is news again.
	storyAgain = time.Minute
	// deadTold is how many dead recipients of a campaign have a line each.
	deadTold = 10
)

// story tells of one campaign in about ten lines at level info, however many recipients it has: that it started, that
// it waits and until when, a quarter, a half, three quarters, that somebody paused it, that it stands still and why,
// and how it ended. Its driver alone tells it, so each line is there once, however many workers run.
type story struct {
	log      zerolog.Logger
	foretell func(context.Context) (forecast.Forecast, error)

	begun   bool
	state   ledger.State // as told last
	resumes int          // that were told, or that an earlier driver has told
	quarter int          // that was told last
	window  bool         // that it waits for a window was told in this quarter

	settled int       // recipients that had their outcome at the last look
	quiet   time.Time // since when there are no more
	next    time.Time // when to look again why

	still     string    // the standstill that lasts; empty if there is none
	stillAt   time.Time // when it was told
	lastStill string    // the standstill that was told last
}

// begin tells that the campaign is driven: for the first time, or by another driver, or since it was reopened.
func (s *story) begin(head ledger.Campaign, first bool) {
	message := "campaign goes on"
	if first {
		message = "campaign started"
	}
	s.log.Info().Int("recipients", head.Recipients).Int("remaining", head.Remaining()).Msg(message)
}

// look tells what is new about the campaign.
func (s *story) look(ctx context.Context, now time.Time, p ledger.Progress) {
	if !s.begun { // what an earlier driver has told
		s.begun, s.state, s.settled, s.quiet, s.quarter = true, p.State, p.Settled(), now, quarterOf(p)
		s.resumes = p.Resumes
		if s.state == ledger.Paused {
			s.state = ledger.Running // that it is paused is told again
		}
	}
	if p.Settled() != s.settled {
		s.settled, s.quiet, s.next = p.Settled(), now, time.Time{}
		s.moves(now)
	}
	s.changed(p)
	if p.State != ledger.Running {
		s.quiet = now
		return
	}
	if q := quarterOf(p); q > s.quarter && q < 4 {
		s.quarter, s.window = q, false
		s.counts(p).Msg("campaign is at " + [...]string{"", "a quarter", "a half", "three quarters"}[q])
	}
	if now.Sub(s.quiet) >= storyQuiet && !now.Before(s.next) {
		s.why(ctx, now)
	}
}

// quarterOf is how many quarters of the recipients have their outcome.
func quarterOf(p ledger.Progress) int { return 4 * p.Settled() / max(1, p.Recipients) }

// counts begins a line with the campaign's counts.
func (s *story) counts(p ledger.Progress) *zerolog.Event {
	return s.log.Info().Int("recipients", p.Recipients).Int("sent", p.Sent).Int("dead", p.Dead).
		Int("skipped", p.Skipped).Int("remaining", p.Recipients-p.Settled())
}

// changed tells that the campaign was paused or resumed, and by whom, or both since the last look.
func (s *story) changed(p ledger.Progress) {
	between := p.Resumes > s.resumes && s.state == ledger.Running && p.State == ledger.Running
	s.resumes = p.Resumes
	if p.State == s.state && !between || p.State != ledger.Paused && p.State != ledger.Running {
		return
	}
	message := "campaign is paused"
	switch {
	case between:
		message = "campaign was paused and is resumed"
	case p.State == ledger.Running:
		message = "campaign is resumed"
	}
	s.state = p.State
	withActor(s.counts(p), p).Msg(message)
}

// withActor adds who paused, resumed or cancelled the campaign, if that is known.
func withActor(line *zerolog.Event, p ledger.Progress) *zerolog.Event {
	if p.By == "" {
		return line
	}
	return line.Str("by", p.By)
}

// why finds out why the campaign makes no progress, and tells it if that is new.
func (s *story) why(ctx context.Context, now time.Time) {
	f, err := s.foretell(ctx)
	s.next = now.Add(storyAgain)
	stands := f.Standstill
	if err != nil || stands == nil || stands.Reason == forecast.LookUp {
		return
	}
	if stands.Usual() && !stands.Until.IsZero() {
		s.next = stands.Until.Add(storyQuiet)
	}
	reason, message := stands.Message, "campaign stands still"
	switch {
	case reason == s.still, stands.Usual() && s.window, reason == s.lastStill && now.Sub(s.stillAt) < storyAgain:
		return
	case stands.Usual():
		s.window, message = true, "campaign waits: its window is closed"
	default:
		if s.still == "" {
			s.stillAt = now
		}
		s.still, s.lastStill = reason, reason
	}
	line := s.log.Info().Str("why", reason)
	if f.Unsure > 0 {
		line = line.Int("unsure", f.Unsure)
	}
	if !stands.Until.IsZero() {
		line = line.Time("until", stands.Until.UTC())
	}
	if !f.ETA.IsZero() {
		line = line.Time("eta", f.ETA.UTC())
	}
	line.Msg(message)
}

// moves tells that a standstill is over.
func (s *story) moves(now time.Time) {
	if s.still != "" {
		s.log.Info().Float64("stood_seconds", now.Sub(s.stillAt).Seconds()).Msg("campaign moves again")
	}
	s.still = ""
}

// end tells how the campaign has ended, and for how long it has run.
func (s *story) end(head ledger.Campaign, p ledger.Progress) {
	line := s.counts(p).Str("outcome", string(head.State))
	if head.State == ledger.Cancelled {
		line = withActor(line, p)
	}
	line.Float64("duration_seconds", head.Ran().Seconds()).Msg("campaign ended")
}
