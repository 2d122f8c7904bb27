package page

import (
	"errors"
	"net/http"
	"time"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// pageRows is how many rows a list shows.
const pageRows = 50

// openRows is how many campaigns that are not over the first page shows, above its charts.
const openRows = 20

// errEnough ends the reading of a list when the page is full.
var errEnough = errors.New("the page is full")

// overview is what the first page shows.
type overview struct {
	desk.Overview
	Budgets   []budget
	Campaigns []tasks.Campaign // those that are not over
	More      int              // that are not shown

	MoreWorkers int // that are not shown
	Charts      []chart
}

// budget is a limit, and how much of it is used.
type budget struct {
	Title   string
	Usage   ratelimit.Usage
	Reserve int
}

// Percent is how much of the limit is used.
func (b budget) Percent() int { return percent(b.Usage.Used, b.Usage.N) }

// Free is how many calls may be made now.
func (b budget) Free() int { return max(0, b.Usage.N-b.Usage.Used) }

var budgetTitles = map[string]string{
	policy.LimitCreate: "Single invitations", policy.LimitBulk: "Bulk calls (up to ten invitations each)",
	policy.LimitOverall: "All calls",
}

func now(v *visit) (any, error) {
	o, err := v.desk.Overview(v.ctx)
	if err != nil {
		return nil, err
	}
	shown := overview{Overview: o}
	shown.Workers = firstOf(o.Workers, pageRows)
	shown.MoreWorkers = len(o.Workers) - len(shown.Workers)
	for _, usage := range o.Limits {
		one := budget{Title: budgetTitles[usage.Name], Usage: usage}
		if one.Title == "" {
			one.Title = usage.Name
		}
		if usage.Name == policy.LimitCreate && usage.N > 0 {
			one.Reserve = o.Reserve
		}
		shown.Budgets = append(shown.Budgets, one)
	}
	if shown.Campaigns, shown.More, err = v.desk.CampaignsUnderWay(v.ctx, openRows); err != nil {
		return nil, err
	}
	hours, err := v.server.tally.Read(v.ctx, time.Now())
	shown.Charts = charts(hours)
	return shown, err
}

// actionList is a page of actions, the latest first.
type actionList struct {
	Actions    []store.Action
	From, Next int // Next is 0 at the end
}

// actionRows is how many actions a page shows.
const actionRows = 4 * pageRows

func actions(v *visit) (any, error) {
	done, err := v.server.audit.List(v.ctx)
	list := actionList{From: min(len(done), max(0, number(v.r.FormValue("from"))))}
	end := min(len(done), list.From+actionRows)
	if list.Actions = done[list.From:end]; end < len(done) {
		list.Next = end
	}
	return list, err
}

func resumeCalls(v *visit) error {
	resumed, err := v.desk.ResumeCalls(v.ctx, "")
	if err != nil {
		return err
	}
	return v.done("/", "had calls probed that rest", len(resumed))
}

var errForm = &problem{http.StatusBadRequest, "The form is none of these pages'", "Go back, reload, and try again."}

// cutOff reads the instant up to which an action reaches; what came later was not seen by who confirmed it.
func cutOff(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.After(time.Now().Add(time.Minute)) {
		return time.Time{}, errForm
	}
	return at, nil
}
