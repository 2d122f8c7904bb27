package page

import (
	"fmt"
	"strconv"
	"time"

	"example.com/usher/internal/store"
)

// chart draws what became of recipients over time as bars. A table has the same numbers in words.
type chart struct {
	ID, Title string
	Each      string // what a bar is
	Bars      []bar
	Width     int // of the drawing; it is stretched to the page's
	Most      int // in one bar
	Total     store.Counts
}

// bar is the counts of an hour or a day.
type bar struct {
	store.Counts
	At    time.Time
	Label string
	Rects []rect
}

// rect is a part of a bar. Its numbers are written for SVG.
type rect struct{ Class, X, Y, Height string }

const (
	hoursShown = 48
	barStep    = 10 // from one bar to the next
	chartTop   = 100
	// leastHeight makes a single one visible beside hundreds.
	leastHeight = 1.5
)

// charts are those of the last two days by the hour, and of the last thirty by the day.
func charts(hours []store.Hour) []chart {
	byHour := chart{ID: "hours", Title: "Last 48 hours", Each: "hour"}
	for _, h := range hours[max(0, len(hours)-hoursShown):] {
		byHour.Bars = append(byHour.Bars, bar{Counts: h.Counts, At: h.At, Label: h.At.Format("Jan 2, 15:04")})
	}
	byDay := chart{ID: "days", Title: "Last 30 days", Each: "day"}
	for _, h := range hours {
		day := h.At.Format("Jan 2")
		if n := len(byDay.Bars); n == 0 || byDay.Bars[n-1].Label != day {
			byDay.Bars = append(byDay.Bars, bar{At: h.At, Label: day})
		}
		last := &byDay.Bars[len(byDay.Bars)-1]
		last.Counts = last.Plus(h.Counts)
	}
	return []chart{byHour.drawn(), byDay.drawn()}
}

// drawn gives the chart with its bars drawn.
func (c chart) drawn() chart {
	for _, b := range c.Bars {
		c.Total = c.Total.Plus(b.Counts)
		c.Most = max(c.Most, b.All())
	}
	c.Width = barStep * len(c.Bars)
	for i := range c.Bars {
		b, y := &c.Bars[i], float64(chartTop)
		for _, part := range []struct {
			class string
			n     int
		}{{"sent", b.Sent}, {"refused", b.Refused}, {"dead", b.Dead}} {
			if part.n == 0 {
				continue
			}
			const drawn = chartTop - 3*leastHeight
			height := max(leastHeight, drawn*float64(part.n)/float64(c.Most))
			y -= height
			b.Rects = append(b.Rects, rect{part.class, strconv.Itoa(i*barStep + 1), number2(y), number2(height)})
		}
	}
	return c
}

func number2(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// Summary says in words what the chart shows.
func (c chart) Summary() string {
	return fmt.Sprintf("%s: %s sent, %s refused by Clerk, %s dead for another cause", c.Title, count(c.Total.Sent),
		count(c.Total.Refused), count(c.Total.Dead))
}

// First and Last are the ends of its time.
func (c chart) First() string { return c.end(0) }

// Last is the bar of now.
func (c chart) Last() string { return c.end(len(c.Bars) - 1) }

func (c chart) end(i int) string {
	if len(c.Bars) == 0 {
		return ""
	}
	return c.Bars[i].Label
}

// Some are the bars with something in them, the latest first.
func (c chart) Some() (some []bar) {
	for i := range c.Bars {
		if b := c.Bars[len(c.Bars)-1-i]; b.All() > 0 {
			some = append(some, b)
		}
	}
	return some
}
