package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
)

// Deletable is a campaign that can be deleted, and what of it goes.
type Deletable struct {
	DeadLetters int       // that stand: of its recipients, and of tasks about it
	DeletedAt   time.Time // zero if it was not deleted yet

	remains ledger.Remains
}

// Recipients is how many recipients the campaign has.
func (d Deletable) Recipients() int { return d.remains.Recipients }

// Deletable tells what of a campaign goes if it is deleted. If it was deleted already, there is nothing to ask about.
// The error is ledger.ErrNotFound, ErrNotOver, or ErrUnsettled: nothing of a campaign is deleted while somebody does
// not know what became of a call.
func (d *Desk) Deletable(ctx context.Context, name string) (c Deletable, err error) {
	c.remains, err = d.ledgers.Remains(ctx, name)
	if deleted, ok := errors.AsType[*ledger.DeletedError](err); ok {
		c.remains.Name, c.DeletedAt = name, deleted.At
		return c, nil
	}
	switch r := c.remains; {
	case err != nil:
		return c, fmt.Errorf("campaign %w", err)
	case r.State != ledger.Finished && r.State != ledger.Cancelled:
		return c, fmt.Errorf("%s is %s: %w", name, r.State, ledger.ErrNotOver)
	case r.Unsettled > 0:
		return c, fmt.Errorf("campaign %s, %d of its recipients: %w", name, r.Unsettled, ledger.ErrUnsettled)
	}
	counted, err := d.DeadLetters.CountChosen(ctx, deadletter.Filter{Campaign: name}, 0)
	c.DeadLetters = counted.N
	return c, err
}

// DeleteCampaign deletes a campaign as it stood when it was found deletable, and its dead letters, and tells when. A
// deletion that was broken off is finished.
func (d *Desk) DeleteCampaign(ctx context.Context, c Deletable) (time.Time, error) {
	name := c.remains.Name
	if !c.DeletedAt.IsZero() {
		return c.DeletedAt, d.ledgers.Clear(ctx, name)
	}
	if c.DeadLetters > 0 {
		_, err := d.EachLetter(ctx, Letters{Campaign: name}, func(e deadletter.Entry) error {
			if e.Recipient != nil {
				return nil // with its ledger
			}
			_, err := d.Retrier.Delete(ctx, e.ID)
			return err
		})
		if err != nil {
			return time.Time{}, err
		}
	}
	if err := d.ledgers.Delete(ctx, c.remains.Campaign, c.DeadLetters > 0); err != nil {
		return time.Time{}, err
	}
	_, err := d.ledgers.Get(ctx, name)
	if deleted, ok := errors.AsType[*ledger.DeletedError](err); ok {
		return deleted.At, nil
	}
	return time.Time{}, err
}

// ErrAboutCampaign means that a dead letter is about a whole campaign and cannot go on without it.
var ErrAboutCampaign = errors.New("it is about the whole campaign: retry or delete it first")

// RetryAlone lets the dead letters of a campaign that is to be deleted go on as invites of their own, and gives how
// many. The error may be ErrAboutCampaign.
func (d *Desk) RetryAlone(ctx context.Context, campaign string) (retried int, err error) {
	_, err = d.someLetters(ctx, Letters{Campaign: campaign}, func(some []deadletter.Entry) error {
		for _, e := range some {
			if e.Recipient == nil {
				return fmt.Errorf("dead letter %s: %w", e.ID, ErrAboutCampaign)
			}
		}
		done, err := d.retrySome(ctx, asTheyAre(some), true)
		retried += len(done)
		return err
	})
	return retried, PartlyDone(retried, err)
}
