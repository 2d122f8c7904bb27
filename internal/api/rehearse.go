package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// typeDryRun is the type of a task that asks Clerk about a list. The server carries it out itself.
const typeDryRun = "dry-run"

const (
	rehearsalLease = time.Minute    // how long one is known whose server has died
	rehearsalKeep  = 24 * time.Hour // how long what it has found is kept
)

// Rehearsal is what would become of a list, as Clerk says.
type Rehearsal struct {
	Campaign      string            `json:"campaign"`
	Recipients    int               `json:"recipients"`
	WouldSend     int               `json:"would_send"`
	Skipped       int               `json:"skipped"`
	Known         int               `json:"known"`
	Forgotten     int               `json:"forgotten"`
	Refused       int               `json:"refused"`
	RefusedByCode map[string]int    `json:"refused_by_code"`
	RefusedRows   []desk.RefusedRow `json:"refused_rows" nullable:"false" doc:"The first 1,000."`
	Unknown       int               `json:"unknown" doc:"Clerk could not be asked about them."`
	FinishAt      *time.Time        `json:"finish_at"`
	Assumption    *string           `json:"assumption"`
}

// rehearse answers a dry run of an upload.
func (s *Server) rehearse(
	ctx context.Context, a *asker, in *uploadInput, file peoplefile.File, at time.Time,
) (*uploadOutput, error) {
	r, fresh, err := a.desk.CheckBulk(ctx, in.Name, file.Rows, at)
	if err != nil {
		return nil, err
	}
	if in.DryRun == "true" {
		return &uploadOutput{Status: http.StatusOK, Body: Checked{
			DryRun: true, Campaign: in.Name, Recipients: len(file.Rows), WouldAdd: fresh, Known: r.Known,
			Forgotten: r.Forgotten, Invalid: file.BadRows(), InvalidRows: firstFaults(file), ScheduledAt: instant(at),
			Duplicates: len(file.Duplicates), Understood: understood(file),
		}}, nil
	}
	if s.Clerk.Key == "" {
		return nil, problem(http.StatusConflict, noClerkKey, "the server has no key to ask Clerk with (CLERK_SECRET_KEY)")
	}
	release, err := s.db.Take(ctx, record.OwnedID(a.name, "dry-run"))
	if errors.Is(err, store.ErrBusy) {
		return nil, problem(http.StatusTooManyRequests, busy, "another dry run of this token asks Clerk").after(5)
	}
	if err != nil {
		return nil, err
	}
	task := Task{
		TaskID: record.OwnedID(a.name, uuid.NewString()), Type: typeDryRun, State: string(tasks.StateActive),
		Token: known(a.name), EnqueuedAt: instant(time.Now().Truncate(time.Millisecond)),
	}
	if err := s.noteRehearsal(ctx, task, rehearsalLease); err != nil {
		release()
		return nil, err
	}
	s.work.Go(func() {
		defer release()
		s.askClerk(a, task, in.Name, file, at)
	})
	return &uploadOutput{Status: http.StatusAccepted, Location: taskPath(task.TaskID), Body: Created{Task: task}}, nil
}

// askClerk carries out a dry run, and notes what it has found.
func (s *Server) askClerk(a *asker, task Task, campaign string, file peoplefile.File, at time.Time) {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	alive := time.NewTicker(rehearsalLease / 4)
	defer alive.Stop()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-alive.C:
				_ = s.db.PExpire(ctx, s.db.Key.Rehearsal(task.TaskID), rehearsalLease).Err()
			}
		}
	}()
	r, err := a.desk.RehearseBulk(ctx, s.Clerk, campaign, file.Rows, at, nil)
	cancel()
	switch {
	case s.life.Err() != nil:
		task.State = string(tasks.StateCancelled)
	case err != nil:
		task.State = string(tasks.StateDead)
		task.Error = maybe[Cause]{&Cause{Code: known("failed"), Message: known(problemOf(err).Detail)}}
	default:
		task.State = string(tasks.StateDone)
		task.DryRun = &Rehearsal{
			Campaign: campaign, Recipients: len(file.Rows), WouldSend: r.Send, Skipped: r.Skipped(), Known: r.Known,
			Forgotten: r.Forgotten, Refused: len(r.Refused), RefusedByCode: r.RefusedByCode,
			RefusedRows: r.Refused[:min(mostFaults, len(r.Refused))], Unknown: r.Unknown,
			FinishAt: instant(r.Forecast.ETA), Assumption: known(r.Forecast.Assumption),
		}
	}
	last, end := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer end()
	if err := s.noteRehearsal(last, task, rehearsalKeep); err != nil {
		s.Log.Warn().Str("id", task.TaskID).Msg("what a dry run has found could not be kept")
	}
}

func (s *Server) noteRehearsal(ctx context.Context, task Task, keep time.Duration) error {
	data, err := json.Marshal(task)
	if err != nil {
		return err
	}
	return s.db.Set(ctx, s.db.Key.Rehearsal(task.TaskID), data, keep).Err()
}

// rehearsal gives a dry run that asks Clerk, and false if there is none with this id.
func (s *Server) rehearsal(ctx context.Context, id string) (task Task, known bool, err error) {
	data, err := s.db.Get(ctx, s.db.Key.Rehearsal(id)).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return task, false, nil
	case err != nil:
		return task, false, err
	}
	return task, true, json.Unmarshal(data, &task)
}
