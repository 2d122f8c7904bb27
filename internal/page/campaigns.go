package page

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/store"
	"example.com/usher/tasks"
)

// campaignList is a page of campaigns, the newest first.
type campaignList struct {
	Campaigns   []tasks.Campaign
	From, Next  int // Next is 0 at the end
	Unreadable  string
	FirstOfPage int
	Upload      listForm
}

// number reads where a list goes on. Garbage is the beginning.
func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

func campaigns(v *visit) (any, error) {
	list := campaignList{From: max(0, number(v.r.FormValue("from"))), Upload: listOrder{}.form("")}
	list.FirstOfPage = list.From + 1
	_, list.Upload.Waiting = v.kept()
	at := 0
	err := v.desk.EachCampaign(v.ctx, func(c tasks.Campaign) error {
		if at++; at <= list.From {
			return nil
		}
		if len(list.Campaigns) == pageRows {
			list.Next = list.From + pageRows
			return errEnough
		}
		list.Campaigns = append(list.Campaigns, c)
		return nil
	})
	unreadable, err := store.SplitPartial(err)
	if unreadable != nil {
		list.Unreadable = unreadable.Error()
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

// rowsLooked bounds how many recipients a request looks at.
const rowsLooked = 5000

// outcomes are what may become of a recipient.
func outcomes() []string { return []string{"waiting", "open", "sent", "dead", "skipped", "cancelled"} }

// campaignSheet is one campaign, and some of its recipients.
type campaignSheet struct {
	tasks.Campaign
	Outcomes []string
	Outcome  string
	Glimpse  desk.Glimpse
	Begun    bool // these are not its first recipients
	Loading  bool
}

// mostCauses is how many causes of dead letters a page shows.
const mostCauses = 15

// Causes are the dead letters of the campaign by their codes, the most first.
func (c campaignSheet) Causes() (causes []letterGroup) {
	for code, n := range c.DeadByCode {
		of := choice{Letters: desk.Letters{Campaign: c.Name, Code: code, NoCode: code == ""}}
		causes = append(causes, letterGroup{choice: of, Count: n})
	}
	slices.SortFunc(causes, byCount)
	return firstOf(causes, mostCauses)
}

func campaign(v *visit) (any, error) {
	c, err := v.desk.Campaign(v.ctx, v.r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	shown := campaignSheet{Campaign: c, Outcomes: outcomes(), Outcome: v.r.FormValue("outcome")}
	if !slices.Contains(shown.Outcomes, shown.Outcome) {
		shown.Outcome = ""
	}
	from := v.r.FormValue("from")
	shown.Begun = from != ""
	if shown.Loading = c.State == tasks.CampaignUploading; shown.Loading {
		return shown, nil
	}
	shown.Glimpse, err = v.desk.Glimpse(v.ctx, c.Name, shown.Outcome, from, pageRows, rowsLooked)
	for i := range shown.Glimpse.Recipients {
		r := &shown.Glimpse.Recipients[i]
		r.EmailAddress, r.MendedFrom = v.address(r.EmailAddress), v.address(r.MendedFrom)
		if !v.operates() {
			r.InvitationID, r.Message = "", ""
		}
	}
	return shown, err
}

// question is what a page asks before something is done that cannot be undone.
type question struct {
	Title, Ask, Consequence string
	Action, Button          string
	Back                    string
	Fields                  map[string]string
	Nothing                 bool // there is nothing to do it to
	Cut                     time.Time
	Mild                    bool // nothing is lost by it
}

func confirmCancel(v *visit) (any, error) {
	c, err := v.desk.Campaign(v.ctx, v.r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if c.State.Over() {
		return nil, &problem{http.StatusConflict, "The campaign is " + string(c.State), "There is nothing to cancel."}
	}
	path := "/campaigns/" + url.PathEscape(c.Name)
	return question{
		Title:       "Cancel campaign " + c.Name + "?",
		Ask:         fmt.Sprintf("%s of %s will not be invited.", count(c.Remaining), count(c.Recipients)),
		Consequence: "A cancelled campaign cannot be resumed. Calls that are under way end, and what was sent stays sent.",
		Action:      path + "/cancel", Button: "Cancel the campaign", Back: path, Nothing: c.Remaining == 0,
		Cut: time.Now().UTC(),
	}, nil
}

func changeCampaign(v *visit) error {
	name, verb := v.r.PathValue("name"), v.r.PathValue("verb")
	does := map[string]func(context.Context, string) (tasks.Campaign, error){
		"pause": v.desk.Pause, "resume": v.desk.Resume, "cancel": v.desk.Cancel,
	}[verb]
	if does == nil {
		return errNoPage
	}
	before, err := v.desk.Campaign(v.ctx, name)
	if err != nil {
		return asProblem(err) // nothing was done yet
	}
	c, err := does(v.ctx, name)
	if err != nil {
		return err
	}
	to := "/campaigns/" + url.PathEscape(c.Name)
	if c.State == before.State {
		return v.done(to, fmt.Sprintf("wanted to %s campaign %s, which was %s already", verb, c.Name, c.State), 0)
	}
	did := map[string]string{"pause": "paused", "resume": "resumed", "cancel": "cancelled"}[verb]
	return v.done(to, did+" campaign "+c.Name, c.Remaining)
}

// exportCampaign writes what became of each recipient, as enqueue campaign export does.
func exportCampaign(v *visit) error {
	name := v.r.PathValue("name")
	if _, err := (screen{load: campaign}).read(v); err != nil { // a Redis that hangs is told in time
		return err
	}
	each, err := v.desk.Recipients(v.ctx, name)
	if err != nil {
		return err
	}
	control := http.NewResponseController(v.w)
	v.w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	v.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	out, n := peoplefile.NewCSV(v.w), 0
	_ = out.Write(desk.RecipientColumns()) // an error stays until the end
	err = each(func(r desk.Recipient) error {
		if n++; n%rowsLooked == 1 { // a browser that still reads may go on
			_ = control.SetWriteDeadline(time.Now().Add(formTime))
		}
		return out.Write(r.Cells())
	})
	out.Flush()
	if err != nil || out.Error() != nil {
		panic(http.ErrAbortHandler) // a file that breaks off must not look whole
	}
	v.note("exported campaign "+name, n)
	return nil
}
