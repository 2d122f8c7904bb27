package policy

import (
	"strings"
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

// The names of limits that count nothing, and rest while Clerk serves nobody: calls of one endpoint, or all that
// change something.
const (
	RestPrefix = "rest-"
	RestCreate = RestPrefix + "create" // single and bulk
	RestRevoke = RestPrefix + "revoke"
	RestDelete = RestPrefix + "delete"
	RestRead   = RestPrefix + "read"
	RestWrites = RestPrefix + "writes"
)

// RestOf is the limit that rests while Clerk serves nobody who makes a kind of call.
func RestOf(call Call) string {
	switch call {
	case Revoke:
		return RestRevoke
	case Delete:
		return RestDelete
	case Read:
		return RestRead
	}
	return RestCreate
}

// Rests are the limits that rest while Clerk serves nobody.
func Rests() []string { return []string{RestCreate, RestRevoke, RestDelete, RestRead, RestWrites} }

// CallsOf names the calls that a limit is about which is there only to rest: create, revoke, delete, read, writes, or
// all of a key.
func CallsOf(limit string) string {
	if strings.HasPrefix(limit, KeyLimit("")) {
		return allCalls
	}
	return strings.TrimPrefix(limit, RestPrefix)
}

const allCalls = "all"

// OnlyRests tells whether a limit counts nothing, and is there only to rest.
func OnlyRests(limit string) bool {
	return strings.HasPrefix(limit, RestPrefix) || strings.HasPrefix(limit, KeyLimit(""))
}

// Limits are the limiter's: Clerk's three, that of the key, and those that only rest.
func (p Policy) Limits(keyFingerprint string) []ratelimit.Limit {
	limit := func(name string, rate settings.Rate) ratelimit.Limit {
		return ratelimit.Limit{Name: name, N: rate.N, Window: rate.Window}
	}
	limits := []ratelimit.Limit{
		limit(LimitCreate, p.Create), limit(LimitBulk, p.Bulk), limit(LimitOverall, p.Overall),
		{Name: KeyLimit(keyFingerprint)},
	}
	for _, name := range Rests() {
		limits = append(limits, ratelimit.Limit{Name: name})
	}
	return limits
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
	overall := ratelimit.Want{Limit: LimitOverall}
	rests := []ratelimit.Want{{Limit: KeyLimit(keyFingerprint)}, {Limit: RestOf(call)}}
	if call != Read {
		rests = append(rests, ratelimit.Want{Limit: RestWrites})
	}
	single := func(share string, left int) ([]ratelimit.Want, string) {
		create := ratelimit.Want{Limit: LimitCreate}
		if share != "" && p.Create.N > 0 {
			create.Share, create.Max = share, p.Create.N-left
		}
		return append([]ratelimit.Want{create, overall}, rests...), LimitCreate
	}
	switch call {
	case Create:
		return single("", 0)
	case CreateBurst:
		return single("burst", p.Kept())
	case CreateCampaign:
		return single("campaign", p.Reserve)
	case Bulk:
		return append([]ratelimit.Want{{Limit: LimitBulk}, overall}, rests...), LimitBulk
	case Read:
		if p.Overall.N > 0 {
			overall.Share, overall.Max = "reads", max(1, p.Overall.N/2)
		}
	}
	return append([]ratelimit.Want{overall}, rests...), LimitOverall
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
