package page

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/usher/internal/ask"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/kept"
)

const (
	// rehearsals is how many lists a worker asks Clerk about at a time.
	rehearsals = 4
	// tellEvery is how often it is noted how far Clerk has answered, and silence after how long without a note the
	// worker that asks counts as gone.
	tellEvery = time.Second
	silence   = time.Minute
	// mostRefused is how many refused rows a page shows.
	mostRefused = 100
)

// The states of what Clerk is asked about a list.
const (
	asking  = "asking"
	done    = "done"
	failed  = "failed"
	unasked = "unasked" // there is nobody to ask about
)

// answers are what Clerk has said about a list.
type answers struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
	ask.Progress
	Send, Skipped, Refused, Unknown int
	ByCode                          map[string]int
	Rows                            []desk.RefusedRow
	FinishAt                        time.Time
	Assumption                      string
	Why                             string // it failed
}

// settle corrects what a worker that is gone has left.
func (a *answers) settle() {
	switch {
	case a.State == "":
		a.State = unasked
	case a.State == asking && time.Since(a.At) > silence:
		a.State, a.Why = failed, "The worker that asked Clerk has stopped."
	}
}

// askAbout asks Clerk about the rows of a list, and notes the answers with the list. It goes on after the visit.
func (s *Server) askAbout(list *kept.List, d *desk.Desk, check listCheck, rows []peoplefile.Row) {
	if len(rows) == 0 || s.Clerk == nil {
		return
	}
	select {
	case s.asks <- struct{}{}:
	default:
		s.note(s.life, list, answers{State: failed, Why: "This worker asks Clerk about other lists at present."})
		return
	}
	s.note(s.life, list, answers{State: asking})
	s.work.Go(func() {
		defer func() { <-s.asks }()
		s.rehearse(list, d, check, rows)
	})
}

// rehearse asks, and tells every moment how far it has come.
func (s *Server) rehearse(list *kept.List, d *desk.Desk, check listCheck, rows []peoplefile.Row) {
	ctx, cancel := context.WithTimeout(s.life, kept.For)
	defer cancel()
	var mu sync.Mutex
	now := answers{State: asking}
	var telling sync.WaitGroup
	telling.Go(func() {
		for policy.Sleep(ctx, tellEvery) == nil {
			mu.Lock()
			a := now
			mu.Unlock()
			if errors.Is(s.note(ctx, list, a), kept.ErrGone) { // nobody waits for the answers any more
				cancel()
			}
		}
	})
	a := s.rehearsed(ctx, d, check, rows, func(p ask.Progress) {
		mu.Lock()
		defer mu.Unlock()
		now.Progress = p
	})
	cancel()
	telling.Wait()
	last, end := context.WithTimeout(context.WithoutCancel(ctx), formTime)
	defer end()
	s.note(last, list, a)
}

// rehearsed gives what Clerk says in the end.
func (s *Server) rehearsed(
	ctx context.Context, d *desk.Desk, check listCheck, rows []peoplefile.Row, told func(ask.Progress),
) answers {
	var r *desk.Rehearsal
	clerk, err := s.Clerk()
	if err == nil {
		r, err = d.RehearseBulk(ctx, clerk, check.Campaign, rows, check.start(), told)
	}
	if err == nil && r == nil {
		err = errors.New("the worker has no key to ask Clerk with")
	}
	if err != nil {
		_, words := desk.Explain(err)
		return answers{State: failed, Why: sentence(words)}
	}
	a := answers{
		State: done, Send: r.Send, Skipped: r.Skipped(), Refused: len(r.Refused), Unknown: r.Unknown,
		ByCode: r.RefusedByCode, Rows: firstOf(r.Refused, mostRefused), FinishAt: r.Forecast.ETA,
		Assumption: r.Forecast.Assumption,
	}
	if r.Why != nil {
		_, words := desk.Explain(r.Why)
		a.Why = sentence(words)
	}
	return a
}

// note keeps answers with the list.
func (s *Server) note(ctx context.Context, list *kept.List, a answers) error {
	a.At = time.Now().UTC()
	err := list.Note(ctx, kept.Answers, a)
	if err != nil && !errors.Is(err, kept.ErrGone) && ctx.Err() == nil {
		s.Log.Warn().Err(err).Msg("what Clerk says about a list could not be noted")
	}
	return err
}
