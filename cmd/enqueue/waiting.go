package main

import (
	"context"
	"strings"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/tasks"
)

// standstillView is what a program is shown of a standstill; nothing if there is none.
func standstillView(s *tasks.Standstill) any {
	if s == nil {
		return nil
	}
	return view{"reason": s.Reason, "since": known(s.Since), "until": known(s.Until), "message": s.Message}
}

// standstillWords are what a person is told of a standstill.
func standstillWords(s *tasks.Standstill) string { return s.Words(clockTime) }

// news are the words of a standstill, unless it is a usual one.
func news(s *tasks.Standstill) string {
	if s == nil || s.Usual() {
		return ""
	}
	return s.Message
}

// tellWaiting tells a person why a task waits, and gives what a program is told.
func (a *app) tellWaiting(t tasks.Task) (view, error) {
	w, err := a.desk.Waiting(a.ctx, t)
	if err != nil {
		return nil, err
	}
	if w.Standstill != nil {
		a.out.say("It waits: %s.", standstillWords(w.Standstill))
	}
	a.out.sayIf(w.Ahead > 0, "%s before it.", plural(w.Ahead, "invite"))
	ends := map[bool]string{true: "be sent", false: "end"}[t.Type == tasks.TypeInvite]
	a.out.sayIf(!w.ETA.IsZero(), "It should %s at %s, if nothing fails and nobody else uses the key.", ends, local(w.ETA))
	return view{"standstill": standstillView(w.Standstill), "ahead": w.Ahead, "eta": known(w.ETA)}, nil
}

// warnIdle says that no worker runs, and what waits for one. That is no fault: a producer may start first.
func (a *app) warnIdle(waits string) {
	idle, err := a.desk.Idle(a.ctx)
	if err == nil && idle != nil {
		a.out.note("Warning: %s (namespace %s); %s.", standstillWords(idle), a.namespace, waits)
	}
}

// warnPartial names what could not be read where the others are enough to go on with, and gives any other error.
func (a *app) warnPartial(err error) error {
	partial, err := store.SplitPartial(err)
	if partial != nil {
		a.out.note("Warning: %s", strings.ReplaceAll(partial.Error(), "\n", "; "))
	}
	return err
}

// standstillCheck is how often it is looked why a task waits.
const standstillCheck = 2 * time.Second

// tellStandstills says why a task waits, whenever that has changed, until stop is called or the context ends. of gives
// the id of the task that is waited for at present.
func (a *app) tellStandstills(ctx context.Context, of func() string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		for last := ""; policy.Sleep(ctx, standstillCheck) == nil; {
			task, err := a.desk.Status(ctx, of())
			if err != nil {
				continue // the wait bears with it, or tells it
			}
			w, err := a.desk.Waiting(ctx, task)
			if err != nil || w.Standstill == nil {
				continue
			}
			if w.Standstill.Message != last {
				a.out.note("Waiting: %s.", standstillWords(w.Standstill))
			}
			last = w.Standstill.Message
		}
	}()
	return func() {
		cancel()
		<-told
	}
}
