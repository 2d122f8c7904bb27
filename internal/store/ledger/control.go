package ledger

import (
	"context"
	"errors"
	"fmt"

	"example.com/usher/internal/store"
)

// ErrOver means that a campaign has finished or was cancelled: there is nothing left to pause, resume or cancel.
var ErrOver = errors.New("the campaign is over")

// Pause stops a campaign from making calls, but for those in flight. Pausing it again changes nothing.
func (l *Ledgers) Pause(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "pause")
}

// Resume lets a paused campaign go on. The sweep gives it a driver if it has none.
func (l *Ledgers) Resume(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "resume")
}

// Cancel stops a campaign for good: whoever is in no call is not sent any more. What becomes of calls in flight is recorded.
func (l *Ledgers) Cancel(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "cancel")
}

func (l *Ledgers) control(ctx context.Context, name, what string) (Campaign, error) {
	answer, err := controlScript.Run(ctx, l.rdb, l.keysOf(name), what, name).StringSlice()
	switch {
	case err != nil:
		return Campaign{}, fmt.Errorf("campaign %s: %w", name, err)
	case len(answer) != 2:
		return Campaign{}, fmt.Errorf("campaign %s: %w", name, store.ErrGarbage)
	case answer[0] == "missing":
		return Campaign{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	case answer[0] == "over":
		return Campaign{}, fmt.Errorf("%s is %s: %w", name, answer[1], ErrOver)
	}
	return l.Get(ctx, name)
}
