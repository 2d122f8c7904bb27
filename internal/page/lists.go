package page

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
	"example.com/usher/tasks"
)

// invitationList is a page of the directory, the newest first.
type invitationList struct {
	Never      bool // the directory was never synced
	SyncedAt   time.Time
	Statuses   []string
	Status     string
	Query      string // only after a search, which is posted: no address stands in a URL
	Whole      bool   // the query is a whole address: all its invitations are known
	Rows       []clerkclient.Invitation
	From, Next int
	Looked     int
}

// mostAsked is how long what is looked for may be, in bytes.
const mostAsked = 512

var errLong = &problem{http.StatusUnprocessableEntity, "That is too long",
	fmt.Sprintf("An address, an id and a name have fewer than %d bytes.", mostAsked)}

// directoryLooked bounds how many invitations a request looks at.
const directoryLooked = 20_000

func statuses() []string { return []string{"pending", "accepted", "revoked", "expired"} }

func invitations(v *visit) (any, error) {
	return v.directory(v.r.FormValue("status"), "", max(0, number(v.r.FormValue("from"))))
}

func searchInvitations(v *visit) error {
	from, query := max(0, number(v.r.PostFormValue("from"))), strings.TrimSpace(v.r.PostFormValue("query"))
	if len(query) > mostAsked {
		return errLong
	}
	list, err := v.directory(v.r.PostFormValue("status"), query, from)
	if err == nil {
		v.render(http.StatusOK, "invitations", false, list)
	}
	return err
}

// directory reads a page of the directory: what matches behind the first rows.
func (v *visit) directory(status, query string, from int) (any, error) {
	list := invitationList{Statuses: statuses(), Status: status, Query: query, From: from}
	if !slices.Contains(list.Statuses, status) {
		list.Status = ""
	}
	copy, err := v.desk.Directory.Copy(v.ctx)
	if errors.Is(err, directory.ErrNoCopy) {
		list.Never = true
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	list.SyncedAt = copy.SyncedAt
	at := 0
	take := func(place int, inv clerkclient.Invitation) error {
		if len(list.Rows) == pageRows {
			list.Next = at + 1
			return errEnough
		}
		at = place
		inv.EmailAddress = v.address(inv.EmailAddress)
		if !v.operates() {
			inv.ID, inv.PublicMetadata = "", nil
		}
		list.Rows = append(list.Rows, inv)
		return nil
	}
	if address := tasks.CleanAddress(query); (tasks.Recipient{EmailAddress: address}).Validate() == nil {
		list.Whole = true
		err = eachOf(v.ctx, copy, address, list.Status, from, take)
	} else {
		filter := directory.Filter{Status: list.Status, Query: query}
		list.Looked, err = copy.From(v.ctx, from, directoryLooked, filter, take)
	}
	if errors.Is(err, errEnough) {
		return list, nil
	}
	if list.Looked >= directoryLooked {
		list.Next = from + list.Looked
	}
	return list, err
}

// eachOf calls do for the invitations of a whole address from a place among them on, those in a status unless it is
// empty.
func eachOf(
	ctx context.Context, copy directory.Copy, address, status string, from int,
	do func(place int, inv clerkclient.Invitation) error,
) error {
	place := -1
	return copy.About(ctx, address, func(inv clerkclient.Invitation) error {
		if place++; place < from || status != "" && inv.Status != status {
			return nil
		}
		return do(place, inv)
	})
}

func confirmRevoke(v *visit) (any, error) {
	id := v.r.FormValue("id")
	if err := tasks.ValidateInvitationID(id); err != nil {
		return nil, err
	}
	return question{
		Title: "Revoke this invitation?", Ask: "That is 1 invitation: " + id + ".",
		Consequence: "Its link stops working. A worker revokes it at Clerk.",
		Action:      "/invitations/revoke", Button: "Revoke", Back: "/invitations", Cut: time.Now().UTC(),
		Fields: map[string]string{"id": id},
	}, nil
}

func revokeInvitation(v *visit) error {
	task, err := v.desk.Revoke(v.ctx, v.r.PostFormValue("id"), tasks.ID("page-revoke-"+v.r.PostFormValue("id")))
	if err != nil && !errors.Is(err, tasks.ErrExists) {
		return err
	}
	if err != nil {
		return v.done("/invitations", "wanted task "+task.ID+", which revokes an invitation and was there already", 0)
	}
	return v.done("/invitations", "enqueued task "+task.ID+", which revokes an invitation", 1)
}

// scheduleList is a page of schedules, by name.
type scheduleList struct {
	Rows       []schedule.Standing
	From, Next int // Next is 0 at the end
}

func schedules(v *visit) (any, error) {
	list := scheduleList{From: max(0, number(v.r.FormValue("from")))}
	at := 0
	err := v.desk.EachSchedule(v.ctx, func(s schedule.Standing) error {
		if at++; at <= list.From {
			return nil
		}
		if len(list.Rows) == pageRows {
			list.Next = list.From + pageRows
			return errEnough
		}
		list.Rows = append(list.Rows, s)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

func changeSchedule(v *visit) (err error) {
	name, verb := v.r.PathValue("name"), v.r.PathValue("verb")
	did := ""
	switch verb {
	case "pause":
		did = "paused schedule " + name
		_, err = v.desk.Schedules.Pause(v.ctx, name)
	case "resume":
		did = "resumed schedule " + name
		_, err = v.desk.Schedules.Resume(v.ctx, name)
	case "run":
		var tick time.Time
		tick, _, err = v.desk.Schedules.Run(v.ctx, name, func() {})
		did = "ran schedule " + name + " for " + tick.UTC().Format(time.RFC3339)
	default:
		return errNoPage
	}
	if err != nil {
		return err
	}
	return v.done("/schedules", did, 1)
}

// storySheet is what was asked for, and what is known of it.
type storySheet struct {
	What       string
	Story      *desk.Story
	Earlier    int    // events that are not shown
	Unreadable string // what could not be read
}

// mostEvents is how many events of a story a page shows, the latest ones, and mostOnward with how many addresses it
// goes on.
const mostEvents, mostOnward = 50, 5

func emptyStory(*visit) (any, error) { return storySheet{}, nil }

func findStory(v *visit) error {
	what := strings.TrimSpace(v.r.PostFormValue("what"))
	switch {
	case len(what) > mostAsked:
		return errLong
	case what == "":
		return &problem{http.StatusBadRequest, "Nothing to look for", "Enter an e-mail address, or an id."}
	}
	story, err := v.desk.Find(v.ctx, what)
	unreadable, err := store.SplitPartial(err)
	if errors.Is(err, tasks.ErrNotFound) {
		return &problem{http.StatusNotFound, "Nothing is known of that",
			fmt.Sprintf("No task, dead letter or invitation has the id %.80q. Ended tasks are known for 30 days.", what)}
	}
	if err != nil {
		return err
	}
	sheet := storySheet{What: what, Story: &story, Earlier: max(0, len(story.Events)-mostEvents)}
	story.Events, story.GoesOn = story.Events[sheet.Earlier:], firstOf(story.GoesOn, mostOnward)
	if unreadable != nil {
		sheet.Unreadable = unreadable.Error()
	}
	v.render(http.StatusOK, "find", false, sheet)
	return nil
}

// Link is the page of the campaign that an event is about.
func (storySheet) Link(campaign string) string { return "/campaigns/" + url.PathEscape(campaign) }
