package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/rs/zerolog"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/tokens"
)

// Handler gives what answers requests.
func (s *Server) Handler() http.Handler {
	outer := http.NewServeMux()
	outer.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	outer.HandleFunc("GET /readyz", s.ready)
	outer.HandleFunc("/", s.guarded)
	return outer
}

// ready tells whether requests can be served at present.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	switch err := s.Redis.Ping(ctx).Err(); {
	case s.life.Err() != nil:
		http.Error(w, "it is stopping", http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, "Redis cannot be reached", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ready")
	}
}

// guarded answers a request if it may be made, and writes one line about it.
func (s *Server) guarded(w http.ResponseWriter, r *http.Request) {
	name := ""
	seen, done := &recorder{ResponseWriter: w}, s.tells(r)
	defer func() {
		if broken := recover(); broken != nil {
			if broken != http.ErrAbortHandler {
				s.Log.Error().Str("cause", fmt.Sprintf("%T", broken)).Msg("request broke off")
			}
			if seen.status == 0 {
				writeProblem(seen, problem(http.StatusInternalServerError, internalFault, "the server has failed at this request"))
			}
		}
		done(seen.status, name)
	}()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if p := s.strange(r); p != nil {
		refuse(seen, r, p)
		return
	}
	if !public(r.URL.Path) {
		who, p := s.admit(r)
		if p != nil {
			refuse(seen, r, p)
			return
		}
		name = who.name
		r = r.WithContext(context.WithValue(r.Context(), askerKey{}, who))
	}
	s.mux.ServeHTTP(seen, r)
}

// tells gives what writes the line about a request that ends.
func (s *Server) tells(r *http.Request) (done func(status int, token string)) {
	if s.Log.GetLevel() > zerolog.DebugLevel {
		return func(int, string) {}
	}
	began := time.Now()
	return func(status int, token string) {
		// The path may hold what somebody has mistaken for an id: only its pattern is written.
		s.Log.Debug().Str("method", r.Method).Str("route", s.route(r)).Int("status", status).Str("token", token).
			Float64("duration_seconds", time.Since(began).Seconds()).Msg("request")
	}
}

// route is the pattern that a request meets.
func (s *Server) route(r *http.Request) string {
	_, pattern := s.mux.Handler(r)
	return pattern
}

// public tells whether a path needs no token.
func public(path string) bool { return path == "/" || path == "/openapi.json" || path == "/docs" }

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader is for [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write is for [http.ResponseWriter].
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func writeProblem(w http.ResponseWriter, p *Problem) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// refuse answers a request whose body was not read.
func refuse(w http.ResponseWriter, r *http.Request, p *Problem) {
	if r.ContentLength != 0 {
		p = p.early()
	}
	writeProblem(w, p)
}

// strange finds what is wrong with a request whoever makes it.
func (s *Server) strange(r *http.Request) *Problem {
	if !settings.KnownHost(s.Hosts, r.Host) {
		return problem(http.StatusForbidden, wrongHost, "this server is not asked under that Host (public_host names one)")
	}
	asked := *r // the check lets GET pass, but nobody on another site is to read either
	asked.Method = http.MethodPost
	if err := s.origins.Check(&asked); err != nil {
		return problem(http.StatusForbidden, crossSite, "requests from pages of other sites are refused")
	}
	for _, name := range []string{"Authorization", "Idempotency-Key", "Content-Type"} {
		if len(r.Header.Values(name)) > 1 {
			return problem(http.StatusBadRequest, badRequest, "the header %s is given twice", name)
		}
	}
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem(http.StatusBadRequest, badRequest, "the query cannot be read")
	}
	for name, values := range query {
		if len(values) > 1 && name != "map" {
			return problem(http.StatusBadRequest, badRequest, "the parameter %.60q is given twice", name)
		}
		if slices.Contains(values, "") {
			return problem(http.StatusBadRequest, badRequest, "the parameter %.60q is empty", name)
		}
	}
	return nil
}

// keyPattern is that of an Idempotency-Key.
var keyPattern = regexp.MustCompile(`^[!-~]{1,255}$`)

// admit finds out who asks, and whether now is the time.
func (s *Server) admit(r *http.Request) (*asker, *Problem) {
	who := tokens.Identity{Name: Anybody, Scopes: []tokens.Scope{tokens.Enqueue, tokens.Read, tokens.Operate}}
	if s.Tokens != nil {
		token, isBearer := bearer(r.Header.Get("Authorization"))
		known := false
		if who, known = s.Tokens.Lookup(token); !isBearer || !known {
			return nil, problem(http.StatusUnauthorized, unauthorized,
				"this needs the header Authorization: Bearer, and a token that the server knows")
		}
	}
	c, err := s.callerOf(who.Name)
	if err != nil {
		return nil, problemOf(err)
	}
	if at := c.limit.Reserve(); at.Delay() > 0 {
		wait := int(math.Ceil(at.Delay().Seconds()))
		at.Cancel()
		return nil, problem(http.StatusTooManyRequests, tooMany,
			"at most %d requests a second are served to %s", s.PerSecond, c.name).after(wait)
	}
	a := &asker{caller: c, Identity: who, method: r.Method, path: r.URL.Path}
	if r.URL.RawQuery != "" {
		a.query = r.URL.Query().Encode()
	}
	if keys, given := r.Header["Idempotency-Key"]; given {
		if !keyPattern.MatchString(keys[0]) {
			return nil, problem(http.StatusBadRequest, badRequest, "an Idempotency-Key has 1 to 255 visible ASCII characters")
		}
		a.key = keys[0]
	}
	return a, nil
}

// bearer reads the token of a header.
func bearer(header string) (token string, ok bool) {
	scheme, token, found := strings.Cut(header, " ")
	return strings.TrimSpace(token), found && strings.EqualFold(scheme, "Bearer")
}

// needs gives what refuses a token that has none of some scopes.
func (s *Server) needs(scopes []tokens.Scope) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if !slices.ContainsFunc(scopes, askerOf(ctx.Context()).May) {
			r, w := humago.Unwrap(ctx)
			refuse(w, r, needsScope(scopes...))
			return
		}
		next(ctx)
	}
}

// body reads the body of a request that is no upload, and refuses one where none is read: whoever sends one means
// something by it.
func (s *Server) body(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	wanted := ctx.Operation().RequestBody
	if wanted != nil && wanted.Content[typeCSV] != nil {
		next(ctx)
		return
	}
	if wanted != nil && !isJSON(r.Header.Get("Content-Type")) {
		refuse(w, r, problem(http.StatusUnsupportedMediaType, mediaType, wantsJSON))
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	switch {
	case err != nil:
		writeProblem(w, unread(err, mostBody))
	case wanted == nil && len(data) > 0:
		writeProblem(w, problem(http.StatusBadRequest, badRequest, "this request has no body"))
	default:
		r.Body = io.NopCloser(bytes.NewReader(data))
		next(ctx)
	}
}

// isJSON tells whether a Content-Type is that of JSON, as no Content-Type is.
func isJSON(header string) bool {
	if header == "" {
		return true
	}
	form, params, err := mime.ParseMediaType(header)
	charset, given := params["charset"]
	return err == nil && form == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// needsScope refuses a token that has none of some scopes.
func needsScope(scopes ...tokens.Scope) *Problem {
	return problem(http.StatusForbidden, forbidden, "this needs a token with the scope %s", scopeWords(scopes))
}

func scopeWords(scopes []tokens.Scope) string {
	var words []string
	for _, scope := range scopes {
		words = append(words, string(scope))
	}
	return strings.Join(words, " or ")
}

func joined(a, b string) string { return strings.TrimSpace(a + " " + b) }

// problemResponse documents what every operation may answer.
func (s *Server) problemResponse() *huma.Response {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	return &huma.Response{Description: "A problem.", Content: map[string]*huma.MediaType{problemType: {Schema: schema}}}
}

// told gives the problem of an error, and writes down one that nobody expects.
func (s *Server) told(ctx context.Context, operation string, err error) error {
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError && errors.Is(ctx.Err(), context.Canceled) { // nobody reads it
		return problem(http.StatusServiceUnavailable, unfinished, "the client has gone")
	}
	if p.Status >= http.StatusInternalServerError {
		s.Log.Warn().Str("operation", operation).Str("problem", p.Type).Str("cause", redactIn(err.Error())).
			Msg("request failed")
	}
	return p
}
