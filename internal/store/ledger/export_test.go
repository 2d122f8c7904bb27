package ledger

import (
	"context"
	"errors"

	"example.com/usher/internal/store"
)

// DecodeRow is decode, for the fuzz target.
func DecodeRow(id, value string) (Row, error) { return decode(id, value) }

// Step is what is known of a campaign's uploads.
type Step = step

// MoveOnce takes one step of Move.
func (l *Ledgers) MoveOnce(ctx context.Context, name string, known Step) (Step, error) {
	return l.move(ctx, name, known)
}

// Discard throws a stage away.
func (s *Stage) Discard(ctx context.Context) { s.discard(ctx) }

// Arrive is what follows Enter.
func (s *Stage) Arrive(ctx context.Context, name string) (Upload, error) { return s.arrive(ctx, name) }

// Mark marks a campaign as one that is being deleted.
func (l *Ledgers) Mark(ctx context.Context, c Campaign, letters bool) error {
	return l.mark(ctx, c, letters)
}

// ClearOnce takes one step of a deletion.
func (l *Ledgers) ClearOnce(ctx context.Context, name string) (more bool, err error) {
	return l.clear(ctx, name)
}

// ReviveOne is Revive for one recipient, and gives the campaign as it is then.
func (l *Ledgers) ReviveOne(ctx context.Context, name string, id store.AddressID, as Revival) (Campaign, error) {
	as.Of = id
	if err := errors.Join(l.Revive(ctx, name, as)...); err != nil {
		return Campaign{}, err
	}
	return l.Get(ctx, name)
}
