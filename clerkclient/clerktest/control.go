package clerktest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// duration is a time.Duration with a text form, as in "1h30m".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: want one like 90s or 1h30m", text)
	}
	*d = duration(parsed)
	return nil
}

// settings is a Config in JSON.
type settings struct {
	*Config
	MinTransit *duration `json:"min_transit"`
	MaxTransit *duration `json:"max_transit"`
	MinLatency *duration `json:"min_latency"`
	MaxLatency *duration `json:"max_latency"`
	LateCommit *duration `json:"late_commit"`
	ListLag    *duration `json:"list_lag"`

	DuplicateLag *duration `json:"duplicate_lag"`
}

// settingsOf returns the JSON form of c. It reads from c and writes into it.
func settingsOf(c *Config) settings {
	return settings{
		Config: c, MinTransit: (*duration)(&c.MinTransit), MaxTransit: (*duration)(&c.MaxTransit),
		MinLatency: (*duration)(&c.MinLatency), MaxLatency: (*duration)(&c.MaxLatency),
		LateCommit: (*duration)(&c.LateCommit), ListLag: (*duration)(&c.ListLag),
		DuplicateLag: (*duration)(&c.DuplicateLag),
	}
}

// faultJSON is a Fault in JSON.
type faultJSON struct {
	*Fault
	For        *duration `json:"for"`
	LateCommit *duration `json:"late_commit"`
	RetryIn    *duration `json:"retry_in"`
}

func faultJSONOf(f *Fault) faultJSON {
	return faultJSON{
		Fault: f, For: (*duration)(&f.For), LateCommit: (*duration)(&f.LateCommit), RetryIn: (*duration)(&f.RetryIn),
	}
}

// Control steers the sandbox and shows what it saw, as JSON over HTTP. The package comment lists the routes. There
// is no password: serve it on a loopback address.
func (s *Sandbox) Control() http.Handler {
	mux := http.NewServeMux()
	act := func(pattern string, do func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { respond(w, r, do) })
	}
	act("GET /config", func(*http.Request) (any, error) { return s.tellConfig(), nil })
	act("GET /ledger", s.tellLedger)
	act("GET /requests", s.tellRequests)
	act("GET /stats", func(*http.Request) (any, error) { return s.Stats(), nil })
	act("GET /faults", func(*http.Request) (any, error) { return s.tellFaults(), nil })
	act("PATCH /config", s.patchConfig)
	act("POST /limits", asked(s.postLimits))
	act("POST /faults", s.postFault)
	act("DELETE /faults", func(*http.Request) (any, error) { s.ClearFaults(); return nil, nil })
	act("DELETE /faults/{id}", s.deleteFault)
	act("POST /users", asked(func(in addressJSON) (any, error) { s.AddUser(in.Address); return nil, nil }))
	act("POST /invitations", asked(func(in addressJSON) (any, error) { return s.AddInvitation(in.Address), nil }))
	act("POST /accept", asked(func(in idJSON) (any, error) { return nil, s.Accept(in.ID) }))
	act("POST /expire", asked(func(in idJSON) (any, error) { return nil, s.Expire(in.ID) }))
	act("POST /blocks", asked(func(in blockJSON) (any, error) { return nil, s.postBlock(in) }))
	act("POST /rejections", asked(func(in rejectionJSON) (any, error) { return nil, s.postRejection(in) }))
	act("POST /quota", asked(func(in quotaJSON) (any, error) { s.SetQuota(in.N); return nil, nil }))
	act("POST /key", asked(func(in keyJSON) (any, error) { s.SetKey(in.Key); return nil, nil }))
	act("DELETE /key", func(*http.Request) (any, error) { s.RevokeKey(); return nil, nil })
	act("POST /reset", func(*http.Request) (any, error) { s.Reset(); return nil, nil })
	act("POST /demo", func(*http.Request) (any, error) { s.LoadDemo(); return nil, nil })
	return mux
}

type (
	addressJSON struct {
		Address string `json:"email_address"`
	}
	idJSON struct {
		ID string `json:"id"`
	}
	blockJSON struct {
		Address string `json:"email_address"`
		Domain  string `json:"domain"`
	}
	rejectionJSON struct {
		Address string `json:"email_address"`
		Status  int    `json:"status"`
		Code    string `json:"code"`
	}
	quotaJSON struct {
		N int `json:"n"`
	}
	limitsJSON struct {
		Create  *Limit `json:"create"`
		Bulk    *Limit `json:"bulk"`
		Overall *Limit `json:"overall"`
	}
	keyJSON struct {
		Key string `json:"key"`
	}
)

func (in addressJSON) validate() error {
	if in.Address == "" {
		return errors.New("email_address is missing")
	}
	return nil
}

// asked reads the body of a control request into a T.
func asked[T any](do func(T) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var in T
		body, err := readBody(r)
		if err != nil {
			return nil, err
		}
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		if v, ok := any(in).(interface{ validate() error }); ok {
			if err := v.validate(); err != nil {
				return nil, err
			}
		}
		return do(in)
	}
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("the body cannot be read: %w", err)
	}
	return body, nil
}

func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the body is not the JSON object wanted: %w", err)
	}
	return nil
}

// respond answers with the result of do, {} for nil, and {"error": …} for an error. Every error is the client's fault.
func respond(w http.ResponseWriter, r *http.Request, do func(*http.Request) (any, error)) {
	out, err := do(r)
	status := http.StatusOK
	switch {
	case err != nil:
		status, out = http.StatusUnprocessableEntity, map[string]string{"error": err.Error()}
	case out == nil:
		out = struct{}{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out)
}

// tellConfig shows the configuration and hides the key.
func (s *Sandbox) tellConfig() settings {
	cfg := s.Config()
	if len(cfg.Key) > 8 {
		cfg.Key = cfg.Key[:8] + "…"
	}
	return settingsOf(&cfg)
}

func (s *Sandbox) tellLedger(r *http.Request) (any, error) {
	after, err := afterOf(r)
	if err != nil {
		return nil, err
	}
	address := r.URL.Query().Get("email_address")
	ledger := slices.DeleteFunc(s.Ledger(), func(e Sent) bool {
		return e.Request <= after || (address != "" && e.Folded != fold(address))
	})
	return append([]Sent{}, ledger...), nil // [], not null
}

func (s *Sandbox) tellRequests(r *http.Request) (any, error) {
	after, err := afterOf(r)
	if err != nil {
		return nil, err
	}
	requests := slices.DeleteFunc(s.Requests(), func(q Request) bool { return q.Number <= after })
	return append([]Request{}, requests...), nil // [], not null
}

// afterOf reads the number of the last request that the client knows.
func afterOf(r *http.Request) (int, error) {
	after := r.URL.Query().Get("after")
	if after == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(after)
	if err != nil {
		return 0, fmt.Errorf("after %q: want the number of a request", after)
	}
	return n, nil
}

func (s *Sandbox) tellFaults() []faultJSON {
	faults := s.Faults()
	out := make([]faultJSON, len(faults))
	for i := range faults {
		out[i] = faultJSONOf(&faults[i])
	}
	return out
}

// patchConfig changes the given fields of the configuration.
func (s *Sandbox) patchConfig(r *http.Request) (any, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	err = s.configure(func(c *Config) error {
		in := settingsOf(c)
		return decode(body, &in)
	})
	if err != nil {
		return nil, err
	}
	return s.tellConfig(), nil
}

// postLimits changes the given limits.
func (s *Sandbox) postLimits(in limitsJSON) (any, error) {
	err := s.configure(func(c *Config) error {
		set := func(limit, given *Limit) {
			if given != nil {
				*limit = *given
			}
		}
		set(&c.Create, in.Create)
		set(&c.Bulk, in.Bulk)
		set(&c.Overall, in.Overall)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.tellConfig(), nil
}

func (s *Sandbox) postFault(r *http.Request) (any, error) {
	var f Fault
	in := faultJSONOf(&f)
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(decode(body, &in), f.Validate()); err != nil {
		return nil, err
	}
	return map[string]int{"id": s.Inject(f)}, nil
}

func (s *Sandbox) deleteFault(r *http.Request) (any, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || !s.ClearFault(id) {
		return nil, fmt.Errorf("fault %q: no fault has this id, or no longer", r.PathValue("id"))
	}
	return nil, nil
}

func (s *Sandbox) postBlock(in blockJSON) error {
	switch {
	case (in.Address == "") == (in.Domain == ""):
		return errors.New("want either email_address or domain")
	case in.Address != "":
		s.BlockAddress(in.Address)
	default:
		s.BlockDomain(in.Domain)
	}
	return nil
}

func (s *Sandbox) postRejection(in rejectionJSON) error {
	if in.Address == "" || (in.Status != 0 && (in.Status < 400 || in.Status > 599)) {
		return fmt.Errorf("email_address %q, status %d: want an address, and a status from 400 to 599 or none",
			in.Address, in.Status)
	}
	s.RejectAddress(in.Address, in.Status, in.Code)
	return nil
}
