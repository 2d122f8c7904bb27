package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/tokens"
	"example.com/usher/tasks"
)

// TaskIDPath is the id of a task in a path.
type TaskIDPath struct {
	ID string `path:"id" maxLength:"300" example:"http~signup~4bf92f3577b34da6a3ce929d0e0e4736"`
}

type taskInput struct {
	TaskIDPath
	Wait string `query:"wait" maxLength:"20" example:"30s" doc:"Answer when it has ended, or after so long: at most 60s."`
}

type taskOutput struct {
	Replayed string `header:"Idempotency-Replayed"`
	Body     Task
}

// mostWait is the longest wait for the end of a task.
const mostWait = 60 * time.Second

// tasks adds the operations about tasks.
func (s *Server) tasks() {
	register(s, huma.Operation{
		OperationID: "task", Method: http.MethodGet, Path: "/v1/tasks/{id}", Tags: []string{"read"},
		Summary:     "Show a task, or wait until it has ended",
		Description: "A task of another token is found only by one that may operate.",
	}, []tokens.Scope{tokens.Enqueue, tokens.Read, tokens.Operate}, s.task)
	type cancelInput struct {
		Keyed
		TaskIDPath
	}
	register(s, huma.Operation{
		OperationID: "cancel-task", Method: http.MethodPost, Path: "/v1/tasks/{id}/cancel", Tags: []string{"operate"},
		Summary: "Cancel a task that has not ended",
	}, []tokens.Scope{tokens.Operate}, func(ctx context.Context, a *asker, in *cancelInput) (*taskOutput, error) {
		show := func(t tasks.Task, err error) (*taskOutput, error) { return &taskOutput{Body: a.task(t)}, err }
		out, replayed, err := act(ctx, s, a, nil, func() (*taskOutput, string, error) {
			out, err := show(a.desk.CancelTask(ctx, in.ID))
			return out, "", err
		}, func(string) (*taskOutput, error) { return show(a.desk.Status(ctx, in.ID)) })
		if replayed && err == nil {
			out.Replayed = "true"
		}
		return out, err
	})
}

// task shows a task, once it has ended if that is asked.
func (s *Server) task(ctx context.Context, a *asker, in *taskInput) (*taskOutput, error) {
	wait := time.Duration(0)
	if in.Wait != "" {
		var err error
		if wait, err = settings.Duration("wait", in.Wait); err != nil || wait > mostWait {
			return nil, &tasks.InvalidError{Index: -1, Field: "wait", Reason: "is not a duration of at most 60s, such as 30s"}
		}
	}
	if !a.sees(record.OwnerOf(in.ID)) {
		return nil, tasks.ErrNotFound // as if there were none
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)() // whoever waits is told how it stands when the server stops
	dry, isDry, err := s.awaitRehearsal(ctx, waiting, in.ID)
	if err != nil || isDry {
		return &taskOutput{Body: dry}, err
	}
	t, err := a.desk.Status(ctx, in.ID)
	if err == nil && wait > 0 && !t.State.Ended() {
		var ended tasks.Task
		if ended, err = a.desk.Wait(waiting, in.ID); err == nil {
			t = ended
		} else if ctx.Err() == nil && waiting.Err() != nil {
			t, err = a.desk.Status(ctx, in.ID)
		}
	}
	if errors.Is(err, tasks.ErrNotFound) {
		return nil, tasks.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	v := a.task(t)
	if !t.State.Ended() {
		w, err := a.desk.Waiting(ctx, t)
		if err != nil {
			return nil, err
		}
		stands := standstill(w.Standstill)
		v.Standstill, v.Ahead, v.ETA = &stands, &w.Ahead, instant(w.ETA)
	}
	return &taskOutput{Body: v}, nil
}

// awaitRehearsal gives a dry run that asks Clerk once it has ended or waiting is over.
func (s *Server) awaitRehearsal(ctx, waiting context.Context, id string) (task Task, is bool, err error) {
	if strings.Count(id, "~") != 2 {
		return task, false, nil // not one of ours
	}
	for pause := 50 * time.Millisecond; ; pause = min(pause*3/2, time.Second) {
		task, is, err = s.rehearsal(ctx, id)
		if err != nil || !is || tasks.State(task.State).Ended() {
			return task, is, err
		}
		select {
		case <-waiting.Done():
			return task, is, nil
		case <-time.After(pause):
		}
	}
}
