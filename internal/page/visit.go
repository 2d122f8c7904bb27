package page

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/forecast"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
)

// visit is one request for a page.
type visit struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	desk   *desk.Desk
	actor  string // in whose name it acts
	person person
}

// screen is a page that is looked at. One that is live is told anew while it is open; an own one shows each browser
// something else.
type screen struct {
	name string
	live bool
	own  bool
	load func(*visit) (any, error)
}

// sheet is what a template is given.
type sheet struct {
	Name, Path, Namespace, Version string
	AsOf                           time.Time
	Person                         person
	LoginPossible                  bool
	Live                           bool
	Said                           string // what the action before has done
	Problem                        *problem
	Again                          bool // the page may be shown if one asks again
	Body                           any
}

// MayAct tells whether the person may act.
func (s sheet) MayAct() bool { return s.Person.Access == Operator }

// show serves a screen.
func (s *Server) show(path string, needs Access, one screen) {
	s.mux.HandleFunc("GET "+path, s.guarded(needs, func(v *visit) error {
		if one.live && v.r.Header.Get("Accept") == "text/event-stream" {
			return s.feeds.follow(v, one)
		}
		_ = http.NewResponseController(v.w).SetWriteDeadline(time.Now().Add(showTime + formTime))
		v.ctx = forecast.Keeping(v.ctx, &forecast.Kept{}) // what this page asks for twice is read once
		body, err := one.read(v)
		if err != nil {
			return err
		}
		v.render(http.StatusOK, one.name, one.live, body)
		return nil
	}))
}

// read loads what a screen shows, unless that takes too long: Redis may hang.
func (one screen) read(v *visit) (any, error) {
	bounded := *v
	ctx, cancel := context.WithTimeout(v.ctx, showTime)
	defer cancel()
	bounded.ctx = ctx
	return one.load(&bounded)
}

// act serves an action. It goes on if the browser leaves, and breaks off when the worker stops.
func (s *Server) act(path string, needs Access, do func(*visit) error) {
	s.post(path, needs, actTime, func(v *visit) error {
		if err := v.mayDo(needs); err != nil {
			return err
		}
		return v.unsure(do(v))
	})
}

// mayDo fails if Redis would refuse a step of an operator's action: then nothing was done.
func (v *visit) mayDo(needs Access) error {
	if needs != Operator {
		return nil
	}
	err := store.CheckRights(v.ctx, store.Open(v.server.Redis, v.server.Namespace))
	if store.NoRight(err) {
		_, words := desk.Explain(err)
		return &problem{http.StatusServiceUnavailable, "Redis refuses this", "Nothing was done. " + sentence(words)}
	}
	return nil // what else is wrong, the action tells
}

// unsure says of an action that Redis has not answered that nobody knows whether it was done, and notes that.
func (v *visit) unsure(err error) error {
	if partly, is := errors.AsType[*desk.PartlyDoneError](err); is && partly.Done > 0 || !desk.Unanswered(err) {
		return err
	}
	v.note("perhaps, because Redis did not answer: "+v.r.URL.Path, 0)
	_, words := desk.Explain(err)
	return &problem{http.StatusServiceUnavailable, "Nobody knows whether this was done",
		"Look whether it was, before you do it again. " + sentence(words)}
}

// ask serves a question whose words stand in no URL.
func (s *Server) ask(path string, needs Access, do func(*visit) error) {
	s.post(path, needs, showTime, do)
}

// post serves a form. What it asks for may take a while.
func (s *Server) post(path string, needs Access, within time.Duration, do func(*visit) error) {
	s.mux.HandleFunc("POST "+path, s.guarded(needs, func(v *visit) error {
		control := http.NewResponseController(v.w)
		_ = control.SetReadDeadline(time.Now().Add(formTime))
		v.r.Body = http.MaxBytesReader(v.w, v.r.Body, mostForm)
		if err := v.r.ParseForm(); err != nil {
			return &problem{http.StatusBadRequest, "The form could not be read", sentence(err.Error())}
		}
		_ = control.SetWriteDeadline(time.Now().Add(within + formTime))
		if s.life.Err() != nil {
			const words = "Nothing was done. Try again in a moment."
			return &problem{http.StatusServiceUnavailable, "This worker stops", words}
		}
		s.work.Add(1)
		defer s.work.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), within)
		defer cancel()
		defer context.AfterFunc(s.life, cancel)()
		v.ctx = ctx
		return do(v)
	}))
}

// guarded lets a visit pass that may do what a page needs, and shows its errors.
func (s *Server) guarded(needs Access, do func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{server: s, w: w, r: r, ctx: r.Context(), person: s.who(r)}
		err := v.enter(needs)
		if err == nil {
			err = do(v)
		}
		if err == nil || r.Context().Err() != nil {
			return
		}
		p := asProblem(store.NameRights(v.ctx, store.Open(s.Redis, s.Namespace), err))
		if p.status >= http.StatusInternalServerError {
			s.Log.Warn().Err(err).Str("page", r.Pattern).Msg("a page could not be shown")
		}
		v.renderProblem(p)
	}
}

// mostAddress is how long the address of a page may be: it stands in the page again.
const mostAddress = 1024

// enter opens the desk, or says why the page is not for this person.
func (v *visit) enter(needs Access) (err error) {
	if len(v.r.URL.RequestURI()) > mostAddress {
		return &problem{http.StatusRequestURITooLong, "The address is too long", "No page of Usher has such an address."}
	}
	if v.person.Access < needs {
		if v.person.Name == "" && v.r.Method == http.MethodGet && v.r.Header.Get("Authorization") == "" &&
			!v.server.keys.empty() {
			return &problem{http.StatusUnauthorized, "Log in first", "This page needs a token."}
		}
		return &problem{http.StatusForbidden, "This is for operators",
			"It needs a token with the scope operate: log in with one."}
	}
	if v.actor = v.person.Name; v.actor == "" {
		v.actor = "page"
	}
	v.desk, err = v.server.deskOf(v.actor)
	return err
}

// operates tells whether the person sees whole addresses and may act.
func (v *visit) operates() bool { return v.person.Access == Operator }

const flashCookie = "usher_said"

// noteTime is how long an action is held up by noting it at most, and the pause until that is tried again.
const noteTime = time.Second

// note notes an action: at once, or in the background as soon as Redis takes it.
func (v *visit) note(what string, n int) {
	s, action := v.server, store.Action{At: time.Now().UTC(), Who: v.actor, What: what, N: n}
	try := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, noteTime)
		defer cancel()
		return s.audit.Note(ctx, action)
	}
	err := try(context.WithoutCancel(v.ctx)) // v's may have ended
	if err == nil {
		return
	}
	s.Log.Warn().Err(err).Str("who", action.Who).Str("what", what).Int("n", n).Msg("an action cannot be noted yet")
	go func() {
		for err != nil && policy.Sleep(s.life, noteTime) == nil {
			err = try(s.life)
		}
	}()
}

// done notes an action, and leads to a page that says what was done.
func (v *visit) done(to, what string, n int) error { return v.doneSaying(to, what, n, what) }

// doneSaying is done with other words for the page.
func (v *visit) doneSaying(to, what string, n int, says string) error {
	v.note(what, n)
	v.cookie(flashCookie, base64.RawURLEncoding.EncodeToString([]byte(says)), time.Minute)
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// said is what the action before has done. It is told once.
func (v *visit) said() string {
	cookie, err := v.r.Cookie(flashCookie)
	if err != nil {
		return ""
	}
	v.cookie(flashCookie, "", -1)
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	const longest = 300
	if err != nil || len(text) > longest {
		return ""
	}
	return string(text)
}

func (v *visit) sheet(name string, live bool, body any) sheet {
	return sheet{
		Name: name, Path: v.r.URL.RequestURI(), Namespace: v.server.Namespace, Version: v.server.Version,
		AsOf: time.Now().UTC(), Person: v.person, LoginPossible: !v.server.keys.empty(), Live: live, Body: body,
	}
}

// render writes a page.
func (v *visit) render(status int, name string, live bool, body any) {
	s := v.sheet(name, live, body)
	s.Said = v.said()
	v.write(status, s)
}

func (v *visit) renderProblem(p *problem) {
	s := v.sheet("problem", false, nil)
	s.Problem, s.Again = p, v.r.Method == http.MethodGet && p.status >= http.StatusInternalServerError
	v.write(p.status, s)
}

func (v *visit) write(status int, s sheet) {
	var page bytes.Buffer
	if err := v.server.templates["templates/"+s.Name+".html"].ExecuteTemplate(&page, "page", s); err != nil {
		v.server.Log.Error().Err(err).Str("page", s.Name).Msg("a page could not be drawn")
		http.Error(v.w, "the page could not be drawn", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = page.WriteTo(v.w)
}

// statusOf is the status of what a person may have asked wrongly; 0 for anything else.
func statusOf(err error) int {
	switch kind, _ := desk.Explain(err); kind {
	case desk.NotFound:
		return http.StatusNotFound
	case desk.Invalid, desk.Setting:
		return http.StatusUnprocessableEntity
	case desk.Changed, desk.Conflict, desk.Forgotten, desk.Held, desk.NotDeletable, desk.Over, desk.Usage:
		return http.StatusConflict
	}
	for _, refused := range []error{
		desk.ErrUploading, desk.ErrNoRest, directory.ErrNoCopy, directory.ErrReplaced, schedule.ErrAbandoned,
		schedule.ErrUnderWay, schedule.ErrNotYet,
	} {
		if errors.Is(err, refused) {
			return http.StatusConflict
		}
	}
	return 0
}

// sentence makes a sentence of an error's text.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:] + "."
}
