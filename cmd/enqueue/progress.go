package main

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"example.com/usher/tasks"
)

// progress shows how far a campaign is.
type progress interface {
	update(tasks.Bulk)
	end(*tasks.Bulk) // nil if it is not known
}

// progress is a bar on a terminal, a line now and then elsewhere, and nothing with --json.
func (a *app) progress(recipients int) progress {
	switch {
	case a.out.json:
		return silent{}
	case terminal(a.out.stderr):
		return newBar(a.out.stderr, recipients)
	}
	return &lines{out: a.out, last: -1}
}

type silent struct{}

func (silent) update(tasks.Bulk) {}
func (silent) end(*tasks.Bulk)   {}

type bar struct {
	container *mpb.Progress
	bar       *mpb.Bar
	now       atomic.Pointer[tasks.Bulk]
}

func newBar(w io.Writer, recipients int) *bar {
	b := &bar{container: mpb.New(mpb.WithOutput(w), mpb.WithWidth(50))}
	b.now.Store(&tasks.Bulk{Recipients: recipients})
	b.bar = b.container.AddBar(int64(max(1, recipients)),
		mpb.PrependDecorators(decor.CountersNoUnit("%d of %d")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return counts(*b.now.Load()) }), decor.OnComplete(decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 8}), "")),
	)
	return b
}

func counts(b tasks.Bulk) string { return fmt.Sprintf(" %d sent, %d dead", b.Sent, b.Dead) }

func (b *bar) update(now tasks.Bulk) {
	b.now.Store(&now)
	b.bar.SetTotal(int64(max(1, now.Recipients)), false)
	b.bar.SetCurrent(int64(now.Sent + now.Dead))
}

func (b *bar) end(now *tasks.Bulk) {
	if now == nil {
		b.bar.Abort(false)
	} else {
		b.update(*now)
		b.bar.SetTotal(-1, true)
	}
	b.container.Wait()
}

// lines writes a line at every tenth of the way.
type lines struct {
	out  *output
	last int
}

func (l *lines) update(b tasks.Bulk) {
	ended := b.Sent + b.Dead
	if tenth := ended * 10 / max(1, b.Recipients); tenth > l.last {
		l.last = tenth
		l.out.note("%d of %d recipients:%s", ended, b.Recipients, counts(b))
	}
}

func (l *lines) end(b *tasks.Bulk) {
	if b != nil {
		l.update(*b)
	}
}
