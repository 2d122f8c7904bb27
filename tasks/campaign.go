package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/store/ledger"
)

// CampaignState is where a campaign stands.
type CampaignState string

// The states of a campaign.
const (
	CampaignUploading CampaignState = "uploading" // recipients are being added; it makes no calls until they are there
	CampaignScheduled CampaignState = "scheduled" // its time has not come
	CampaignRunning   CampaignState = "running"
	CampaignPaused    CampaignState = "paused"
	CampaignCancelled CampaignState = "cancelled" // a person stopped it for good
	CampaignFinished  CampaignState = "finished"  // every recipient has its outcome
)

// Over tells whether a campaign in this state makes no more calls by itself.
func (s CampaignState) Over() bool { return s == CampaignFinished || s == CampaignCancelled }

// Refuses gives the error with which BulkInvite refuses recipients for a campaign in this state, to be invited later
// or at once; nil if the campaign takes them. It is an *InvalidError.
func (s CampaignState) Refuses(later bool) error {
	switch {
	case s == CampaignCancelled:
		return invalid("campaign", "is cancelled and takes no more recipients; choose another name")
	case later && (s == CampaignRunning || s == CampaignPaused):
		return invalid("at", "the campaign has begun already; leave the time out to add to it")
	}
	return nil
}

// RefusesDeleted gives the error with which BulkInvite refuses recipients for a campaign that was deleted, if that is
// what an error says; else nil. It is an *InvalidError.
func RefusesDeleted(err error) error {
	deleted, ok := errors.AsType[*ledger.DeletedError](err)
	if !ok {
		return nil
	}
	return invalid("campaign", "%s; use another --campaign", deleted.Why())
}

// ErrCampaignOver means that a campaign has finished or was cancelled: there is nothing left to pause, resume or
// cancel.
var ErrCampaignOver = ledger.ErrOver

// Campaign is how a campaign stands. Instants that are not known are zero. Recipients = Sent + Dead + Skipped +
// Remaining.
type Campaign struct {
	Name       string        `json:"campaign"`
	State      CampaignState `json:"state"`
	Recipients int           `json:"recipients"`
	Sent       int           `json:"sent"`
	Dead       int           `json:"dead"`
	// Skipped counts recipients whose addresses belong to users, and who were to be skipped then.
	Skipped   int `json:"skipped"`
	Remaining int `json:"remaining"`
	// Unsure counts those of the remaining ones of whom nobody knows whether their last call has invited them. Clerk is
	// asked about them. It is 0 unless the campaign runs.
	Unsure int `json:"unsure"`
	// Forgotten counts recipients that were removed because their addresses were forgotten on request; they count
	// nowhere else.
	Forgotten int `json:"forgotten"`
	// DeadByCode counts the dead ones by cause. It is never nil.
	DeadByCode map[string]int `json:"dead_by_code"`
	// ETA is when its last recipient is expected to have its outcome: by the limits, the invites that wait and the
	// other campaigns.
	ETA time.Time `json:"eta,omitzero"`
	// Assumption is what the ETA rests on, or why there is none, for a person to read; empty for a campaign that is
	// over.
	Assumption string `json:"eta_assumption"`
	// Standstill is why it makes no call at present; nil if it does, or is over.
	Standstill  *Standstill `json:"standstill"`
	ScheduledAt time.Time   `json:"scheduled_at,omitzero"`
	StartedAt   time.Time   `json:"started_at,omitzero"`
	FinishedAt  time.Time   `json:"finished_at,omitzero"`
}

// Settled is how many recipients have their outcome.
func (c Campaign) Settled() int { return c.Sent + c.Dead + c.Skipped }

// Campaign tells how a campaign stands, or ErrNotFound.
func (c *Client) Campaign(ctx context.Context, name string) (Campaign, error) {
	return c.campaign(ctx, c.ledgers.Get, name)
}

// errEnough ends the reading of campaigns when there are as many as were asked for.
var errEnough = errors.New("there are enough campaigns")

// Campaigns tells how the newest campaigns stand, the newest first, at most limit of them. The error names those that
// cannot be read.
func (c *Client) Campaigns(ctx context.Context, limit int) ([]Campaign, error) {
	if limit < 1 {
		return nil, nil
	}
	var campaigns []Campaign
	err := c.EachCampaign(ctx, func(one Campaign) error {
		if campaigns = append(campaigns, one); len(campaigns) == limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return campaigns, err
}

// EachCampaign calls do for every campaign, the newest first, until it returns an error, and gives that. It holds a
// page of them at a time. A campaign that cannot be read hides no other; the error at the end names it.
func (c *Client) EachCampaign(ctx context.Context, do func(Campaign) error) error {
	return c.EachCampaignAfter(ctx, "", do)
}

// EachCampaignAfter is EachCampaign for those behind one of them in that order, or for all if its name is empty. The
// error is ErrNotFound if there is none of that name.
func (c *Client) EachCampaignAfter(ctx context.Context, name string, do func(Campaign) error) error {
	o := &oracle{client: c}
	err := c.ledgers.ListAfter(ctx, name, func(heads []ledger.Campaign) error {
		for _, head := range heads {
			if err := do(o.foretold(ctx, head)); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return &campaignGone{fmt.Errorf("campaign %w", err)}
	}
	return err
}

// CampaignsUnderWay tells how campaigns stand that are not over, at most limit of them, and how many more there are.
// Those that run come first, then those that are paused, each the newest first, then those that are scheduled, the
// soonest first. Of scheduled ones it knows those among the 200 newest campaigns. Campaigns that cannot be read are
// left out.
func (c *Client) CampaignsUnderWay(ctx context.Context, limit int) (campaigns []Campaign, more int, err error) {
	heads, others, err := c.ledgers.UnderWay(ctx)
	o := &oracle{client: c}
	for _, head := range heads[:min(len(heads), limit)] {
		campaigns = append(campaigns, o.foretold(ctx, head))
	}
	return campaigns, len(heads) - len(campaigns) + others, err
}

// Pause stops a campaign from making calls, but for those under way. Pausing it again changes nothing. The error is
// ErrNotFound or ErrCampaignOver.
func (c *Client) Pause(ctx context.Context, name string) (Campaign, error) {
	return c.campaign(ctx, c.ledgers.Pause, name)
}

// Resume lets a paused campaign go on; one that runs is left alone. The error is ErrNotFound or ErrCampaignOver.
func (c *Client) Resume(ctx context.Context, name string) (Campaign, error) {
	return c.campaign(ctx, c.ledgers.Resume, name)
}

// Cancel stops a campaign for good: whoever is in no call is not invited any more. What becomes of calls under way
// is recorded. Cancelling it again changes nothing. The error is ErrNotFound or ErrCampaignOver, if it has finished.
func (c *Client) Cancel(ctx context.Context, name string) (Campaign, error) {
	return c.campaign(ctx, c.ledgers.Cancel, name)
}

// campaignGone is an ErrNotFound that says that it is about a campaign.
type campaignGone struct{ error }

func (e *campaignGone) Unwrap() []error { return []error{ErrNotFound, e.error} }

// campaign does something to one campaign, or only reads it, and tells how it stands.
func (c *Client) campaign(
	ctx context.Context, do func(context.Context, string) (ledger.Campaign, error), name string,
) (Campaign, error) {
	head, err := do(ctx, name)
	deleted, isDeleted := errors.AsType[*ledger.DeletedError](err)
	switch {
	case isDeleted:
		return Campaign{}, &campaignGone{fmt.Errorf("campaign %w", deleted)}
	case errors.Is(err, ledger.ErrNotFound):
		return Campaign{}, &campaignGone{fmt.Errorf("campaign %s: %w", name, ledger.ErrNotFound)}
	case err != nil:
		return Campaign{}, err
	}
	return (&oracle{client: c}).foretold(ctx, head), nil
}

// oracle foretells of any number of campaigns from one reading, once it is asked about one that makes calls.
type oracle struct {
	client    *Client
	read      bool
	forecasts map[string]forecast.Forecast
	err       error
}

// foretold adds to a campaign what can be foretold of it. Without it, it is told all the same.
func (o *oracle) foretold(ctx context.Context, head ledger.Campaign) Campaign {
	campaign := headOf(head)
	if campaign.State != CampaignRunning && campaign.State != CampaignScheduled {
		return campaign
	}
	if !o.read {
		var outlook forecast.Outlook
		outlook, o.err = forecast.Read(ctx, o.client.rdb, o.client.namespace)
		o.forecasts, o.read = outlook.Foresee(), true
	}
	switch f, known := o.forecasts[campaign.Name]; {
	case o.err != nil:
		campaign.Assumption = "no ETA: " + o.err.Error()
	case known:
		campaign.ETA, campaign.Assumption = f.ETA, f.Assumption
		campaign.Standstill, campaign.Unsure = f.Standstill, f.Unsure
	default: // it changed its state just now, or there are too many
		campaign.Assumption = "no ETA: its state changed just now, or too many campaigns run"
	}
	return campaign
}

func headOf(head ledger.Campaign) Campaign {
	c := Campaign{
		Name: head.Name, State: CampaignState(head.State),
		Recipients: head.Recipients, Sent: head.Sent, Dead: head.Dead, Skipped: head.Skipped,
		Remaining: head.Remaining(),
		Forgotten: head.Forgotten, DeadByCode: head.DeadByCode,
		ScheduledAt: head.ScheduledAt, StartedAt: head.StartedAt, FinishedAt: head.FinishedAt,
	}
	switch c.State {
	case CampaignPaused:
		c.Assumption = "no ETA: it is paused"
		c.Standstill = &Standstill{Reason: forecast.Paused, Message: "it is paused"}
	case CampaignUploading:
		c.Assumption = "no ETA: recipients are being added"
		c.Standstill = &Standstill{Reason: forecast.Uploading, Message: "recipients are being added"}
	}
	return c
}
