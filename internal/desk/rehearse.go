package desk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/forecast"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// ErrKeyRefused means that Clerk refuses the secret key. The workers' calls rest now too.
var ErrKeyRefused = errors.New("the secret key (CLERK_SECRET_KEY) is refused by Clerk")

// Rehearsal is what would become of the rows of a file.
type Rehearsal struct {
	Known         int               `json:"known"`      // in the campaign already: they keep their outcome
	Forgotten     int               `json:"forgotten"`  // on request: they are left out
	Accepted      int               `json:"-"`          // have a pending invitation, which they take for theirs
	Users         int               `json:"-"`          // are users, who are to be skipped
	Send          int               `json:"would_send"` // calls that make an invitation
	Refused       []RefusedRow      `json:"refused_rows"`
	RefusedByCode map[string]int    `json:"refused_by_code"`
	Unknown       int               `json:"unknown"` // Clerk could not be asked about them
	Why           error             `json:"-"`       // it could not
	Asked         bool              `json:"-"`       // Clerk has answered, or had nothing to be asked
	Forecast      forecast.Forecast `json:"-"`
}

// Skipped are those for whom no call is made, and who are no dead letters.
func (r *Rehearsal) Skipped() int { return r.Known + r.Accepted + r.Users + r.Forgotten }

// RefusedRow is a row that Clerk would refuse.
type RefusedRow struct {
	Line   int    `json:"line"`
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

// RehearseBulk tells what would become of the rows of a file if they were put into a campaign that starts at an
// instant, or at once if that is zero. A campaign without a name is a new one. It tells of Clerk's answers as they
// come, unless told is nil. Without a key to ask Clerk with it gives nil. The error is that of enqueuing the rows where
// the campaign takes none, ErrKeyRefused, which comes with what is known, or policy.ErrNamespace.
func (d *Desk) RehearseBulk(
	ctx context.Context, clerk settings.Instance, campaign string, rows []peoplefile.Row, start time.Time,
	told func(ask.Progress),
) (*Rehearsal, error) {
	questions, q, err := d.ask(ctx, clerk)
	if q == nil || err != nil {
		return nil, err
	}
	defer q.Close()
	r := &Rehearsal{Refused: []RefusedRow{}, RefusedByCode: map[string]int{}}
	fresh, err := d.sift(ctx, campaign, rows, start, r)
	if err != nil {
		return nil, err
	}
	findings, err := questions.Survey(ctx, peoplefile.File{Rows: fresh}.Recipients(), told)
	if r.Why = why(err); ctx.Err() != nil {
		return nil, r.Why
	}
	for i, f := range findings {
		r.count(fresh[i], f)
	}
	r.Asked = r.Unknown < len(fresh) || len(fresh) == 0
	if n := r.Send + r.Unknown; n > 0 {
		outlook, err := forecast.Read(ctx, d.rdb, d.namespace)
		if err != nil {
			return nil, err
		}
		r.Forecast = outlook.Hypothetical(n, start)
	}
	if errors.Is(r.Why, ErrKeyRefused) {
		return r, r.Why
	}
	return r, nil
}

// CheckBulk is RehearseBulk that does not ask Clerk: it gives how many rows the campaign would take in, and counts the
// others.
func (d *Desk) CheckBulk(
	ctx context.Context, campaign string, rows []peoplefile.Row, start time.Time,
) (r Rehearsal, fresh int, err error) {
	taken, err := d.sift(ctx, campaign, rows, start, &r)
	return r, len(taken), err
}

// sift gives the rows that are neither in the campaign already nor forgotten, and counts the others.
func (d *Desk) sift(
	ctx context.Context, campaign string, rows []peoplefile.Row, start time.Time, r *Rehearsal,
) (fresh []peoplefile.Row, err error) {
	ids := make([]store.AddressID, len(rows))
	for i, row := range rows {
		ids[i] = store.IDOf(row.Recipient().EmailAddress)
	}
	var has map[store.AddressID]bool
	head, err := d.ledgers.Get(ctx, campaign)
	if refusal := tasks.RefusesDeleted(err); refusal != nil {
		return nil, refusal
	}
	if err == nil {
		if err := tasks.CampaignState(head.State).Refuses(!start.IsZero()); err != nil {
			return nil, err
		}
		has, err = d.ledgers.Has(ctx, campaign, ids)
	}
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		return nil, err
	}
	forgotten, err := d.tombstones.Forgotten(ctx, ids...)
	if err != nil {
		return nil, err
	}
	for i, row := range rows {
		if has[ids[i]] {
			r.Known++
		} else if forgotten[i] {
			r.Forgotten++
		} else {
			fresh = append(fresh, row)
		}
	}
	return fresh, nil
}

// count counts a row by what is found of it.
func (r *Rehearsal) count(row peoplefile.Row, f ask.Finding) {
	var wants tasks.OnDuplicate
	if f.Refusal != nil && f.Refusal.Code == fate.CodeDuplicate {
		wants = row.Recipient().OnDuplicate
	}
	switch {
	case wants == tasks.AcceptDuplicate:
		r.Accepted++
	case f.Refusal != nil && f.Refusal.Code == fate.CodeUser && row.Recipient().OnExistingUser == tasks.SkipUser:
		r.Users++
	case f.Refusal != nil && wants != tasks.ResendDuplicate:
		r.Refused = append(r.Refused, RefusedRow{row.Line, f.Refusal.Code, f.Refusal.Message})
		r.RefusedByCode[f.Refusal.Code]++
	case f.Unknown:
		r.Unknown++
	default:
		r.Send++
	}
}

// Affected are the invitations that a revocation would revoke, or a deletion delete.
type Affected struct {
	Source      string    // who says so: clerk or directory; empty if nobody can
	SyncedAt    time.Time // of the directory
	Invitations []clerkclient.Invitation
}

// RehearseRevocation tells what would be revoked: as Clerk says or, without a key, as it was last synced.
// The error may be ErrKeyRefused or policy.ErrNamespace.
func (d *Desk) RehearseRevocation(
	ctx context.Context, clerk settings.Instance, of tasks.RevokePayload,
) (Affected, error) {
	question := func(q *ask.Questions) ([]clerkclient.Invitation, error) { return d.isPending(ctx, q, of) }
	return d.rehearse(ctx, clerk, question, "pending", of)
}

// RehearseDeletion is [Desk.RehearseRevocation] for a deletion, which is of invitations in any status.
func (d *Desk) RehearseDeletion(
	ctx context.Context, clerk settings.Instance, of tasks.DeletePayload,
) (Affected, error) {
	question := func(q *ask.Questions) ([]clerkclient.Invitation, error) {
		return ask.Listed(ctx, q.Page, of.EmailAddress, of.InvitationID)
	}
	same := tasks.RevokePayload{EmailAddress: of.EmailAddress, InvitationID: of.InvitationID}
	return d.rehearse(ctx, clerk, question, "", same)
}

// rehearse asks Clerk, or reads the directory for invitations of a status; none: of any.
func (d *Desk) rehearse(
	ctx context.Context, clerk settings.Instance,
	question func(*ask.Questions) ([]clerkclient.Invitation, error), status string, of tasks.RevokePayload,
) (Affected, error) {
	questions, q, err := d.ask(ctx, clerk)
	switch {
	case err != nil:
		return Affected{}, err
	case q == nil:
		return d.asSynced(ctx, status, of)
	}
	defer q.Close()
	found, err := question(questions)
	return Affected{Source: "clerk", Invitations: found}, why(err)
}

// listLag is how long Clerk's list may not show what it has made, as workers take it that are told nothing else.
const listLag = 30 * time.Second

// isPending asks Clerk what is pending.
func (d *Desk) isPending(
	ctx context.Context, q *ask.Questions, of tasks.RevokePayload,
) ([]clerkclient.Invitation, error) {
	finder := ask.Finder{List: q.Page, Redis: d.rdb, Namespace: d.namespace, Lag: listLag}
	if of.InvitationID == "" {
		return finder.Pending(ctx, of)
	}
	page, err := q.Page(ctx, clerkclient.ListQuery{Status: "pending", Query: of.InvitationID})
	other := func(inv clerkclient.Invitation) bool { return inv.ID != of.InvitationID }
	return slices.DeleteFunc(page.Invitations, other), err
}

// PendingAsSynced are the invitations that a revocation would revoke, as they were last synced.
func (d *Desk) PendingAsSynced(ctx context.Context, of tasks.RevokePayload) (Affected, error) {
	return d.asSynced(ctx, "pending", of)
}

// AllAsSynced are invitations in any status, as they were last synced.
func (d *Desk) AllAsSynced(ctx context.Context, of tasks.RevokePayload) (Affected, error) {
	return d.asSynced(ctx, "", of)
}

// asSynced finds what was so when the directory was synced. What was pending may have expired since.
func (d *Desk) asSynced(ctx context.Context, status string, of tasks.RevokePayload) (r Affected, err error) {
	copy, err := d.Directory.Copy(ctx)
	if errors.Is(err, directory.ErrNoCopy) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	now := time.Now()
	take := func(inv clerkclient.Invitation) error {
		lives := inv.Status == status && (inv.ExpiresAt.IsZero() || inv.ExpiresAt.After(now))
		if status == "" || lives {
			r.Invitations = append(r.Invitations, inv)
		}
		return nil
	}
	if of.EmailAddress != "" {
		err = copy.About(ctx, of.EmailAddress, take)
	} else {
		err = copy.Each(ctx, directory.Filter{Status: status, Query: of.InvitationID}, take)
	}
	if err == nil && of.Campaign != "" {
		r.Invitations, err = ask.SentBy(ctx, d.ledgers, of.Campaign, r.Invitations)
	}
	slices.SortFunc(r.Invitations, func(x, y clerkclient.Invitation) int { return x.CreatedAt.Compare(y.CreatedAt) })
	r.Source, r.SyncedAt = "directory", copy.SyncedAt
	return r, err
}

// ask gives a way to ask Clerk what changes nothing, within the limits of the workers and for as long as the context
// lasts, and the client to close after it; nil if there is none.
func (d *Desk) ask(ctx context.Context, c settings.Instance) (*ask.Questions, *clerkclient.Client, error) {
	if c.Key == "" {
		return nil, nil, nil
	}
	p, err := d.policyFor(ctx, c.Kind)
	if err != nil {
		return nil, nil, err
	}
	clerk, err := clerkclient.New(clerkclient.Config{
		Key: c.Key, BaseURL: c.URL, Version: settings.Version(), Timeout: p.Timeout,
	})
	if err != nil {
		return nil, nil, settings.Fault("CLERK_API_URL", c.URL, "%v", err)
	}
	key := clerk.KeyFingerprint()
	limiter, err := ratelimit.New(d.rdb, d.namespace, p.Limits(key)...)
	caller := &call.Caller{
		Limiter: limiter, Policy: p, Key: key, Gate: call.NewKeyGate(), Life: ctx, Observer: unobserved{},
		Log: zerolog.Nop(),
	}
	return ask.New(clerk, ask.Patiently(caller), nil, zerolog.Nop()), clerk, err
}

// policyFor gives the limits by which the workers send; if none was ever started, those of one that is told nothing. A
// key of another kind than the namespace's is a policy.ErrNamespace, as for workers.
func (d *Desk) policyFor(ctx context.Context, kind string) (policy.Policy, error) {
	bound, err := d.rdb.Get(ctx, store.Keys(d.namespace).KeyKind()).Result()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return policy.Policy{}, fmt.Errorf("reading which key the namespace belongs to: %w", err)
	case err == nil && bound != kind:
		return policy.Policy{}, policy.OtherKind(d.namespace, bound, kind)
	}
	p, known, err := policy.Announced(ctx, d.rdb, d.namespace)
	if err == nil && !known {
		p = policy.Default(kind)
	}
	return p, err
}

// why tells a refused key from other failures.
func why(err error) error {
	refusal, ok := errors.AsType[*clerkclient.Error](err)
	if ok && refusal.Outcome == clerkclient.Unauthorized && !refusal.NotClerk {
		return ErrKeyRefused
	}
	return err
}

// unobserved keeps these few calls out of the workers' figures.
type unobserved struct{}

func (unobserved) Called(policy.Call, clerkclient.Outcome, call.Timing) {}
