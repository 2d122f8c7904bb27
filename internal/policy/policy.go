package worker

import (
	"math/rand/v2"
	"time"

	"example.com/usher/internal/settings"
	"example.com/usher/ratelimit"
)

// Policy is every figure that says how fast, how often and how long. It comes from the settings; what nobody needs to
// set stands in the constants below.
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
	bulkSize = 10 // recipients that Clerk takes in one bulk call (documented)
	listPage = 500

	// longBackoff is the longest wait between attempts that holds a handler; a longer one frees it.
	longBackoff = 5 * time.Second
	// retryAfterUnknown is how long an endpoint rests after a 429 that does not say.
	retryAfterUnknown = 30 * time.Second
	// keyRest is how long all calls rest after Clerk refused the key; then one goes first.
	keyRest = 5 * time.Second
	// redisRest is the wait before Redis is asked again after it could not answer.
	redisRest = 500 * time.Millisecond
	// newerRest is how long a task of a newer version is left alone.
	newerRest = 30 * time.Second
	// callGrace is how long a call in flight may go on when the worker stops, and settleGrace how long writing its
	// outcome may take. lanesGrace is when asynq puts what is unfinished back; all end well before 8 seconds.
	callGrace   = 5 * time.Second
	settleGrace = time.Second
	lanesGrace  = callGrace + settleGrace
	// settleMargin is how long its recipients stay with a call after its deadline and the settling time, so that its
	// outcome can be recorded.
	settleMargin = 10 * time.Second
	// campaignSenders is how many calls of one campaign fly at once, of each kind: enough that latency costs no throughput.
	campaignSenders = 32
	// driverPoll is how long a driver whose recipients all wait for a later attempt sleeps before it looks again.
	driverPoll = 2 * time.Second
)

// endpoint is a kind of call, by the permits that it needs.
type endpoint string

const (
	createCall         endpoint = "create"
	campaignCreateCall endpoint = "create-campaign" // leaves the reserve to invite tasks
	bulkCall           endpoint = "bulk"
	revokeCall         endpoint = "revoke"
	readCall           endpoint = "list"
)

// limits are the limiter's: Clerk's three, and one without a figure that rests while Clerk refuses the key.
func (p Policy) limits(keyFingerprint string) []ratelimit.Limit {
	limit := func(name string, rate settings.Rate) ratelimit.Limit {
		return ratelimit.Limit{Name: name, N: rate.N, Window: rate.Window}
	}
	return []ratelimit.Limit{
		limit("create", p.Create), limit("bulk", p.Bulk), limit("overall", p.Overall),
		{Name: keyLimit(keyFingerprint)},
	}
}

func keyLimit(fingerprint string) string { return "key-" + fingerprint }

// wants are the places that a call takes, and own is the limit that a 429 on its endpoint is about.
func (p Policy) wants(e endpoint, keyFingerprint string) (wants []ratelimit.Want, own string) {
	key, overall := ratelimit.Want{Limit: keyLimit(keyFingerprint)}, ratelimit.Want{Limit: "overall"}
	switch e {
	case createCall:
		return []ratelimit.Want{{Limit: "create"}, overall, key}, "create"
	case campaignCreateCall:
		create := ratelimit.Want{Limit: "create"}
		if p.Create.N > 0 {
			create.Share, create.Max = "campaign", p.Create.N-p.Reserve
		}
		return []ratelimit.Want{create, overall, key}, "create"
	case bulkCall:
		return []ratelimit.Want{{Limit: "bulk"}, overall, key}, "bulk"
	case readCall:
		if p.Overall.N > 0 {
			overall.Share, overall.Max = "reads", max(1, p.Overall.N/2)
		}
		return []ratelimit.Want{overall, key}, "overall"
	}
	return []ratelimit.Want{overall, key}, "overall"
}

// restAfter429 is how long an endpoint rests: what Clerk says, or else no longer than the limit's window.
func (p Policy) restAfter429(own string, retryAfter time.Duration) time.Duration {
	if retryAfter > 0 {
		return retryAfter
	}
	windows := map[string]settings.Rate{"create": p.Create, "bulk": p.Bulk, "overall": p.Overall}
	if rate := windows[own]; rate.N > 0 {
		return min(rate.Window, retryAfterUnknown)
	}
	return retryAfterUnknown
}

// backoff is the wait after the given number of failed attempts: doubling, with full jitter.
func (p Policy) backoff(attempts int) time.Duration {
	ceiling := p.BackoffMax
	if shift := attempts - 1; shift < 30 && p.BackoffMin<<shift < ceiling {
		ceiling = p.BackoffMin << max(0, shift)
	}
	return rand.N(ceiling + 1)
}
