package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"example.com/usher/internal/forecast"
	"example.com/usher/tasks"
)

// display shows how a campaign goes on.
type display interface {
	update(c tasks.Campaign, perHour float64) error
	end() // of the watch; the campaign may go on
}

// display is a bar on a terminal and a line now and then elsewhere. With --json it is an object whenever something changed, if the
// changes are the answer, and else nothing.
func (a *app) display(changes bool) display {
	switch {
	case a.out.json && changes:
		return &objects{out: a.out}
	case a.out.json:
		return silent{}
	case terminal(a.out.stderr):
		return newBar(a.out.stderr)
	}
	return &lines{out: a.out, tenth: -1}
}

type silent struct{}

func (silent) update(tasks.Campaign, float64) error { return nil }
func (silent) end()                                 {}

// standing is what changes when a campaign goes on; its ETA alone may waver.
type standing struct {
	state                  tasks.CampaignState
	recipients, sent, dead int
	standstill             string
}

func standingOf(c tasks.Campaign) standing {
	return standing{c.State, c.Recipients, c.Sent, c.Dead, c.Standstill}
}

// objects writes an object for a program whenever something changed.
type objects struct {
	out  *output
	last standing
}

func (o *objects) update(c tasks.Campaign, perHour float64) error {
	now := standingOf(c)
	if now == o.last {
		return nil
	}
	o.last = now
	view := campaignView(c)
	view["recipients_per_hour"] = orNull(math.Round(perHour))
	return o.out.object(view)
}

func (o *objects) end() {}

type bar struct {
	container *mpb.Progress
	bar       *mpb.Bar
	text      atomic.Pointer[string]
	complete  bool
}

const barWidth = 24 // leaves room for what stands beside it

func newBar(w io.Writer) *bar {
	b := &bar{container: mpb.New(mpb.WithOutput(w), mpb.WithWidth(barWidth))}
	b.text.Store(new(string))
	b.bar = b.container.AddBar(0, // with a total it would end there, and a campaign may grow
		mpb.PrependDecorators(decor.CountersNoUnit("%d of %d")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *b.text.Load() })),
	)
	return b
}

func (b *bar) update(c tasks.Campaign, perHour float64) error {
	text := " " + progressWords(c, perHour)
	b.text.Store(&text)
	b.bar.SetTotal(int64(max(1, c.Recipients)), false)
	b.bar.SetCurrent(int64(c.Sent + c.Dead))
	b.complete = c.State == tasks.CampaignFinished
	return nil
}

func (b *bar) end() {
	if b.complete {
		b.bar.SetTotal(-1, true)
	} else {
		b.bar.Abort(false)
	}
	b.container.Wait()
}

// progressWords tells on one line how far a campaign is.
func progressWords(c tasks.Campaign, perHour float64) string {
	words := []string{fmt.Sprintf("%d sent, %d dead, %d remaining", c.Sent, c.Dead, c.Remaining)}
	if c.State != tasks.CampaignRunning {
		return strings.Join(append(words, string(c.State)), ", ")
	}
	if c.Standstill != "" && c.Standstill != forecast.UsedUp && !c.ETA.IsZero() {
		words = append(words, c.Standstill)
	}
	if perHour > 0 {
		words = append(words, forecast.Pace(perHour))
	}
	if c.ETA.IsZero() {
		return strings.Join(append(words, c.Assumption), ", ")
	}
	return strings.Join(append(words, "ETA "+clockTime(c.ETA)), ", ")
}

// lines writes a line at every tenth of the way, and when the campaign is paused, resumed or stands still for another reason.
type lines struct {
	out   *output
	tenth int
	last  standing // the last that was told; of standstills the last one
}

func (l *lines) update(c tasks.Campaign, perHour float64) error {
	ended := c.Sent + c.Dead
	now := standing{state: c.State, standstill: l.last.standstill}
	if c.Standstill != "" && c.Standstill != forecast.UsedUp { // a window that is closed is no news
		now.standstill = c.Standstill
	}
	if tenth := ended * 10 / max(1, c.Recipients); tenth > l.tenth || now != l.last {
		l.tenth, l.last = tenth, now
		l.out.note("%d of %d recipients: %s", ended, c.Recipients, progressWords(c, perHour))
	}
	return nil
}

func (l *lines) end() {}
