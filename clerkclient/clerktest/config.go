package clerktest

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limit is at most N requests in a Window. N == 0 switches the limit off; its Window, if any, is then only measured (see
// [Stats]). Its text form is "N/duration", as in "100/1h".
type Limit struct {
	N      int
	Window time.Duration
}

// String is the limit's text form: "100/1h0m0s", or "0" for one that is off and not measured.
func (l Limit) String() string {
	if l == (Limit{}) {
		return "0"
	}
	return fmt.Sprintf("%d/%s", l.N, l.Window)
}

// MarshalText writes the text form.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads "N/duration", or "0".
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*l = Limit{}
		return nil
	}
	count, window, _ := strings.Cut(string(text), "/")
	n, errN := strconv.Atoi(count)
	d, errD := time.ParseDuration(window)
	if err := errors.Join(errN, errD); err != nil {
		return fmt.Errorf("limit %q: want N/duration, as in 100/1h, or 0", text)
	}
	*l = Limit{N: n, Window: d}
	return l.validate()
}

func (l Limit) validate() error {
	if l.N < 0 || l.Window < 0 || (l.N > 0 && l.Window == 0) {
		return fmt.Errorf("limit %s: want N > 0 in a window > 0, or N = 0 for no limit", l)
	}
	return nil
}

// RetryAfter is how a 429 says when to come back.
type RetryAfter string

// The styles of Retry-After. Clerk documents whole seconds; the others are assumed to be possible.
const (
	RetrySeconds RetryAfter = ""     // whole seconds, rounded up
	RetryDate    RetryAfter = "date" // an HTTP date, rounded up to the next second
	RetryNone    RetryAfter = "none" // no header at all
)

// ThrottleBody is what a 429 carries as its body. All three were observed.
type ThrottleBody string

// The bodies of a 429.
const (
	TooManyRequests   ThrottleBody = ""                    // Clerk's JSON with the code too_many_requests
	RateLimitExceeded ThrottleBody = "rate_limit_exceeded" // the same with the code rate_limit_exceeded
	ThrottleHTML      ThrottleBody = "html"                // an HTML page from the edge
)

// Naming is how much an error's meta tells about the addresses at fault.
type Naming string

// The ways of naming offenders.
const (
	NameAll   Naming = ""      // all of them
	NameFirst Naming = "first" // only the first
	NameNone  Naming = "none"  // none: no meta
)

// Config sets a sandbox up. The zero value is a Clerk without limits that behaves as is documented or most likely; where
// Clerk's behaviour is only observed (O) or assumed (A), a switch plays the other possibility, and code that is to live with
// the real Clerk should pass with the switch in either position. [Documented] adds Clerk's documented limits.
type Config struct {
	// Key is the only secret key accepted. Empty accepts every sk_test_… and sk_live_….
	Key string `json:"key"`

	// Create, Bulk and Overall limit POST /invitations, POST /invitations/bulk, and all requests together. A request takes
	// its place in each of its windows at its arrival, or in none.
	Create  Limit `json:"create"`
	Bulk    Limit `json:"bulk"`
	Overall Limit `json:"overall"`
	// FixedWindow counts in fixed windows, which start at whole multiples of their length since the Unix epoch, so that up
	// to 2N requests pass around a border. Otherwise windows slide: no span of the window's length holds more than N. (A)
	FixedWindow bool `json:"fixed_window"`
	// SharedBuckets makes a bulk take a place of the create limit too. (A: Clerk's buckets are believed separate.)
	SharedBuckets bool `json:"shared_buckets"`
	// RefusedCount makes a refused request occupy its place in the windows that refused it, so that whoever hammers stays
	// out. (A)
	RefusedCount bool `json:"refused_count"`
	// RetryAfter and ThrottleBody are how a refusal is announced.
	RetryAfter   RetryAfter   `json:"retry_after"`
	ThrottleBody ThrottleBody `json:"throttle_body"`

	// MinTransit to MaxTransit, evenly drawn, pass before a request arrives: before its arrival is stamped and limits see it.
	MinTransit time.Duration `json:"-"`
	MaxTransit time.Duration `json:"-"`
	// MinLatency to MaxLatency, evenly drawn, pass between a request's arrival and the work it asks for, which is followed
	// at once by the answer.
	MinLatency time.Duration `json:"-"`
	MaxLatency time.Duration `json:"-"`
	// LateCommit is how long after a client gave up, in the latency or in a hang before the work, its request is carried out
	// all the same. 0: it never is. (A) An invitation made so has that later moment as its created_at.
	LateCommit time.Duration `json:"-"`
	// ListLag is how long a new invitation is missing from lists. Duplicates and revokes know it at once. (A)
	ListLag time.Duration `json:"-"`

	// BulkPartial makes the good invitations of a bulk although the answer is an error about the bad ones. Otherwise a bulk
	// is all or nothing. (A, strongly indicated)
	BulkPartial bool `json:"bulk_partial"`
	// BulkDropsMetadata loses the public_metadata of bulk invitations at sign-up: the invitation shows it, the user who
	// accepts has none. (O, unconfirmed)
	BulkDropsMetadata bool `json:"bulk_drops_metadata"`
	// DuplicatesNamed is how many of a duplicate_record's addresses meta.email_addresses lists. (A)
	DuplicatesNamed Naming `json:"duplicates_named"`
	// UserErrorNamesAddresses adds meta.email_addresses to form_identifier_exists. (A: believed to carry only param_name)
	UserErrorNamesAddresses bool `json:"user_error_names_addresses"`
	// CaseSensitive tells addresses apart that differ only in case. (A: believed not)
	CaseSensitive bool `json:"case_sensitive"`
	// FoldAddresses stores and answers addresses in lower case instead of as they were sent. (A)
	FoldAddresses bool `json:"fold_addresses"`
	// RevokedCountsAsDuplicate makes a revoked invitation stand in the way of a new one. (O)
	RevokedCountsAsDuplicate bool `json:"revoked_counts_as_duplicate"`
	// IgnoreExistingCoversUsers and BulkIgnoreExistingCoversUsers make ignore_existing admit the addresses of users, in
	// single creates and in bulks. (A: Clerk's texts contradict each other)
	IgnoreExistingCoversUsers     bool `json:"ignore_existing_covers_users"`
	BulkIgnoreExistingCoversUsers bool `json:"bulk_ignore_existing_covers_users"`
	// StatusRepeatable makes a list's status filter accept several values. Otherwise only the first one counts. (O)
	StatusRepeatable bool `json:"status_repeatable"`
	// ExpiredRevocable lets an expired invitation be revoked. Otherwise that is a 400 invitation_not_pending. (A, the code too)
	ExpiredRevocable bool `json:"expired_revocable"`
	// EdgeBlocksAgents answers the edge's 403 to requests without a real User-Agent: none, or the default one of an HTTP
	// library. (O)
	EdgeBlocksAgents bool `json:"edge_blocks_agents"`
	// MetadataMax is the most bytes of public_metadata, as compact JSON. 0 means 8192 (A), negative no bound.
	MetadataMax int `json:"metadata_max"`
	// DevMonthlyCap is how many e-mails go out in a calendar month (UTC); 0 means any number. Addresses with +clerk_test are
	// exempt. Past it a create is refused with dev_monthly_email_limit_exceeded or, with DevCapSilent, answered as if all
	// were well while nothing is sent (see Sent.Emailed). Both documented.
	DevMonthlyCap int  `json:"dev_monthly_cap"`
	DevCapSilent  bool `json:"dev_cap_silent"`

	// Now is the sandbox's clock, for windows, timestamps, expiry, ListLag, LateCommit and Date headers; default time.Now. Latency
	// and hangs pass in real time.
	Now func() time.Time `json:"-"`
	// Seed makes ids, tickets, latencies and the choices of Fault.Probability repeatable. Two sandboxes with one seed give the
	// same ids in the same order.
	Seed uint64 `json:"seed"`
}

// Documented is Clerk with its documented limits, for an instance of this secret key: 100 creates and 25 bulks an hour, and
// 1000 requests in 10 s for sk_live_, 100 for any other key.
func Documented(key string) Config {
	overall := Limit{N: 100, Window: 10 * time.Second}
	if strings.HasPrefix(key, "sk_live_") {
		overall.N = 1000
	}
	return Config{
		Key:     key,
		Create:  Limit{N: 100, Window: time.Hour},
		Bulk:    Limit{N: 25, Window: time.Hour},
		Overall: overall,
	}
}

// Validate tells what is wrong with a configuration: a limit without a window, a negative duration, a word that does not exist.
func (c Config) Validate() error {
	var errs []error
	for name, l := range map[string]Limit{"create": c.Create, "bulk": c.Bulk, "overall": c.Overall} {
		if err := l.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", name, err))
		}
	}
	if c.MinLatency < 0 || c.MinTransit < 0 || c.LateCommit < 0 || c.ListLag < 0 || c.DevMonthlyCap < 0 {
		errs = append(errs, errors.New("latency, transit, late_commit, list_lag and dev_monthly_cap cannot be negative"))
	}
	if !c.RetryAfter.known() {
		errs = append(errs, fmt.Errorf("retry_after %q: want nothing (seconds), date or none", c.RetryAfter))
	}
	if !c.ThrottleBody.known() {
		errs = append(errs, fmt.Errorf("throttle_body %q: want nothing (too_many_requests), rate_limit_exceeded or html", c.ThrottleBody))
	}
	if c.DuplicatesNamed != NameAll && c.DuplicatesNamed != NameFirst && c.DuplicatesNamed != NameNone {
		errs = append(errs, fmt.Errorf("duplicates_named %q: want nothing (all), first or none", c.DuplicatesNamed))
	}
	return errors.Join(errs...)
}

func (r RetryAfter) known() bool { return r == RetrySeconds || r == RetryDate || r == RetryNone }

func (b ThrottleBody) known() bool {
	return b == TooManyRequests || b == RateLimitExceeded || b == ThrottleHTML
}

func (c Config) withDefaults() Config {
	c.MetadataMax = cmp.Or(c.MetadataMax, 8192)
	c.MaxLatency = max(c.MaxLatency, c.MinLatency)
	c.MaxTransit = max(c.MaxTransit, c.MinTransit)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}
