package clerktest

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limit allows at most N requests in a Window. If N is 0 the limit is off, and its Window is only measured (see
// [Stats]). Its text form is "N/duration", as in "100/1h".
type Limit struct {
	N      int
	Window time.Duration
}

// String returns the text form: "100/1h0m0s", or "0" for a limit that is off and not measured.
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

// The forms of Retry-After. Clerk documents whole seconds; the others are assumed to be possible.
const (
	RetrySeconds RetryAfter = ""     // whole seconds, rounded up
	RetryDate    RetryAfter = "date" // an HTTP date, rounded up to the next second
	RetryNone    RetryAfter = "none" // no header at all
)

// ThrottleBody is the body of a 429. All three were observed.
type ThrottleBody string

// The bodies of a 429.
const (
	TooManyRequests   ThrottleBody = ""                    // Clerk's JSON with the code too_many_requests
	RateLimitExceeded ThrottleBody = "rate_limit_exceeded" // the same with the code rate_limit_exceeded
	ThrottleHTML      ThrottleBody = "html"                // an HTML page from the edge
)

// Naming is how many of the addresses at fault an error names in its meta.
type Naming string

// The values of Naming.
const (
	NameAll   Naming = ""      // all of them
	NameFirst Naming = "first" // only the first
	NameNone  Naming = "none"  // none: no meta
)

// Config sets a sandbox up. The zero value is a Clerk without limits that behaves as is documented, or most likely.
// Where Clerk's behaviour is only observed (O) or assumed (A), a switch plays the other possibility. Code for the
// real Clerk should pass with both. [Documented] adds Clerk's documented limits.
type Config struct {
	// Key is the only secret key accepted. Empty accepts every sk_test_… and sk_live_….
	Key string `json:"key"`

	// Create, Bulk and Overall limit POST /invitations, POST /invitations/bulk, and all requests together. When a
	// request arrives it takes a place in each of its windows, or in none.
	Create  Limit `json:"create"`
	Bulk    Limit `json:"bulk"`
	Overall Limit `json:"overall"`
	// FixedWindow counts in fixed windows, which start at whole multiples of their length since 1970. Up to 2N
	// requests then pass around a border. Otherwise windows slide: no span of the window's length holds more than N.
	// (A)
	FixedWindow bool `json:"fixed_window"`
	// SharedBuckets makes a bulk take a place of the create limit too. (A: Clerk's buckets are believed separate.)
	SharedBuckets bool `json:"shared_buckets"`
	// RefusedCount makes a refused request take a place in the windows that refused it, so that a client that does not
	// wait is never let in. (A)
	RefusedCount bool `json:"refused_count"`
	// RetryAfter and ThrottleBody are the form of a refusal by a limit.
	RetryAfter   RetryAfter   `json:"retry_after"`
	ThrottleBody ThrottleBody `json:"throttle_body"`

	// MinTransit to MaxTransit, evenly drawn, pass before a request arrives: before it gets its time and limits see
	// it.
	MinTransit time.Duration `json:"-"`
	MaxTransit time.Duration `json:"-"`
	// MinLatency to MaxLatency, evenly drawn, pass between the arrival of a request and its work. The answer follows
	// the work at once.
	MinLatency time.Duration `json:"-"`
	MaxLatency time.Duration `json:"-"`
	// LateCommit is how long after its client gave up, during latency or a hang before the work, a request is
	// carried out all the same. 0 means never. (A) An invitation made like that has the later time as its
	// created_at.
	LateCommit time.Duration `json:"-"`
	// ListLag is how long a new invitation is missing from lists. It can be revoked at once. (A)
	ListLag time.Duration `json:"-"`
	// DuplicateLag is how long a new invitation does not count as a duplicate. (A)
	DuplicateLag time.Duration `json:"-"`

	// BulkPartial makes the good invitations of a bulk although the answer is an error about the bad ones. Otherwise
	// a bulk is all or nothing. (A, strongly indicated)
	BulkPartial bool `json:"bulk_partial"`
	// BulkDropsMetadata loses the public_metadata of bulk invitations at sign-up: the invitation shows it, but the
	// user who accepts has none. (O, unconfirmed)
	BulkDropsMetadata bool `json:"bulk_drops_metadata"`
	// DuplicatesNamed is how many of the addresses of a duplicate_record meta.email_addresses lists. (A)
	DuplicatesNamed Naming `json:"duplicates_named"`
	// UserErrorNamesAddresses adds meta.email_addresses to form_identifier_exists. (A: believed to carry only
	// param_name)
	UserErrorNamesAddresses bool `json:"user_error_names_addresses"`
	// CaseSensitive makes addresses different that differ only in case. (A: believed not)
	CaseSensitive bool `json:"case_sensitive"`
	// FoldAddresses stores and answers addresses in lower case instead of as they were sent. (A)
	FoldAddresses bool `json:"fold_addresses"`
	// RevokedCountsAsDuplicate makes a new invitation a duplicate of a revoked one. (O)
	RevokedCountsAsDuplicate bool `json:"revoked_counts_as_duplicate"`
	// IgnoreExistingCoversUsers and BulkIgnoreExistingCoversUsers make ignore_existing accept the addresses of
	// users, in single creates and in bulks. (A: Clerk's texts contradict each other)
	IgnoreExistingCoversUsers     bool `json:"ignore_existing_covers_users"`
	BulkIgnoreExistingCoversUsers bool `json:"bulk_ignore_existing_covers_users"`
	// StatusRepeatable makes a list's status filter accept several values. Otherwise only the first one counts. (O)
	StatusRepeatable bool `json:"status_repeatable"`
	// ExpiredRevocable lets an expired invitation be revoked. Otherwise that is a 400 invitation_not_pending. (A,
	// and so is the code)
	ExpiredRevocable bool `json:"expired_revocable"`
	// NoDelete answers DELETE /invitations/{id} with a 404, as a Clerk that does not offer it. DeletedAgain makes a
	// second DELETE of an invitation succeed; otherwise it is a 404. (A)
	NoDelete     bool `json:"no_delete"`
	DeletedAgain bool `json:"deleted_again"`
	// RefuseSubaddresses refuses addresses like a+b@example.com with 403 not_allowed_access that names nobody, as a
	// documented restriction does.
	RefuseSubaddresses bool `json:"refuse_subaddresses"`
	// ThrottleResetsIn adds meta.resets_in, in whole seconds, to the JSON of a 429. (O)
	ThrottleResetsIn bool `json:"throttle_resets_in"`
	// EdgeBlocksAgents answers with the edge's 403 if the User-Agent is missing or the default one of an HTTP
	// library. (O)
	EdgeBlocksAgents bool `json:"edge_blocks_agents"`
	// MetadataMax is the most bytes of public_metadata, as compact JSON. 0 means 8192 (A); negative means no bound.
	MetadataMax int `json:"metadata_max"`
	// DevMonthlyCap is how many e-mails go out in a calendar month (UTC); 0 means any number. Addresses with
	// +clerk_test do not count. Beyond the cap a create is refused with dev_monthly_email_limit_exceeded. With
	// DevCapSilent it succeeds, but no e-mail is sent (see Sent.Emailed). Both are documented.
	DevMonthlyCap int  `json:"dev_monthly_cap"`
	DevCapSilent  bool `json:"dev_cap_silent"`

	// Now is the sandbox's clock, for windows, timestamps, expiry, ListLag, LateCommit and Date headers; nil means
	// time.Now. Latency and hangs pass in real time.
	Now func() time.Time `json:"-"`
	// Seed makes ids, tickets, latencies and the choices of Fault.Probability repeatable. Two sandboxes with one
	// seed give the same ids in the same order.
	Seed uint64 `json:"seed"`
}

// Documented returns the documented limits of Clerk for an instance with this secret key: 100 creates and 25 bulks an
// hour, and in 10 s 1000 requests with an sk_live_ key or 100 with any other.
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

// Validate says what is wrong with a configuration: a limit without a window, a negative duration, an unknown word.
func (c Config) Validate() error {
	var errs []error
	for name, l := range map[string]Limit{"create": c.Create, "bulk": c.Bulk, "overall": c.Overall} {
		if err := l.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", name, err))
		}
	}
	if min(c.MinLatency, c.MinTransit, c.LateCommit, c.ListLag, c.DuplicateLag) < 0 || c.DevMonthlyCap < 0 {
		const fault = "latency, transit, late_commit, list_lag, duplicate_lag and dev_monthly_cap cannot be negative"
		errs = append(errs, errors.New(fault))
	}
	if !c.RetryAfter.known() {
		errs = append(errs, fmt.Errorf("retry_after %q: want nothing (seconds), date or none", c.RetryAfter))
	}
	if !c.ThrottleBody.known() {
		const fault = "throttle_body %q: want nothing (too_many_requests), rate_limit_exceeded or html"
		errs = append(errs, fmt.Errorf(fault, c.ThrottleBody))
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
