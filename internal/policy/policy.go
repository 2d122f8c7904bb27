// Package policy holds every figure that says how fast, how often and how long, and the rules that follow from them.
package policy

import (
	"math/rand/v2"
	"time"

	"example.com/usher/internal/settings"
)

// Policy is what an operator sets. What nobody needs to set stands in the constants below.
type Policy struct {
	Create, Bulk, Overall settings.Rate // Clerk's limits, as far as they are ours to spend
	Reserve               int           // single permits in a window that only invite tasks may use
	Timeout               time.Duration // of one call
	Settle                time.Duration // how long after its deadline a lost call may still commit at Clerk
	MaxAttempts           int
	BackoffMin            time.Duration
	BackoffMax            time.Duration
	BulkMetadata          BulkMetadata
}

// BulkMetadata says whether a recipient with metadata may ride in a bulk call.
type BulkMetadata string

// The values of BulkMetadata.
const (
	MetadataAsAsked BulkMetadata = "as-asked" // in a bulk if it came in one
	MetadataAlways  BulkMetadata = "always"
	MetadataNever   BulkMetadata = "never"
)

const (
	// BulkSize is how many recipients Clerk takes in one bulk call (documented).
	BulkSize = 10
	// ListPage is how many invitations are asked for at once (documented as the most).
	ListPage = 500
	// ListOverlap is how many rows before the end of what was read the next page begins, when no more slid before:
	// more than a bulk, whose rows may have one time, and some that are revoked meanwhile. MaxListOverlap is the
	// most, so that a page always leads on.
	ListOverlap    = 20
	MaxListOverlap = ListPage / 4
	// ListSlides is how often rows may slide before a page while a list is read, until it changes too fast to be read.
	ListSlides = 200
	// LookupSize is how many recipients are looked up together: as many as one call for users takes (documented). It
	// is not taken from clerkclient, because programs that only reckon with the policy do without the Clerk SDK.
	LookupSize = 100
	// LookupPatience bounds a look-up, its waits for permits included; after it the recipients are sent without one.
	LookupPatience = 10 * time.Second
	// LookupWarning is how often the log says at most that look-ups fail.
	LookupWarning = time.Minute
	// LostSize is how many recipients are asked about together whose last call was lost, and LostPatience bounds the
	// question: each may take two calls, and only half of the overall limit is for reading.
	LostSize     = 20
	LostPatience = time.Minute
	// AskPatience bounds how long somebody who waits at a command for Clerk's answers waits for one of them, its
	// permit included; AskTries is how often a question is put that fails, and AskPause the wait before it is put
	// again, twice as long each time.
	AskPatience = 2 * time.Minute
	AskTries    = 4
	AskPause    = 250 * time.Millisecond
	// FewAddresses are asked about each by itself, and so are all when their first call was not lately.
	FewAddresses = 2
	Lately       = time.Hour
	// RevokesAtOnce is how many calls of one revoke task are under way at once.
	RevokesAtOnce = 8
	// SkewMargin is how much earlier than its call an invitation may seem to be made, beyond what Clerk's clock is
	// seen to be behind; MaxSkew bounds that.
	SkewMargin = 2 * time.Second
	MaxSkew    = 5 * time.Minute
	// BusyRest is the longest wait before an address is claimed again that another intent holds.
	BusyRest = 2 * time.Second
	// LookupsAtOnce is how many look-ups of one campaign, or of invites, are under way at once.
	LookupsAtOnce = 3
	// Gather is how long an invite that finds the singles short waits for others to share a bulk with, before it
	// takes one of the last singles.
	Gather = 100 * time.Millisecond
	// ShortWait is the longest wait for a single permit that is no reason to spend a bulk permit on fewer invites
	// than it carries.
	ShortWait = 5 * time.Second
	// SinglesFirst is how much earlier a single permit must come free than a bulk permit for recipients that may
	// ride in a bulk: else one of all calls would be spent on one of them that carries ten.
	SinglesFirst = 20 * time.Millisecond
	// keptSingles is how many singles in a window are kept for invites that fill no bulk: the rest of a burst, after
	// its full bulks have left from several workers, is up to 9 in each.
	keptSingles = 20

	// MaxFlight is how many calls of a kind a worker has under way at once: enough that latency costs no throughput.
	MaxFlight = 128

	// LongBackoff is the longest wait between attempts that holds a handler; a longer one frees it.
	LongBackoff = 5 * time.Second
	// retryAfterUnknown is how long an endpoint rests after a 429 that does not say.
	retryAfterUnknown = 30 * time.Second
	// KeyRest is how long all calls rest after Clerk refused the key, twice as long each time up to KeyRestMax; then
	// one goes first.
	KeyRest    = time.Second
	KeyRestMax = time.Minute
	// RedisRest is the wait before Redis is asked again after it could not answer.
	RedisRest = 500 * time.Millisecond
	// NewerRest is how long a task of a newer version is left alone.
	NewerRest = 30 * time.Second
	// CallGrace is how long a call in flight may go on when the worker stops, and SettleGrace how long writing its
	// outcome may take. LanesGrace is when asynq puts what is unfinished back; all end well before 8 seconds.
	CallGrace   = 5 * time.Second
	SettleGrace = time.Second
	LanesGrace  = CallGrace + SettleGrace
	// SettleMargin is how long its recipients stay with a call after its deadline and the settling time, so that its
	// outcome can be recorded.
	SettleMargin = 10 * time.Second
	// DriverPoll is how long a driver sleeps at most before it looks at its ledger again, and renews its lease by
	// that.
	DriverPoll = 3 * time.Second
	// MemoryCheck is how often each worker looks whether Redis was started anew.
	MemoryCheck = 2 * time.Second
	// SweepInterval is how often each worker looks for running campaigns without a driver.
	SweepInterval = 2 * time.Second

	// MissedTick is how late a tick of a schedule may happen: a worker that comes back after lunch makes up for what
	// it missed, but nobody wants yesterday's invitation today.
	MissedTick = time.Hour
	// TickHold is how long a worker may take to enqueue a tick before another one does it: a list of 200,000 takes
	// seconds.
	TickHold = 30 * time.Second
	// SchedulePoll is the longest sleep before a worker looks at a schedule again, for what became of others' ticks.
	SchedulePoll = time.Second
	// ScheduleSeen is how often it is noted that a worker has a schedule in its file, and ScheduleLost after how
	// long none has it.
	ScheduleSeen = 30 * time.Second
	ScheduleLost = 2 * time.Minute
)

// Backoff is the wait after the given number of failed attempts: doubling, with full jitter.
func (p Policy) Backoff(attempts int) time.Duration {
	ceiling := p.BackoffMax
	if shift := attempts - 1; shift < 30 && p.BackoffMin<<shift < ceiling {
		ceiling = p.BackoffMin << max(0, shift)
	}
	return rand.N(ceiling + 1)
}

// RidesInBulk tells whether a recipient may share a bulk call.
func (p Policy) RidesInBulk(metadata, fromCampaign bool) bool {
	return !metadata || p.BulkMetadata == MetadataAlways || p.BulkMetadata == MetadataAsAsked && fromCampaign
}

// LooksUp tells whether recipients are looked up before they ride in a bulk: while bulk permits are scarce.
func (p Policy) LooksUp() bool { return p.Bulk.N > 0 }

// Ahead is how many recipients of a campaign are looked up before their permits come: what one window carries.
func (p Policy) Ahead() int { return min(max(p.Bulk.N*BulkSize, LookupSize), 500) }
