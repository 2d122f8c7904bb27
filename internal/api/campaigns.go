package api

import (
	"context"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/store"
	"example.com/usher/internal/tokens"
	"example.com/usher/tasks"
)

// Paging is what lists take.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many rows to answer at most."`
	Cursor string `query:"cursor" maxLength:"400" doc:"next_cursor of the answer before."`
}

// after reads the parts of the cursor; none at the beginning.
func (p Paging) after(parts int) ([]string, error) {
	if p.Cursor == "" {
		return nil, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	found := strings.Split(string(data), "|")
	if err != nil || len(found) != parts {
		return nil, errCursor()
	}
	return found, nil
}

// errCursor refuses a cursor that no answer has given.
func errCursor() error {
	return &tasks.InvalidError{Index: -1, Field: "cursor", Reason: "is not the next_cursor of an answer"}
}

// cursor makes a cursor of parts.
func cursor(parts ...string) *string {
	text := base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "|")))
	return &text
}

// errEnough ends the reading of a list.
var errEnough = errors.New("the page is full")

// ended tells apart that a page is full, and that some entries cannot be read, from an error.
func ended(err error) (more bool, left Unreadable, _ error) {
	left, err = readable(err)
	if errors.Is(err, errEnough) {
		return true, left, nil
	}
	return false, left, err
}

// Unreadable is what an answer leaves out.
type Unreadable struct {
	Unreadable []string `json:"unreadable,omitempty" doc:"What is left out because it cannot be read, and why."`
}

// readable tells what cannot be read apart from an error.
func readable(err error) (left Unreadable, _ error) {
	partial, err := store.SplitPartial(err)
	if partial != nil {
		left.Unreadable = strings.Split(redactIn(partial.Error()), "\n")
	}
	return left, err
}

// Campaigns is a page of campaigns, the newest first.
type Campaigns struct {
	Campaigns  []Campaign `json:"campaigns" nullable:"false"`
	NextCursor *string    `json:"next_cursor"`
	Unreadable
}

// Recipients is a page of recipients, in the order of the list.
type Recipients struct {
	Recipients []Recipient `json:"recipients" nullable:"false"`
	NextCursor *string     `json:"next_cursor"`
}

// Recipient is what became of a recipient of a campaign.
type Recipient struct {
	EmailAddress     string     `json:"email_address"`
	Outcome          string     `json:"outcome" enum:"waiting,open,sent,dead,skipped,cancelled"`
	InvitationID     *string    `json:"invitation_id"`
	SettledAt        *time.Time `json:"settled_at"`
	Cause            *string    `json:"cause"`
	Message          *string    `json:"message"`
	Attempts         int        `json:"attempts"`
	InvitationStatus *string    `json:"invitation_status"`
	SyncedAt         *time.Time `json:"synced_at"`
	MendedFrom       *string    `json:"mended_from"`
}

func (a *asker) recipient(r desk.Recipient) Recipient {
	return Recipient{
		EmailAddress: a.address(r.EmailAddress), Outcome: r.Outcome, InvitationID: known(r.InvitationID),
		SettledAt: instant(r.SettledAt), Cause: known(r.Cause), Message: known(a.text(r.Message)), Attempts: r.Attempts,
		InvitationStatus: known(r.InvitationStatus), SyncedAt: instant(r.SyncedAt),
		MendedFrom: known(a.address(r.MendedFrom)),
	}
}

type campaignsInput struct {
	Paging
	State string `query:"state" enum:"uploading,scheduled,running,paused,cancelled,finished"`
}

type campaignsOutput struct{ Body Campaigns }

type campaignOutput struct {
	Replayed string `header:"Idempotency-Replayed"`
	Body     Campaign
}

type recipientsInput struct {
	CampaignPath
	Paging
	Outcome string `query:"outcome" enum:"waiting,open,sent,dead,skipped,cancelled"`
}

type recipientsOutput struct{ Body Recipients }

// campaigns adds the operations about campaigns.
func (s *Server) campaigns() {
	s.addUploads()
	reads, operates := []tokens.Scope{tokens.Read}, []tokens.Scope{tokens.Operate}
	register(s, huma.Operation{
		OperationID: "campaigns", Method: http.MethodGet, Path: "/v1/campaigns", Tags: []string{"read"},
		Summary: "List campaigns, the newest first",
	}, reads, listCampaigns)
	register(s, huma.Operation{
		OperationID: "campaign", Method: http.MethodGet, Path: "/v1/campaigns/{name}", Tags: []string{"read"},
		Summary: "Show one campaign",
	}, reads, func(ctx context.Context, a *asker, in *CampaignPath) (*campaignOutput, error) {
		c, err := a.desk.Campaign(ctx, in.Name)
		return &campaignOutput{Body: campaignView(c)}, err
	})
	register(s, huma.Operation{
		OperationID: "recipients", Method: http.MethodGet, Path: "/v1/campaigns/{name}/recipients", Tags: []string{"read"},
		Summary: "List the recipients of a campaign, and what became of them",
	}, reads, listRecipients)
	register(s, huma.Operation{
		OperationID: "export", Method: http.MethodGet, Path: "/v1/campaigns/{name}/export", Tags: []string{"operate"},
		Summary: "Write what became of each recipient, as CSV",
		Responses: map[string]*huma.Response{"200": {
			Description: "One row for each recipient. A CSV that lacks its last line broke off.",
			Content:     map[string]*huma.MediaType{typeCSV: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, operates, export)
	for verb, change := range map[string]func(*asker) func(context.Context, string) (tasks.Campaign, error){
		"pause":  func(a *asker) func(context.Context, string) (tasks.Campaign, error) { return a.desk.Pause },
		"resume": func(a *asker) func(context.Context, string) (tasks.Campaign, error) { return a.desk.Resume },
		"cancel": func(a *asker) func(context.Context, string) (tasks.Campaign, error) { return a.desk.Cancel },
	} {
		s.campaignVerb(verb, change)
	}
}

// campaignVerb adds an operation that changes a campaign.
func (s *Server) campaignVerb(verb string, change func(*asker) func(context.Context, string) (tasks.Campaign, error)) {
	type input struct {
		Keyed
		CampaignPath
	}
	register(s, huma.Operation{
		OperationID: verb + "-campaign", Method: http.MethodPost, Path: "/v1/campaigns/{name}/" + verb,
		Tags: []string{"operate"}, Summary: strings.ToUpper(verb[:1]) + verb[1:] + " a campaign",
	}, []tokens.Scope{tokens.Operate}, func(ctx context.Context, a *asker, in *input) (*campaignOutput, error) {
		show := func(c tasks.Campaign, err error) (*campaignOutput, error) {
			return &campaignOutput{Body: campaignView(c)}, err
		}
		out, replayed, err := act(ctx, s, a, nil, func() (*campaignOutput, string, error) {
			out, err := show(change(a)(ctx, in.Name))
			return out, "", err
		}, func(string) (*campaignOutput, error) { return show(a.desk.Campaign(ctx, in.Name)) })
		if replayed && err == nil {
			out.Replayed = "true"
		}
		return out, err
	})
}

func listCampaigns(ctx context.Context, a *asker, in *campaignsInput) (*campaignsOutput, error) {
	after, err := in.after(1)
	if err != nil {
		return nil, err
	}
	out := &campaignsOutput{Body: Campaigns{Campaigns: []Campaign{}}}
	last := ""
	if after != nil {
		last = after[0]
	}
	more, left, err := ended(a.desk.EachCampaignAfter(ctx, last, func(c tasks.Campaign) error {
		switch {
		case in.State != "" && string(c.State) != in.State:
		case len(out.Body.Campaigns) == in.Limit:
			return errEnough
		default:
			out.Body.Campaigns = append(out.Body.Campaigns, campaignView(c))
		}
		return nil
	}))
	if errors.Is(err, tasks.ErrNotFound) {
		return nil, &tasks.InvalidError{Index: -1, Field: "cursor", Reason: "is at a campaign that is gone: begin again"}
	}
	out.Body.Unreadable = left
	if more {
		out.Body.NextCursor = cursor(out.Body.Campaigns[in.Limit-1].Campaign)
	}
	return out, err
}

func listRecipients(ctx context.Context, a *asker, in *recipientsInput) (*recipientsOutput, error) {
	parts, err := in.after(1)
	if err != nil {
		return nil, err
	}
	after := -1
	if parts != nil {
		if after, err = strconv.Atoi(parts[0]); err != nil {
			return nil, errCursor()
		}
	}
	page, next, err := a.desk.RecipientsAfter(ctx, in.Name, in.Outcome, after, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &recipientsOutput{Body: Recipients{Recipients: []Recipient{}}}
	for _, r := range page {
		out.Body.Recipients = append(out.Body.Recipients, a.recipient(r))
	}
	if next >= 0 {
		out.Body.NextCursor = cursor(strconv.Itoa(next))
	}
	return out, nil
}

type exportOutput struct{ Body func(huma.Context) }

// exportTime is how long a client may take for the next piece of an export.
const exportTime = 30 * time.Second

// export writes the recipients of a campaign as enqueue campaign export does.
func export(ctx context.Context, a *asker, in *CampaignPath) (*exportOutput, error) {
	each, err := a.desk.Recipients(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &exportOutput{func(ctx huma.Context) {
		_, w := humago.Unwrap(ctx)
		ctx.SetHeader("Content-Type", "text/csv; charset=utf-8")
		ctx.SetHeader("Content-Disposition", `attachment; filename="`+in.Name+`.csv"`)
		control, out, rows := http.NewResponseController(w), csv.NewWriter(w), 0
		_ = control.SetWriteDeadline(time.Now().Add(exportTime))
		_ = out.Write(desk.RecipientColumns())
		err := each(func(r desk.Recipient) error {
			if rows++; rows%500 == 0 {
				_ = control.SetWriteDeadline(time.Now().Add(exportTime))
			}
			return out.Write(r.Cells())
		})
		out.Flush()
		if err = errors.Join(err, out.Error()); err != nil {
			panic(http.ErrAbortHandler) // so that the client sees that it is not whole
		}
	}}, nil
}
