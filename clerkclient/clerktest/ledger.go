package clerktest

import (
	"encoding/json"
	"slices"
	"time"
)

// keptRequests is how many of the latest requests are always kept.
const keptRequests = 100_000

// Sent is one invitation made through the API: what was sent to whom. Invitations made with [Sandbox.AddInvitation]
// are not in the ledger.
type Sent struct {
	InvitationID string    `json:"invitation_id"`
	Address      string    `json:"email_address"` // as it was sent
	Folded       string    `json:"folded"`        // in lower case
	At           time.Time `json:"at"`            // when it was made
	Request      int       `json:"request"`       // the number of the request that asked for it; see Request
	Bulk         bool      `json:"bulk"`
	// Late means that it was made after its client had given up (see Config.LateCommit).
	Late bool `json:"late"`
	// Emailed is false without notify, and beyond a silent monthly cap.
	Emailed bool `json:"emailed"`

	Notify         bool            `json:"notify"`
	IgnoreExisting bool            `json:"ignore_existing"`
	PublicMetadata json.RawMessage `json:"public_metadata"`
	RedirectURL    string          `json:"redirect_url,omitempty"`
	ExpiresInDays  int             `json:"expires_in_days"`
	TemplateSlug   string          `json:"template_slug,omitempty"`
}

// Request is one request as the sandbox saw it.
type Request struct {
	Number   int       `json:"number"`  // from 1, by arrival
	Arrived  time.Time `json:"arrived"` // by the sandbox's clock
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Endpoint Endpoint  `json:"endpoint"`
	// Recipients is how many addresses a create or bulk carried.
	Recipients int `json:"recipients"`
	// Status and Code are those of the answer. Status is 0 while the request is under way, and if it got no answer.
	Status int    `json:"status"`
	Code   string `json:"code,omitempty"`
	// Throttled means refused by a limit, and not a 429 that a fault played.
	Throttled bool `json:"throttled"`
	// Fault and FaultID are the kind and the id of the fault that struck.
	Fault   FaultKind `json:"fault,omitempty"`
	FaultID int       `json:"fault_id,omitempty"`
	// Abandoned means that the client gave up before the answer.
	Abandoned bool   `json:"abandoned"`
	TraceID   string `json:"trace_id"`
}

// EndpointStats counts the requests of one endpoint since the start or the last reset.
type EndpointStats struct {
	Arrivals  int `json:"arrivals"`  // all of them
	Succeeded int `json:"succeeded"` // answered 2xx
	Failed    int `json:"failed"`    // answered otherwise, refusals by a limit included
	Throttled int `json:"throttled"` // refused by a limit
	Faulted   int `json:"faulted"`   // struck by a fault
	Created   int `json:"created"`   // invitations made, late ones included
}

// WindowStats says how a limit was used. It counts only requests with a good key to a known endpoint.
type WindowStats struct {
	Limit Limit `json:"limit"`
	// Max is the most arrivals in any span of the window's length since the limit was set, refused ones included.
	Max int `json:"max"`
	// Taken is how many requests passed since the start or the last reset. Held is how many places are taken now.
	Taken int `json:"taken"`
	Held  int `json:"held"`
}

// Stats counts what the sandbox saw.
type Stats struct {
	Endpoints map[Endpoint]EndpointStats `json:"endpoints"`
	Create    WindowStats                `json:"create"`
	Bulk      WindowStats                `json:"bulk"`
	Overall   WindowStats                `json:"overall"`
	// Invitations and Users are how many there are. Emails is how many e-mails went out.
	Invitations int `json:"invitations"`
	Users       int `json:"users"`
	Emails      int `json:"emails"`
}

// Ledger returns what was sent to whom, in the order of sending. It is never trimmed.
func (s *Sandbox) Ledger() []Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now()
	return slices.Clone(s.sent)
}

// Requests returns the requests in the order of their arrival: at least the latest 100,000.
func (s *Sandbox) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Stats returns the counts so far.
func (s *Sandbox) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	use := func(w *window) WindowStats {
		w.wait(now.UnixNano(), s.cfg.FixedWindow) // drops places that came free
		return WindowStats{Limit: w.limit, Max: w.max, Taken: w.total, Held: len(w.taken)}
	}
	st := Stats{
		Endpoints: map[Endpoint]EndpointStats{},
		Create:    use(&s.create), Bulk: use(&s.bulk), Overall: use(&s.overall),
		Invitations: len(s.invitations), Users: len(s.users),
	}
	for e, c := range s.counts {
		st.Endpoints[e] = *c
	}
	for _, n := range s.emails {
		st.Emails += n
	}
	return st
}

// log records a request and returns its number. The caller holds the lock.
func (s *Sandbox) log(r Request) int {
	if len(s.requests) == 2*keptRequests {
		s.requests = slices.Clone(s.requests[keptRequests:])
		s.dropped += keptRequests
	}
	r.Number = s.dropped + len(s.requests) + 1
	s.requests = append(s.requests, r)
	return r.Number
}

// record finds the record of a request. For one that is no longer kept it returns a spare that nobody reads. The
// caller holds the lock.
func (s *Sandbox) record(number int) *Request {
	if i := number - s.dropped - 1; i >= 0 && i < len(s.requests) {
		return &s.requests[i]
	}
	return &Request{}
}

// finish records how a request was answered.
func (s *Sandbox) finish(c *call, a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record(c.number)
	r.Status, r.Code = a.status, a.code()
	if a.status < 300 {
		s.counts[c.endpoint].Succeeded++
	} else {
		s.counts[c.endpoint].Failed++
	}
}
