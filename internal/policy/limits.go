package policy

import (
	"time"

	"example.com/usher/internal/settings"
	"example.com/usher/ratelimit"
)

// Call is a kind of call, by the permits that it needs.
type Call string

// The kinds of calls.
const (
	Create Call = "create" // for an invite, from the last single permit if need be
	// CreateBurst is for an invite that may find company: it leaves the last singles to those that fill no bulk.
	CreateBurst    Call = "create-burst"
	CreateCampaign Call = "create-campaign" // for a recipient of a campaign: it leaves the reserve to invites
	Bulk           Call = "bulk"
	Revoke         Call = "revoke"
	Read           Call = "read" // lists, and look-ups of users
)

// The names of Clerk's limits in the limiter.
const (
	LimitCreate  = "create"
	LimitBulk    = "bulk"
	LimitOverall = "overall"
)

// KeyLimit is the limit without a figure that rests while Clerk refuses the key.
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

// Kept is how many singles are kept for invites that fill no bulk. None where there is no bulk limit, or no create
// limit.
func (p Policy) Kept() int {
	if p.Bulk.N == 0 {
		return 0
	}
	return min(keptSingles, p.Create.N/5)
}

// Wants are the places that a call takes, and own is the limit that a 429 on its endpoint is about.
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

// RestAfter429 is how long an endpoint rests: what Clerk says, or else no longer than the limit's window.
func (p Policy) RestAfter429(own string, retryAfter time.Duration) time.Duration {
	if retryAfter > 0 {
		return retryAfter
	}
	windows := map[string]settings.Rate{LimitCreate: p.Create, LimitBulk: p.Bulk, LimitOverall: p.Overall}
	if rate := windows[own]; rate.N > 0 {
		return min(rate.Window, retryAfterUnknown)
	}
	return retryAfterUnknown
}
