// Package page serves the pages on which people see how Usher stands, and act. Everything that they show or do is the
// desk's; a page adds who may, and how it looks.
package page

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/kept"
	"example.com/usher/internal/tokens"
)

//go:embed templates static
var files embed.FS

// Access is what one may do without a token.
type Access int

// The accesses.
const (
	Nobody   Access = iota // one must log in
	Viewer                 // see, with addresses redacted
	Operator               // see everything, and act
)

// Config says what the pages show, and to whom.
type Config struct {
	// Redis is a client that nobody else uses: what open pages cost is counted there, and bounded.
	Redis     redis.UniversalClient
	Namespace string
	// Tokens are those of the file; nil if there is none. AdminToken is one more, named admin; empty if there is none.
	Tokens     *tokens.File
	AdminToken string
	Anonymous  Access
	// Clerk gives the instance that is asked about lists before they are sent; nil if none is asked.
	Clerk func() (settings.Instance, error)
	// Hosts are the names and addresses, without a port, under which browsers reach the pages.
	Hosts []string
	// Secure is that browsers reach the pages by https, so that cookies are sent by nothing else.
	Secure  bool
	Version string
	Log     zerolog.Logger
}

// Server serves the pages. Every path that it does not know is not found.
type Server struct {
	Config
	keys      keyring
	mux       *http.ServeMux
	templates map[string]*template.Template
	logins    *rate.Limiter
	feeds     feeds
	cost      *cost
	audit     *store.Audit
	kept      *kept.Lists
	tally     *store.Tally
	lists     chan struct{} // places for lists that are read
	asks      chan struct{} // places for lists that Clerk is asked about
	life      context.Context
	work      sync.WaitGroup // what outlives its visit

	mu    sync.Mutex
	desks map[string]*desk.Desk // by who acts
}

const (
	// loginsPerSecond bounds how fast tokens can be tried; loginBurst how many at once.
	loginsPerSecond, loginBurst = 2, 20
	// mostForm bounds a form, and formTime how long its sender may take.
	mostForm = 64 << 10
	formTime = 10 * time.Second
	// showTime is how long reading what a page shows may take.
	showTime = 5 * time.Second
	// actTime is how long an action may take. It goes on if the browser leaves.
	actTime = 10 * time.Minute
)

// New gives the pages of a namespace. life ends what outlives a visit: Clerk is asked about lists.
func New(life context.Context, c Config) (*Server, error) {
	s := &Server{
		Config: c, keys: newKeyring(c.Tokens, c.AdminToken), mux: http.NewServeMux(),
		templates: map[string]*template.Template{}, desks: map[string]*desk.Desk{},
		logins: rate.NewLimiter(loginsPerSecond, loginBurst), audit: store.NewAudit(c.Redis, c.Namespace),
		tally: store.NewTally(c.Redis, c.Namespace), kept: kept.New(c.Redis, c.Namespace),
		lists: make(chan struct{}, listPlaces), asks: make(chan struct{}, rehearsals),
		life: life,
	}
	s.cost = &cost{}
	c.Redis.AddHook(s.cost)
	s.feeds.open = map[string]*feed{}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		parsed, err := template.New("").Funcs(functions()).ParseFS(files, "templates/base.html", name)
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
		s.templates[name] = parsed
	}
	s.routes()
	return s, nil
}

// Wait returns when nothing is under way any more that outlives its visit.
func (s *Server) Wait() { s.work.Wait() }

// routes says which page is where, and what one must be allowed.
func (s *Server) routes() {
	s.show("/{$}", Viewer, screen{name: "now", live: true, load: now})
	s.show("/campaigns", Viewer, screen{name: "campaigns", live: true, load: campaigns})
	s.show("/campaigns/{name}", Viewer, screen{name: "campaign", live: true, load: campaign})
	s.show("/campaigns/{name}/cancel", Operator, screen{name: "confirm", load: confirmCancel})
	s.show("/dead-letters", Viewer, screen{name: "letters", live: true, load: letters})
	s.show("/dead-letters/one", Operator, screen{name: "letter", load: letter})
	s.show("/dead-letters/confirm", Operator, screen{name: "confirm", load: confirmLetters})
	s.show("/invitations", Viewer, screen{name: "invitations", load: invitations})
	s.show("/invitations/revoke", Operator, screen{name: "confirm", load: confirmRevoke})
	s.show("/schedules", Viewer, screen{name: "schedules", live: true, load: schedules})
	s.show("/list", Operator, screen{name: "list", live: true, own: true, load: list})
	s.show("/find", Operator, screen{name: "find", load: emptyStory})
	s.show("/actions", Viewer, screen{name: "actions", load: actions})
	s.show("/login", Nobody, screen{name: "login", load: loginForm})

	s.act("/campaigns/{name}/{verb}", Operator, changeCampaign)
	s.take("/list", Operator, uploadList)
	s.act("/list/send", Operator, sendList)
	s.act("/list/drop", Operator, dropList)
	s.act("/list/ask", Operator, askAgain)
	s.act("/dead-letters/retry", Operator, retryLetters)
	s.act("/dead-letters/delete", Operator, deleteLetters)
	s.act("/dead-letters/mend", Operator, mendLetter)
	s.ask("/invitations", Operator, searchInvitations)
	s.act("/invitations/revoke", Operator, revokeInvitation)
	s.act("/schedules/{name}/{verb}", Operator, changeSchedule)
	s.act("/resume-calls", Operator, resumeCalls)
	s.ask("/find", Operator, findStory)
	s.act("/login", Nobody, login)
	s.act("/logout", Nobody, logout)

	s.mux.HandleFunc("GET /campaigns/{name}/export", s.guarded(Operator, exportCampaign))
	static, _ := fs.Sub(files, "static")
	s.mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	s.mux.HandleFunc("/", s.guarded(Viewer, func(*visit) error { return errNoPage }))
}

var errNoPage = &problem{
	http.StatusNotFound, "There is no such page", "The address is mistyped, or the page has moved.",
}

// ServeHTTP answers a browser. Nothing is loaded from elsewhere, nothing is kept by the browser, and no other site may
// show a page in a frame, post to it, or reach it under a name of its own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; " +
			"img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		w.Header().Set(name, value)
	}
	if !settings.KnownHost(s.Hosts, r.Host) {
		http.Error(w, "the pages are not served under this name; a worker's --public-host names another one",
			http.StatusForbidden)
		return
	}
	http.NewCrossOriginProtection().Handler(s.mux).ServeHTTP(w, r)
}

// deskOf gives the desk at which somebody acts.
func (s *Server) deskOf(who string) (*desk.Desk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.desks[who]
	if d == nil {
		var err error
		if d, err = desk.New(s.Redis, s.Namespace, who); err != nil {
			return nil, err
		}
		s.desks[who] = d
	}
	return d, nil
}

// problem is what went wrong, for a person: a title, and what to do.
type problem struct {
	status      int
	Title, What string
}

func (p *problem) Error() string { return p.Title + ": " + p.What }

// asProblem tells an error to a person, in the words that the command has for it.
func asProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	kind, words := desk.Explain(err)
	words = sentence(words)
	status := statusOf(err)
	if status == http.StatusNotFound {
		return &problem{status, "Nothing is here", words}
	}
	if status != 0 {
		return &problem{status, "This could not be done", words}
	}
	switch kind {
	case desk.Unsure:
		return &problem{http.StatusServiceUnavailable, "Nobody knows whether this was done", words}
	case desk.NoRight:
		return &problem{http.StatusServiceUnavailable, "Redis refuses this", words}
	case desk.FullRedis:
		return &problem{http.StatusServiceUnavailable, "Redis is full", words}
	}
	title, _ := desk.RedisFault(err)
	switch {
	case title != "":
		words = "Nothing is lost. Try again in a moment. " + words
	case errors.Is(err, store.ErrGarbage):
		title = "What Redis holds cannot be read"
	default:
		title = "This has failed"
	}
	return &problem{http.StatusServiceUnavailable, title, words}
}
