package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// ErrBase means that what answers at the base URL is not Clerk.
var ErrBase = errors.New("what answers there is not Clerk's API")

// A base URL is found wrong by so many answers within a time.
const (
	baseTries    = 3
	basePause    = 3 * time.Second
	basePatience = 10 * time.Second
)

// checkBase asks Clerk a question at the first start with a base URL. The error is ErrBase if each time somebody else
// answers it: with a 404, or with a success that is not Clerk's. Any other answer says nothing about the URL, and once
// Clerk has answered there, a wrong answer is a failure that passes.
func (w *Worker) checkBase(ctx context.Context, pause time.Duration) error {
	if w.Base == "" {
		return nil
	}
	key, field := store.Keys(w.Namespace).Bases(), store.BaseID(w.Base)
	if known, err := w.Redis.HExists(ctx, key, field).Result(); err != nil || known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, basePatience)
	defer cancel()
	for tries := 1; ; tries++ {
		_, err := w.caller.Do(ctx, policy.Read, func(ctx context.Context) error {
			_, _, err := w.Clerk.List(ctx, clerkclient.ListQuery{Limit: 1})
			return err
		})
		answer, answered := errors.AsType[*clerkclient.Error](err)
		switch {
		case err == nil:
			_ = w.Redis.HSet(ctx, key, field, time.Now().UnixMilli()).Err() // or else it is asked again
			return nil
		case !answered || !isAnotherService(answer):
			return nil
		case tries == baseTries:
			return fmt.Errorf("%w (GET /invitations: %d, %d times)", ErrBase, answer.Status, tries)
		}
		if policy.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

func isAnotherService(e *clerkclient.Error) bool {
	return e.NotClerk && (e.Status == http.StatusNotFound || e.Status/100 == 2)
}
