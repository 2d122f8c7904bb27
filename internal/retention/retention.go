// Package retention deletes what was kept for long enough: campaigns that are over, with what became of their
// recipients. It also finishes deletions that were broken off, and forgets workers that have died.
package retention

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
)

// Service deletes what was kept for long enough in one namespace. Each worker has one; one of them works at a time.
type Service struct {
	db        store.DB
	ledgers   *ledger.Ledgers
	letters   *deadletter.Store
	inspector *asynq.Inspector
	keep      time.Duration // 0: for ever
	worker    string
	clock     func(context.Context) (time.Time, error) // Redis's
	log       zerolog.Logger
}

// New gives a service that keeps campaigns for a time; 0 is for ever.
func New(rdb redis.UniversalClient, namespace string, keep time.Duration, log zerolog.Logger) *Service {
	db := store.Open(rdb, namespace)
	return &Service{
		db: db, ledgers: ledger.New(rdb, namespace),
		clock:   func(ctx context.Context) (time.Time, error) { return db.Time(ctx).Result() },
		letters: deadletter.NewStore(rdb, namespace), inspector: asynq.NewInspectorFromRedisClient(rdb),
		keep: keep, worker: uuid.NewString(), log: log,
	}
}

// Run works until the context ends.
func (s *Service) Run(ctx context.Context) {
	for {
		if err := s.turn(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("what was kept for long enough could not all be deleted: Redis cannot answer")
		}
		if policy.Sleep(ctx, policy.KeepCheck) != nil {
			return
		}
	}
}

// turn looks at everything once, if it is this worker's turn.
func (s *Service) turn(ctx context.Context) error {
	mine, err := s.db.SetNX(ctx, s.db.Key.Keeping(), s.worker, policy.KeepInterval).Result()
	if mine && err == nil {
		err = s.pass(ctx)
	}
	if errors.Is(err, errNotMine) {
		return nil
	}
	return err
}

// errNotMine ends a pass: it is another worker's turn by now.
var errNotMine = errors.New("another worker goes on")

// hold keeps the turn.
func (s *Service) hold(ctx context.Context) error {
	has, err := s.db.Get(ctx, s.db.Key.Keeping()).Result()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return err
	case has != s.worker:
		return errNotMine
	}
	return s.db.PExpire(ctx, s.db.Key.Keeping(), policy.KeepInterval).Err()
}

// pass is one look at everything.
type pass struct {
	*Service
	now     time.Time
	since   time.Time      // when campaigns began to be deleted
	letters map[string]int // of each campaign; nil: not read yet
}

// pass looks at everything once.
func (s *Service) pass(ctx context.Context) (err error) {
	p := pass{Service: s}
	if p.now, err = s.clock(ctx); err != nil {
		return err
	}
	if p.since, err = s.begun(ctx, p.now); err != nil {
		return err
	}
	if _, err := s.inspector.Servers(); err != nil { // asynq forgets dead ones when they are listed
		return fmt.Errorf("listing workers: %w", err)
	}
	if err := p.finish(ctx); err != nil {
		return err
	}
	campaigns := s.db.ZScan(ctx, s.db.Key.Campaigns(), 0, "", scanCount).Iterator()
	for campaigns.Next(ctx) {
		name := campaigns.Val()
		if !campaigns.Next(ctx) {
			break
		}
		if err := p.look(ctx, name, campaigns.Val()); err != nil {
			return err
		}
	}
	return campaigns.Err()
}

// scanCount is how many campaigns are asked for at a time.
const scanCount = 500

// begun tells when a worker first started that deletes campaigns: now, if none has. Nothing that is older counts as
// kept before that.
func (s *Service) begun(ctx context.Context, now time.Time) (_ time.Time, err error) {
	defer store.Wrap(&err, "noting since when campaigns are deleted")
	key := s.db.Key.KeepingSince()
	if err := s.db.SetNX(ctx, key, now.UnixMilli(), 0).Err(); err != nil {
		return time.Time{}, err
	}
	text, err := s.db.Get(ctx, key).Result()
	if err != nil {
		return time.Time{}, err
	}
	return store.Instant(text)
}

// finish finishes deletions that were broken off.
func (p *pass) finish(ctx context.Context) error {
	names, err := p.ledgers.Deleting(ctx)
	for _, name := range names {
		if err == nil {
			err = p.hold(ctx)
		}
		if err == nil {
			err = p.ledgers.Clear(ctx, name)
		}
	}
	return err
}

// orphaned is the age of an entry in the index that belongs to no campaign: its upload was broken off or refused.
const orphaned = 24 * time.Hour

// look deletes a campaign that was kept for long enough, and an entry in the index that belongs to none.
func (p *pass) look(ctx context.Context, name, score string) error {
	campaign, err := p.ledgers.Get(ctx, name)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		indexed, parseErr := strconv.ParseFloat(score, 64)
		if parseErr != nil || p.now.Sub(time.UnixMilli(int64(indexed))) > orphaned {
			return p.db.ZRem(ctx, p.db.Key.Campaigns(), name).Err()
		}
		return nil
	case errors.Is(err, store.ErrGarbage), errors.Is(err, store.ErrNewer), err == nil && !p.over(campaign, time.Time{}):
		return nil
	case err != nil:
		return err
	}
	if err := p.hold(ctx); err != nil {
		return err
	}
	switch err := p.delete(ctx, name); {
	case errors.Is(err, ledger.ErrNotOver), errors.Is(err, ledger.ErrUnsettled), errors.Is(err, ledger.ErrChanged),
		errors.Is(err, ledger.ErrNotFound), errors.Is(err, store.ErrGarbage):
		p.log.Debug().Err(err).Str("campaign", name).Msg("campaign is kept for longer")
		return nil
	default:
		return err
	}
}

// over tells whether a campaign whose last invitation expires at an instant was kept for long enough.
func (p *pass) over(c ledger.Campaign, expires time.Time) bool {
	if p.keep == 0 || c.State != ledger.Finished && c.State != ledger.Cancelled {
		return false
	}
	latest := p.since
	for _, at := range []time.Time{c.CreatedAt, c.UploadedAt, c.FinishedAt, c.ExpiresAt, expires} {
		if at.After(latest) {
			latest = at
		}
	}
	return p.now.Sub(latest) >= p.keep
}

// delete deletes a campaign, if nothing of it is in doubt and no dead letter of it stands.
func (p *pass) delete(ctx context.Context, name string) (err error) {
	if p.letters == nil {
		if p.letters, err = p.Service.letters.Campaigns(ctx); err != nil {
			return err
		}
	}
	if p.letters[name] > 0 {
		return nil
	}
	left, err := p.ledgers.Remains(ctx, name)
	switch {
	case err != nil:
		return err
	case left.Unsettled > 0:
		return fmt.Errorf("%d recipients: %w", left.Unsettled, ledger.ErrUnsettled)
	case !p.over(left.Campaign, left.ExpiresAt):
		return p.ledgers.NoteExpiry(ctx, left)
	}
	if err := p.ledgers.Delete(ctx, left.Campaign, false); err != nil {
		return err
	}
	p.log.Info().Str("campaign", name).Int("recipients", left.Recipients).Time("finished_at", left.FinishedAt).
		Msg("campaign is deleted: it was kept for USHER_KEEP")
	return nil
}
