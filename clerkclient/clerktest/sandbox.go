package clerktest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Endpoint is one of the operations that the sandbox plays.
type Endpoint string

// The endpoints.
const (
	Create Endpoint = "create" // POST /invitations
	Bulk   Endpoint = "bulk"   // POST /invitations/bulk
	List   Endpoint = "list"   // GET /invitations
	Revoke Endpoint = "revoke" // POST /invitations/{id}/revoke
	Delete Endpoint = "delete" // DELETE /invitations/{id}
	Users  Endpoint = "users"  // GET /users
	Count  Endpoint = "count"  // GET /users/count
	Other  Endpoint = "other"  // anything else, answered with 404
)

// Writes, as the Endpoint of a [Fault], means all that change something: create, bulk, revoke and delete.
const Writes Endpoint = "writes"

func (e Endpoint) writes() bool { return slices.Contains([]Endpoint{Create, Bulk, Revoke, Delete}, e) }

// Sandbox plays Clerk. It is an [http.Handler] and is safe for concurrent use. Make one with [New].
type Sandbox struct {
	mu      sync.Mutex
	cfg     Config
	revoked bool // no key is accepted
	rng     *rand.Rand
	last    time.Time // the clock's latest reading, so that it never runs backwards

	create, bulk, overall window

	invitations []*invitation            // by creation
	byID        map[string]*invitation   //
	deleted     map[string]bool          // ids
	byAddress   map[string][]*invitation // by lower-cased address
	users       []*user                  // by creation
	usersBy     map[string][]*user       // by lower-cased address
	blocked     map[string]bool          // lower-cased addresses, and domains as "@domain"
	rejected    map[string]rejection     // by lower-cased address
	quota       int                      // creates left; negative: any number
	emails      map[string]int           // sent, by calendar month

	faults    []*Fault
	lastFault int
	late      []lateWork // by due time

	sent     []Sent
	requests []Request // the latest; requests[0] is number dropped+1
	dropped  int
	counts   map[Endpoint]*EndpointStats

	closed    chan struct{}
	closeOnce sync.Once
}

type rejection struct {
	status int
	code   string
}

// lateWork is a request whose client gave up, or was told of a failure. It is carried out at due all the same.
type lateWork struct {
	due  time.Time
	call *call
	work work
}

// work carries a request out. Its caller holds the lock.
type work func(now time.Time) *answer

// New makes a sandbox. It panics if the configuration is invalid; see [Config.Validate].
func New(cfg Config) *Sandbox {
	s := &Sandbox{closed: make(chan struct{})}
	s.Configure(func(c *Config) { *c = cfg })
	s.Reset()
	return s
}

// Configure changes the configuration while the sandbox runs, for all requests that arrive from now on. It panics if
// the new configuration is invalid.
func (s *Sandbox) Configure(change func(*Config)) {
	if err := s.configure(func(c *Config) error { change(c); return nil }); err != nil {
		panic("clerktest: " + err.Error())
	}
}

func (s *Sandbox) configure(change func(*Config) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.cfg
	if err := change(&cfg); err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	s.cfg = cfg.withDefaults()
	s.create.set(cfg.Create)
	s.bulk.set(cfg.Bulk)
	s.overall.set(cfg.Overall)
	return nil
}

// Config returns the configuration as it is now.
func (s *Sandbox) Config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// Reset forgets everything but the configuration: invitations, users, blocks, faults, a revoked key, what the limits
// have counted, ledger, requests and statistics.
func (s *Sandbox) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rng = rand.New(rand.NewPCG(s.cfg.Seed, 0))
	s.revoked = false
	s.create, s.bulk, s.overall = window{limit: s.cfg.Create}, window{limit: s.cfg.Bulk}, window{limit: s.cfg.Overall}
	s.invitations, s.byID, s.byAddress = nil, map[string]*invitation{}, map[string][]*invitation{}
	s.deleted = map[string]bool{}
	s.users, s.usersBy = nil, map[string][]*user{}
	s.blocked, s.rejected = map[string]bool{}, map[string]rejection{}
	s.quota, s.emails = -1, map[string]int{}
	s.faults, s.late = nil, nil
	s.dropped += len(s.requests) // no number is used twice: a request may be under way
	s.sent, s.requests = nil, nil
	s.counts = map[Endpoint]*EndpointStats{}
	for _, e := range []Endpoint{Create, Bulk, List, Revoke, Delete, Users, Count, Other} {
		s.counts[e] = &EndpointStats{}
	}
}

// Close ends every hang and every latency, now and later, and breaks their connections, so that a server can stop.
func (s *Sandbox) Close() { s.closeOnce.Do(func() { close(s.closed) }) }

// SetKey makes this the only key accepted; "" accepts every sk_test_… and sk_live_…. It undoes [Sandbox.RevokeKey].
func (s *Sandbox) SetKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Key, s.revoked = key, false
}

// RevokeKey refuses every key with 401 clerk_key_invalid until [Sandbox.SetKey].
func (s *Sandbox) RevokeKey() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = true
}

// clock reads the clock. It never runs backwards, so arrivals and creations stay in order.
func (s *Sandbox) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

// now is clock for a caller that holds the lock. It also carries out the late work that is due.
func (s *Sandbox) now() time.Time {
	if t := s.cfg.Now(); t.After(s.last) {
		s.last = t
	}
	now := s.last
	for len(s.late) > 0 && !s.late[0].due.After(now) {
		l := s.late[0]
		s.late = s.late[1:]
		l.call.late = true
		l.work(l.due)
	}
	return now
}

// abandon records that the client gave up, arranges for its late commit, and ends the handler.
func (c *call) abandon(w work, late time.Duration) {
	c.s.mu.Lock()
	c.s.record(c.number).Abandoned = true
	c.s.mu.Unlock()
	c.s.postpone(c, w, late)
	tear(c.w)
}

// postpone arranges for a request to be carried out later.
func (s *Sandbox) postpone(c *call, w work, late time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if late <= 0 || !c.endpoint.writes() {
		return
	}
	due := now.Add(late)
	i, _ := slices.BinarySearchFunc(s.late, due, func(l lateWork, t time.Time) int {
		return cmp.Or(l.due.Compare(t), -1) // after its equals
	})
	s.late = slices.Insert(s.late, i, lateWork{due: due, call: c, work: w})
}

// do carries the request out now.
func (s *Sandbox) do(w work) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return w(s.now())
}

// call is one request on its way through the sandbox.
type call struct {
	s        *Sandbox
	w        http.ResponseWriter
	r        *http.Request
	cfg      Config // as it was when the request arrived
	endpoint Endpoint
	id       string // of the invitation to revoke or delete
	slugs    []string
	number   int
	trace    string
	latency  time.Duration
	late     bool // carried out after its client gave up
}

// ServeHTTP answers a request as Clerk would, under the path prefix /v1 or none.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	transit := s.draw(func(c Config) (least, most time.Duration) { return c.MinTransit, c.MaxTransit })
	if !s.pause(r.Context(), transit) {
		tear(w) // the client gave up before the request arrived
	}
	c := &call{s: s, w: w, r: r}
	if refusal := s.arrive(c); refusal != nil {
		c.reply(refusal)
		return
	}
	addresses, work := c.read()
	if f := s.strike(c, addresses); f != nil {
		c.suffer(f, work)
		return
	}
	if !s.pause(r.Context(), c.latency) {
		c.abandon(work, c.cfg.LateCommit)
	}
	c.reply(s.do(work))
}

// arrive gives the request its time and its number, and checks the key, the path and the limits, in this order.
func (s *Sandbox) arrive(c *call) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c.cfg = s.cfg
	c.endpoint, c.id = route(c.r)
	c.latency = between(s.rng, s.cfg.MinLatency, s.cfg.MaxLatency)
	c.trace = randomText(s.rng, 32)
	c.number = s.log(Request{
		Arrived: now, Method: c.r.Method, Path: c.r.URL.Path, Endpoint: c.endpoint, TraceID: c.trace,
	})
	s.counts[c.endpoint].Arrivals++
	if a := s.authenticate(c.r); a != nil {
		return a
	}
	if c.endpoint == Other || c.endpoint == Delete && s.cfg.NoDelete {
		return errNotFound("No endpoint " + c.r.Method + " " + c.r.URL.Path + ".")
	}
	for _, w := range s.windowsOf(c.endpoint) {
		w.observe(now.UnixNano())
	}
	if wait := s.admit(c.endpoint, now); wait > 0 {
		s.record(c.number).Throttled = true
		s.counts[c.endpoint].Throttled++
		return throttled(wait, now, s.cfg.RetryAfter, s.cfg.ThrottleBody, s.cfg.ThrottleResetsIn)
	}
	if c.r.Header.Get("Clerk-API-Version") != "" && c.r.URL.Query().Has("__clerk_api_version") {
		return errVersionConflict()
	}
	return nil
}

// authenticate checks the key. Clerk does so before it looks at the path.
func (s *Sandbox) authenticate(r *http.Request) *answer {
	if s.cfg.EdgeBlocksAgents && defaultAgent(r.UserAgent()) {
		return errEdge()
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" || strings.ContainsAny(key, " \t") {
		return errAuthHeader()
	}
	secret, secretLive := strings.CutPrefix(key, "sk_test_")
	if !secretLive {
		secret, secretLive = strings.CutPrefix(key, "sk_live_")
	}
	anyKey := s.cfg.Key == "" && secretLive && secret != ""
	if s.revoked || (key != s.cfg.Key && !anyKey) {
		return errKeyInvalid()
	}
	return nil
}

// defaultAgent reports whether a User-Agent is missing or the default one of an HTTP library.
func defaultAgent(agent string) bool {
	name, _, _ := strings.Cut(agent, "/")
	return slices.Contains([]string{"", "Go-http-client", "Python-urllib", "python-requests", "Java"}, name)
}

// route finds the endpoint and, for a revoke, the invitation's id.
func route(r *http.Request) (Endpoint, string) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/v1")
	switch {
	case r.Method == http.MethodPost && path == "/invitations":
		return Create, ""
	case r.Method == http.MethodPost && path == "/invitations/bulk":
		return Bulk, ""
	case r.Method == http.MethodGet && path == "/invitations":
		return List, ""
	case r.Method == http.MethodGet && path == "/users":
		return Users, ""
	case r.Method == http.MethodGet && path == "/users/count":
		return Count, ""
	}
	rest, prefixed := strings.CutPrefix(path, "/invitations/")
	id, revokes := strings.CutSuffix(rest, "/revoke")
	id, err := url.PathUnescape(id)
	switch {
	case !prefixed || err != nil || id == "" || strings.Contains(id, "/"):
	case r.Method == http.MethodPost && revokes:
		return Revoke, id
	case r.Method == http.MethodDelete && !revokes:
		return Delete, id
	}
	return Other, ""
}

// reply records the answer and sends it, in this order: a client that has an answer finds it recorded.
func (c *call) reply(a *answer) {
	c.s.finish(c, a)
	a.write(c.w, c)
}

// pause waits in real time. It reports false if the client left or the sandbox was closed meanwhile.
func (s *Sandbox) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.closed:
	}
	return false
}

// draw draws a duration from a range of the configuration.
func (s *Sandbox) draw(of func(Config) (least, most time.Duration)) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	least, most := of(s.cfg)
	return between(s.rng, least, most)
}

// between draws evenly. It takes no random number if there is nothing to choose.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}

const alphanumerics = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func randomText(rng *rand.Rand, n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = alphanumerics[rng.IntN(len(alphanumerics))]
	}
	return string(text)
}

func fold(address string) string { return strings.ToLower(address) }

func millis(t time.Time) int64 { return t.UnixMilli() }

func quoted(words []string) string { return fmt.Sprintf("one of %s", strings.Join(words, ", ")) }
