package worker

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/internal/policy"
)

const (
	// troubleAgain is how often trouble that lasts is told again.
	troubleAgain = time.Minute
	// troubleOver is after how long without trouble it is over. Who looks seldom and waits for Redis meanwhile meets
	// the same trouble again sooner than this.
	troubleOver = 3 * policy.MendInterval
)

// Troubles keeps the log short while trouble with Redis lasts. It is a hook of a logger: the same trouble is one line
// when it begins, one a minute with a count while it lasts, and one when it is over.
type Troubles struct {
	log      zerolog.Logger // where the end is told
	concerns func(msg string) bool

	mu  sync.Mutex
	now map[string]*trouble
}

// trouble is one that lasts.
type trouble struct {
	began, told time.Time
	untold      int // lines since it was told
	all         int
	over        *time.Timer
}

// Trouble with Redis that the sweep meets.
const (
	noDriver = "campaigns without a driver could not all be given one"
	noUpload = "uploads could not all be finished"
)

// NewTroubles gives the hook for a worker's log.
func NewTroubles(log zerolog.Logger) *Troubles {
	return &Troubles{log: log, now: map[string]*trouble{}, concerns: func(msg string) bool {
		says := func(part string) bool { return strings.Contains(msg, part) }
		return slices.ContainsFunc([]string{
			"Redis cannot answer", "waiting for Redis", noDriver, noUpload, "schedule cannot go on",
			"could not be given back", "could not be recorded in time",
		}, says)
	}}
}

// newAsynqTroubles gives the hook for what asynq says, which is all about Redis.
func newAsynqTroubles(log zerolog.Logger) *Troubles {
	return &Troubles{log: log, now: map[string]*trouble{}, concerns: func(string) bool { return true }}
}

// Run drops a line that was told a short while ago.
func (t *Troubles) Run(e *zerolog.Event, level zerolog.Level, msg string) {
	if level < zerolog.WarnLevel || !t.concerns(msg) {
		return
	}
	key := msg
	if end := strings.IndexAny(msg, ":[="); end > 0 { // ids and errors follow
		key = msg[:end]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at, lasts := t.now[key]
	if !lasts {
		at = &trouble{began: time.Now()}
		at.over = time.AfterFunc(troubleOver, func() { t.end(key) })
		t.now[key] = at
	} else if at.over.Stop() {
		at.over.Reset(troubleOver)
	}
	at.all++
	if at.untold++; lasts && time.Since(at.told) < troubleAgain {
		e.Discard()
		return
	}
	if at.untold > 1 {
		e.Int("repeated", at.untold)
	}
	at.told, at.untold = time.Now(), 0
}

// end tells that trouble is over, if it was more than one line.
func (t *Troubles) end(key string) {
	t.mu.Lock()
	at := t.now[key]
	delete(t.now, key)
	t.mu.Unlock()
	if at.all > 1 {
		t.log.Info().Str("trouble", key).Int("repeated", at.all).
			Float64("lasted_seconds", (time.Since(at.began) - troubleOver).Round(time.Millisecond).Seconds()).
			Msg("trouble is over")
	}
}
