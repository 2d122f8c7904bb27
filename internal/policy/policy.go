// Package policy holds every figure that says how fast, how often and how long, and the rules that follow from them.
package policy

import (
	"context"
	"math/rand/v2"
	"time"

	"example.com/usher/internal/settings"
)

// Policy is what an operator can set. The constants below are what nobody needs to set.
type Policy struct {
	Create, Bulk, Overall settings.Rate // Clerk's limits, as far as Usher may use them
	Reserve               int           // single permits in a window that only invite tasks may use
	Timeout               time.Duration // of one call
	SettlingTime          time.Duration // how long after its deadline Clerk may still carry out a lost call
	MaxAttempts           int           // failed attempts before a dead letter
	BackoffMin            time.Duration // the wait after the first failed attempt
	BackoffMax            time.Duration // the longest wait between two attempts
	BulkMetadata          BulkMetadata
	FastRetry             bool // a lone create that Clerk has answered with a failure is made again before SettlingTime
}

// BulkMetadata says whether a recipient with metadata may ride in a bulk call.
type BulkMetadata string

// The values of BulkMetadata.
const (
	MetadataAsAsked BulkMetadata = "as-asked" // yes if it came in a campaign
	MetadataAlways  BulkMetadata = "always"
	MetadataNever   BulkMetadata = "never"
)

const (
	// Reading Clerk's lists.

	// BulkSize is how many recipients Clerk takes in one bulk call (documented).
	BulkSize = 10
	// ListPage is how many invitations one call asks for: the most that Clerk gives (documented).
	ListPage = 500
	// ListOverlap is how many rows two pages of a list share, so that a row that leaves the list between them hides
	// none. It is more than a bulk has rows, because these may have one time.
	ListOverlap = 20
	// MaxListOverlap is the largest overlap after a page that follows the one before, so that reading always gets on.
	MaxListOverlap = ListPage / 4
	// ListSlides is how many pages of a list may fail to follow the one before. With more of them the list changes too
	// fast to be read.
	ListSlides = 200

	// Looking recipients up before they ride in a bulk.

	// LookupSize is how many recipients one look-up asks about: as many as one call for users takes (documented). It
	// is clerkclient.MaxUserAddresses, but programs that use only the policy need no Clerk SDK.
	LookupSize = 100
	// LookupPatience is the longest time for one look-up, waits for permits included. Recipients that were not
	// looked up by then are sent all the same.
	LookupPatience = 10 * time.Second
	// LookupWarning is the shortest time between two warnings that look-ups fail.
	LookupWarning = time.Minute
	// LookupsAtOnce is how many look-ups of one campaign, or of all invites, are under way at once.
	LookupsAtOnce = 3

	// Asking Clerk about lost calls, whose answers never came.

	// LostSize is the most recipients with lost calls that one question is about. All are in memory, and one reading of
	// the list answers for all of them.
	LostSize = 2000
	// LostPatience is the longest time for one such question. With a test key, reading has half of the overall limit:
	// half of the time is then enough to read 180,000 invitations, as many as a long campaign makes.
	LostPatience = 5 * time.Minute
	// Up to FewAddresses lost calls are asked about one address at a time, and the list is not read.
	FewAddresses = 2
	// SkewMargin is how much earlier than its call an invitation may seem to have been made, besides the time that
	// Clerk's clock is behind ours.
	SkewMargin = 2 * time.Second
	// MaxSkew is the most that Clerk's clock is believed to be behind ours.
	MaxSkew = 5 * time.Minute

	// Asking Clerk for somebody who waits at a command.

	// AskPatience is the longest time for one answer, waits for permits and repeats included.
	AskPatience = 2 * time.Minute
	// AskTries is how often a question that failed is put again.
	AskTries = 4
	// AskPause is the wait before a question is put again. It doubles each time.
	AskPause = 250 * time.Millisecond
	// RevokesAtOnce is how many calls of one revoke task are under way at once.
	RevokesAtOnce = 8

	// Who rides when.

	// ScarceCompany is how long an invite waits for company when single permits are short. Then it takes one of the last
	// ones.
	ScarceCompany = 100 * time.Millisecond
	// FreeCompany is how long an invite waits for company where bulks have no limit.
	FreeCompany = 2 * time.Millisecond
	// ShortWait is the longest wait for a single permit that an invite accepts rather than spend a bulk permit on
	// fewer than BulkSize invites.
	ShortWait = 5 * time.Second
	// SinglesFirst is how much sooner a single permit must be free before a bulk recipient takes it. Otherwise a call
	// that could carry ten carries one.
	SinglesFirst = 20 * time.Millisecond
	// keptSingles is how many single permits in a window are kept for invites that fill no bulk: a burst leaves up to
	// 9 of these in each worker.
	keptSingles = 20
	// MaxFlight is how many calls of a kind a worker has under way at once: so many that latency costs no throughput.
	MaxFlight = 128

	// Waiting before something is tried again.

	// LongBackoff is the longest wait between attempts that a handler sits out. For a longer one its task goes back to
	// the queue.
	LongBackoff = 5 * time.Second
	// retryAfterUnknown is how long an endpoint rests after a 429 that does not say how long.
	retryAfterUnknown = 30 * time.Second
	// KeyRest is how long all calls rest after Clerk has refused the key. Then one call goes first. If Clerk refuses
	// that one too, the rest doubles.
	KeyRest = 2 * time.Second
	// KeyRestMax is the longest such rest.
	KeyRestMax = time.Minute
	// SuspendFirst is how long calls rest after Clerk has served nobody. Then one call goes first. If Clerk refuses
	// that one too, the rest doubles.
	SuspendFirst = time.Second
	// SuspendMost is the longest such rest, unless Clerk asks for a longer one.
	SuspendMost = 5 * time.Minute
	// SuspendAsked is the longest rest that Clerk can ask for in maintenance mode.
	SuspendAsked = 30 * time.Minute
	// UnavailableAsked is the longest rest that Clerk can ask for with another 503.
	UnavailableAsked = time.Minute
	// SuspendCalm is for how long calls must have succeeded before a rest is short again.
	SuspendCalm = 10 * time.Second
	// A kind of calls also rests after BreakerMany failures in a row of which nobody can tell whose they are, or after
	// BreakerFew if the first of them is as old as BreakerAge. Half of the calls may fail without a rest.
	BreakerFew  = 8
	BreakerMany = 20
	BreakerAge  = 10 * time.Second
	// OutageFew failures in a row of this age are nobody's own, although calls have not rested.
	OutageFew = 3
	// UnknownMost is the longest rest after refusals that no table knows: each probe proves one of a recipient.
	UnknownMost = time.Minute
	// Unproven is the age at which a recipient's failures count although nobody else was sent meanwhile.
	Unproven = time.Hour
	// RedisRest is the wait before Redis is asked again after it could not answer.
	RedisRest = 500 * time.Millisecond
	// StoppedCheck is how often a worker looks whether its invites were cancelled, or their addresses forgotten.
	StoppedCheck = time.Second
	// NewerRest is how long a worker leaves a task of a newer version alone.
	NewerRest = 30 * time.Second

	// Stopping. All of it ends well before 8 seconds.

	// CallGrace is how long a call under way may go on when the worker stops.
	CallGrace = 5 * time.Second
	// SettleGrace is how long the worker may take after that to write what became of its calls.
	SettleGrace = time.Second
	// LanesGrace is when asynq puts unfinished tasks back into their queues.
	LanesGrace = CallGrace + SettleGrace
	// StopGrace is when a worker ends although Redis has not answered.
	StopGrace = LanesGrace + time.Second

	// Driving campaigns.

	// SettleMargin is how long recipients stay with their call after its deadline, so that its
	// outcome can be written.
	SettleMargin = 10 * time.Second
	// DriverPoll is the longest time between two looks of a driver at its ledger. A look renews its lease.
	DriverPoll = 3 * time.Second
	// MemoryCheck is how often each worker checks whether Redis has lost its memory, and CountCheck how often where
	// Redis does not tell that it was restarted: then what a worker has seen since is all that tells.
	MemoryCheck = 5 * time.Second
	CountCheck  = time.Second
	// Newcomer is for how long a process does not say that it has seen Redis. Others that know more of it look first,
	// and may find that it is a copy.
	Newcomer = 30 * time.Second
	// LimitsAgain is how often each worker says by which limits it sends.
	LimitsAgain = time.Minute
	// SweepInterval is how often each worker looks for running campaigns without a driver.
	SweepInterval = 4 * time.Second

	// MendInterval is how often each worker looks for tasks that asynq has stranded. Its recoverer takes a minute
	// and a half more, and nobody shall wait for more than two minutes.
	MendInterval = 10 * time.Second

	// Deleting campaigns.

	// KeepInterval is how often one of the workers looks for campaigns that were kept for long enough.
	KeepInterval = 10 * time.Minute
	// KeepCheck is how often each worker asks whether it is its turn.
	KeepCheck = time.Minute

	// Schedules.

	// MissedTick is the age at which a missed tick no longer runs. A worker that was away for lunch makes up for it,
	// but nobody wants yesterday's invitation today.
	MissedTick = time.Hour
	// TickHold is how long a worker may take to enqueue a tick before another worker does it. A list of 200,000 takes
	// seconds.
	TickHold = 30 * time.Second
	// SchedulePoll is the longest time between two looks at a schedule, for what other workers did with its ticks.
	SchedulePoll = time.Second
	// ScheduleSeen is how often a worker notes that its file has a schedule.
	ScheduleSeen = 30 * time.Second
	// ScheduleLost is how long after the last such note no worker has the schedule any more.
	ScheduleLost = 2 * time.Minute
)

// Default returns the limits, the reserve and the timeout of workers without settings, and nothing else of a policy.
// Overall is half of what Clerk allows for a key of this kind (documented). The rest is for other users of the key.
func Default(kind string) Policy {
	p := Policy{
		Create:  settings.Rate{N: 100, Window: time.Hour},
		Bulk:    settings.Rate{N: 25, Window: time.Hour},
		Overall: settings.Rate{N: 50, Window: 10 * time.Second},
		Reserve: 20, Timeout: 30 * time.Second,
	}
	if kind == settings.KindLive {
		p.Overall.N = 500
	}
	return p
}

// Backoff is the wait after a number of failed attempts: its bound doubles each time, and it is drawn at random
// below it.
func (p Policy) Backoff(attempts int) time.Duration {
	ceiling := p.BackoffMax
	if shift := attempts - 1; shift < 30 && p.BackoffMin<<shift < ceiling {
		ceiling = p.BackoffMin << max(0, shift)
	}
	return rand.N(ceiling + 1)
}

// RidesInBulk reports whether a recipient may share a bulk call.
func (p Policy) RidesInBulk(metadata, fromCampaign bool) bool {
	return !metadata || p.BulkMetadata == MetadataAlways || p.BulkMetadata == MetadataAsAsked && fromCampaign
}

// LooksUp reports whether recipients are looked up before they ride in a bulk: only while bulk permits are scarce.
func (p Policy) LooksUp() bool { return p.Bulk.N > 0 }

// Ahead is how many recipients of a campaign are looked up before their permits come: as many as one window carries, in
// bulks and alone, and no more than 500.
func (p Policy) Ahead() int { return min(max(p.Bulk.N*BulkSize+p.Create.N, LookupSize), 500) }

// Sleep waits, or returns the context's error.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
