package policy

import (
	"time"

	"example.com/usher/internal/settings"
	"example.com/usher/ratelimit"
)

// Call is a kind of call. Each kind needs its own permits.
type Call string

// The kinds of calls.
const (
	Create         Call = "create"          // for an invite, which may take the last single permit
	CreateBurst    Call = "create-burst"    // for an invite that may ride in a bulk: it leaves the kept singles
	CreateCampaign Call = "create-campaign" // for a recipient of a campaign: it leaves the reserve
	Bulk           Call = "bulk"
	Revoke         Call = "revoke"
	Delete         Call = "delete"
	Read           Call = "read" // lists, and look-ups of users
)

// The names of Clerk's limits in the limiter.
const (
	LimitCreate  = "create"
	LimitBulk    = "bulk"
	LimitOverall = "overall"
)

// KeyLimit is the limit of a key. It counts nothing, and rests while Clerk refuses the key.
func KeyLimit(fingerprint string) string { return "key-" + fingerprint }

// Limits are the limiter's: Clerk's three, and that of the key.
func (p Policy) Limits(keyFingerprint string) []ratelimit.Limit {
	limit := func(name string, rate settings.Rate) ratelimit.Limit {
		return ratelimit.Limit{Name: name, N: rate.N, Window: rate.Window}
	}
	return []ratelimit.Limit{
		limit(LimitCreate, p.Create), limit(LimitBulk, p.Bulk), limit(LimitOverall, p.Overall),
		{Name: KeyLimit(keyFingerprint)},
	}
}

// Kept is how many single permits are kept for invites that fill no bulk. It is 0 without a bulk limit or a create
// limit.
func (p Policy) Kept() int {
	if p.Bulk.N == 0 {
		return 0
	}
	return min(keptSingles, p.Create.N/5)
}

// Wants returns the places that a call takes, and the limit that rests after a 429 from its endpoint.
func (p Policy) Wants(call Call, keyFingerprint string) (wants []ratelimit.Want, own string) {
	key, overall := ratelimit.Want{Limit: KeyLimit(keyFingerprint)}, ratelimit.Want{Limit: LimitOverall}
	single := func(share string, left int) ([]ratelimit.Want, string) {
		create := ratelimit.Want{Limit: LimitCreate}
		if share != "" && p.Create.N > 0 {
			create.Share, create.Max = share, p.Create.N-left
		}
		return []ratelimit.Want{create, overall, key}, LimitCreate
	}
	switch call {
	case Create:
		return single("", 0)
	case CreateBurst:
		return single("burst", p.Kept())
	case CreateCampaign:
		return single("campaign", p.Reserve)
	case Bulk:
		return []ratelimit.Want{{Limit: LimitBulk}, overall, key}, LimitBulk
	case Read:
		if p.Overall.N > 0 {
			overall.Share, overall.Max = "reads", max(1, p.Overall.N/2)
		}
	}
	return []ratelimit.Want{overall, key}, LimitOverall
}

// RestAfter429 is how long a limit rests: as long as Clerk says or, if it does not say, no longer than its window.
func (p Policy) RestAfter429(own string, retryAfter time.Duration) time.Duration {
	if retryAfter > 0 {
		return retryAfter
	}
	for _, limit := range p.Limits("") {
		if limit.Name == own && limit.N > 0 {
			return min(limit.Window, retryAfterUnknown)
		}
	}
	return retryAfterUnknown
}
