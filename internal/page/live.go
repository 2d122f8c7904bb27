package page

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/policy"
)

const (
	// refreshEvery is how often an open page is drawn anew at most.
	refreshEvery = 2 * time.Second
	// commandsPerSecond is what all open pages together cost Redis, however many there are. Each has an equal share: a
	// dear page is drawn less often, and keeps no other one waiting. First drawings come on top of it.
	commandsPerSecond = 8
	// mostFeeds bounds how many different pages are followed at once, and mostFollowers how many browsers.
	mostFeeds, mostFollowers = 100, 500
	// payEvery is the shortest step in which a page pays.
	payEvery = 10 * time.Millisecond
	// pingEvery is how often a browser is told that the connection lives.
	pingEvery = 15 * time.Second
)

// feeds are the pages that browsers follow. All who follow the same page share one drawing of it.
type feeds struct {
	mu        sync.Mutex
	open      map[string]*feed
	followers int

	drawing sync.Mutex // one page is drawn at a time
	kept    forecast.Kept
}

// feed is one page that is followed.
type feed struct {
	followers int
	stop      context.CancelFunc
	changed   chan struct{} // closed when there is something new
	html      []byte
}

var errFull = &problem{
	http.StatusServiceUnavailable, "Too many pages are open", "Reload the page now and then instead.",
}

// follow sends the live part of a page whenever it has changed, until the browser leaves.
func (f *feeds) follow(v *visit, one screen) error {
	key := fmt.Sprint(v.person.Access, " ", v.r.URL.RequestURI())
	if one.own {
		key += " " + v.actor + " " + v.r.Header.Get("Cookie")
	}
	if err := f.enter(key, v, one); err != nil {
		return err
	}
	defer f.leave(key)
	control := http.NewResponseController(v.w)
	_ = control.SetWriteDeadline(time.Time{})
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // nginx holds back what it does not know to be a stream
	v.w.WriteHeader(http.StatusOK)
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for sent := []byte(nil); ; {
		html, changed := f.now(key)
		message := []byte(nil)
		if !bytes.Equal(html, sent) {
			message, sent = event(html), html
		}
		if message != nil {
			if _, err := v.w.Write(message); err != nil || control.Flush() != nil {
				return nil
			}
		}
		select {
		case <-v.ctx.Done():
			return nil
		case <-changed:
		case <-ping.C:
			if v.server.who(v.r).Access < v.person.Access { // the token was taken away
				return nil
			}
			if _, err := v.w.Write([]byte(": lives\n\n")); err != nil || control.Flush() != nil {
				return nil
			}
		}
	}
}

// event is a message of a stream: each line of it has a name before it.
func event(html []byte) []byte {
	html = bytes.ReplaceAll(html, []byte("\r"), nil)
	return append(append([]byte("data: "), bytes.ReplaceAll(html, []byte("\n"), []byte("\ndata: "))...), "\n\n"...)
}

// enter begins to follow a page.
func (f *feeds) enter(key string, v *visit, one screen) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.followers >= mostFollowers || f.open[key] == nil && len(f.open) >= mostFeeds {
		return errFull
	}
	f.followers++
	if f.open[key] == nil {
		ctx, stop := context.WithCancel(context.WithoutCancel(v.ctx))
		f.open[key] = &feed{stop: stop, changed: make(chan struct{})}
		ctx = forecast.Keeping(ctx, &f.kept)
		drawn := &visit{server: v.server, r: v.r.Clone(ctx), ctx: ctx, desk: v.desk, actor: v.actor, person: v.person}
		go f.draw(key, drawn, one)
	}
	f.open[key].followers++
	return nil
}

// leave ends following a page. The last one ends its drawing.
func (f *feeds) leave(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers--
	if one := f.open[key]; one != nil {
		if one.followers--; one.followers == 0 {
			one.stop()
			delete(f.open, key)
		}
	}
}

// now gives the live part of a page, and what closes when there is another one.
func (f *feeds) now(key string) (html []byte, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open[key].html, f.open[key].changed
}

// draw draws a page again and again until nobody follows it. A failure is drawn, too.
func (f *feeds) draw(key string, v *visit, one screen) {
	for {
		html, cost := f.drawn(v, one)
		f.mu.Lock()
		if feed := f.open[key]; feed != nil && v.ctx.Err() == nil && !bytes.Equal(html, feed.html) {
			feed.html = html
			close(feed.changed)
			feed.changed = make(chan struct{})
		}
		f.mu.Unlock()
		if f.pay(v.ctx, cost) != nil {
			return
		}
	}
}

// drawn draws a page, and tells how many commands that has cost.
func (f *feeds) drawn(v *visit, one screen) (html []byte, cost int) {
	f.drawing.Lock()
	defer f.drawing.Unlock()
	before := v.server.cost.commands.Load()
	html = v.live(one)
	return html, int(v.server.cost.commands.Load() - before)
}

// pay waits until a page may be drawn again that has cost some commands: until its share of what all may cost has paid
// for them, which changes when pages are opened or left. The error is that of the context.
func (f *feeds) pay(ctx context.Context, cost int) error {
	owed, pause := float64(cost), refreshEvery
	for {
		if err := policy.Sleep(ctx, pause); err != nil {
			return err
		}
		f.mu.Lock()
		share := commandsPerSecond / float64(max(1, len(f.open)))
		f.mu.Unlock()
		if owed -= share * pause.Seconds(); owed <= 0 {
			return nil
		}
		pause = time.Duration(owed / share * float64(time.Second))
		pause = min(max(pause, payEvery), refreshEvery) // what is left by rounding is paid in one step, too
	}
}

// live draws the part of a page that changes.
func (v *visit) live(one screen) []byte {
	var html bytes.Buffer
	s := v.sheet(one.name, true, nil)
	var err error
	if s.Body, err = one.read(v); err == nil {
		err = v.server.templates["templates/"+one.name+".html"].ExecuteTemplate(&html, "live", s)
	}
	if err != nil {
		html.Reset()
		s.Problem = asProblem(err)
		_ = v.server.templates["templates/problem.html"].ExecuteTemplate(&html, "live", s)
	}
	return html.Bytes()
}
