package page

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// TestTheChartsShowEveryCount: in bars that stay in the drawing, and in the table beside it.
func TestTheChartsShowEveryCount(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 31, 5, 0, 0, 0, time.UTC)
	var hours []store.Hour
	for i := range 30*24 - 18 {
		hours = append(hours, store.Hour{At: now.Add(-time.Duration(30*24-19-i) * time.Hour)})
	}
	hours[0].Sent = 5
	hours[len(hours)-1].Counts = store.Counts{Sent: 350, Refused: 1, Dead: 1}
	hours[len(hours)-30].Counts = store.Counts{Sent: 10, Refused: 20, Dead: 30}
	drawn := charts(hours)
	byHour, byDay := drawn[0], drawn[1]
	if len(byHour.Bars) != 48 || byHour.Total != (store.Counts{Sent: 360, Refused: 21, Dead: 31}) || byHour.Most != 352 {
		t.Errorf("%d hours, %+v, %d", len(byHour.Bars), byHour.Total, byHour.Most)
	}
	if len(byDay.Bars) != 30 || byDay.Total != (store.Counts{Sent: 365, Refused: 21, Dead: 31}) ||
		len(byDay.Some()) != 3 ||
		byDay.First() != "Mar 2" || byDay.Last() != "Mar 31" {
		t.Errorf("%d days, %+v, %s to %s", len(byDay.Bars), byDay.Total, byDay.First(), byDay.Last())
	}
	rects := 0
	for _, c := range drawn {
		for _, b := range c.Bars {
			sum := 0.0
			for _, r := range b.Rects {
				rects++
				y, _ := strconv.ParseFloat(r.Y, 64)
				height, _ := strconv.ParseFloat(r.Height, 64)
				if sum += height; y < 0 || height < leastHeight-.01 || sum > chartTop {
					t.Errorf("%s, %s: y %s, height %s", c.Title, b.Label, r.Y, r.Height)
				}
			}
		}
	}
	if rects != 6+7 {
		t.Errorf("%d parts are drawn", rects)
	}
	for _, c := range charts(nil) {
		if c.First() != "" || c.Last() != "" || c.Some() != nil {
			t.Errorf("of nothing: %+v", c)
		}
	}
}

// TestTheFirstPageHasTheCharts, in words too, and no style or script in the drawing.
func TestTheFirstPageHasTheCharts(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Anonymous = Viewer })
	w := b.browser()
	w.get("/").must(t, http.StatusOK, "Last 48 hours", "nothing yet")
	tally := store.NewTally(b.rdb, "usher")
	testkit.NoError(t, tally.Add(t.Context(), "one", store.Counts{Sent: 1234, Refused: 5, Dead: 6}))
	p := w.get("/").must(t, http.StatusOK, "at most 1,245 in an hour", "As a table",
		`aria-label="Last 48 hours: 1,234 sent, 5 refused by Clerk, 6 dead for another cause"`,
		`<td class="n">6</td>`)
	drawings := regexp.MustCompile(`(?s)<svg viewBox="0 0 \d+ 100".*?</svg>`).FindAllString(p.body, -1)
	if len(drawings) != 2 {
		t.Fatalf("%d drawings", len(drawings))
	}
	for _, drawing := range drawings {
		var parsed struct{}
		if err := xml.Unmarshal([]byte(drawing), &parsed); err != nil || strings.Contains(drawing, "style") ||
			strings.Count(drawing, "<rect") != 3 {
			t.Errorf("%v: %s", err, drawing)
		}
	}
	busy := make([]string, 24)
	for i := range busy {
		busy[i] = "350,12,3"
	}
	for i := range int64(store.TallyDays) {
		day := fmt.Sprint(time.Now().Unix()/86400 - i)
		testkit.NoError(t, b.rdb.HSet(t.Context(), store.Keys("usher").Tally(), day, strings.Join(busy, ",")).Err())
	}
	if p := w.get("/"); len(p.body) > 100_000 {
		t.Errorf("%d bytes after thirty busy days", len(p.body))
	} else {
		t.Logf("%d bytes after thirty busy days", len(p.body))
	}
}
