package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/tokens"
)

// DeadLetter is a recipient or a task that is not tried again unless somebody says so.
type DeadLetter struct {
	ID           string     `json:"id"`
	TaskID       string     `json:"task_id"`
	Type         string     `json:"type"`
	Campaign     *string    `json:"campaign"`
	Reason       string     `json:"reason" enum:"rejected,exhausted,invalid"`
	EmailAddress *string    `json:"email_address"`
	InvitationID *string    `json:"invitation_id"`
	Code         *string    `json:"code"`
	HTTPStatus   *int       `json:"http_status"`
	Message      *string    `json:"message"`
	TraceID      *string    `json:"trace_id"`
	Attempts     int        `json:"attempts"`
	FailedAt     *time.Time `json:"failed_at"`
	Retrying     bool       `json:"retrying"`
}

func (a *asker) letter(e deadletter.Entry) DeadLetter {
	f := e.Failure
	return DeadLetter{
		ID: e.ID, TaskID: e.TaskID, Type: e.Type, Campaign: known(e.Campaign), Reason: string(f.Reason),
		EmailAddress: known(a.address(e.EmailAddress)), InvitationID: known(e.InvitationID), Code: known(f.Code),
		HTTPStatus: known(f.HTTPStatus), Message: known(a.text(f.Message)), TraceID: known(f.TraceID),
		Attempts: e.Attempts, FailedAt: instant(e.FailedAt), Retrying: e.Next != "",
	}
}

// DeadLetters is a page of dead letters, the oldest first.
type DeadLetters struct {
	DeadLetters []DeadLetter `json:"dead_letters" nullable:"false"`
	NextCursor  *string      `json:"next_cursor"`
	Unreadable
}

type lettersInput struct {
	Paging
	Code     string `query:"code" maxLength:"200"`
	Campaign string `query:"campaign" pattern:"^[A-Za-z0-9._-]{1,64}$"`
	Reason   string `query:"reason" enum:"rejected,exhausted,invalid"`
}

type lettersOutput struct{ Body DeadLetters }

// LetterPath is the id of a dead letter in a path.
type LetterPath struct {
	ID string `path:"id" maxLength:"400"`
}

// Retry says how a dead letter is sent again.
type Retry struct {
	Set map[string]any `json:"set,omitempty" doc:"Fields of the invitation that are changed, such as email_address."`
}

// Retried is a dead letter that was sent again.
type Retried struct {
	ID     string `json:"id"`
	TaskID string `json:"task_id" doc:"The task that carries it."`
}

type retryInput struct {
	Keyed
	LetterPath
	Body *Retry
}

type retryOutput struct {
	Location string `header:"Location"`
	Replayed string `header:"Idempotency-Replayed"`
	Body     Retried
}

// letters adds the operations about dead letters.
func (s *Server) letters() {
	register(s, huma.Operation{
		OperationID: "dead-letters", Method: http.MethodGet, Path: "/v1/dead-letters", Tags: []string{"read"},
		Summary: "List dead letters, the oldest first",
		Description: fmt.Sprintf("An answer looks at %d dead letters at most. So it may have fewer than limit, or none, "+
			"and a next_cursor.", deadletter.Looks),
	}, []tokens.Scope{tokens.Read}, listLetters)
	register(s, huma.Operation{
		OperationID: "retry", Method: http.MethodPost, Path: "/v1/dead-letters/{id}/retry", Tags: []string{"operate"},
		Summary: "Send a dead letter again, as it is or mended", DefaultStatus: http.StatusAccepted,
	}, []tokens.Scope{tokens.Operate}, func(ctx context.Context, a *asker, in *retryInput) (*retryOutput, error) {
		told := func(task string) *retryOutput {
			return &retryOutput{Location: taskPath(task), Body: Retried{ID: in.ID, TaskID: task}}
		}
		out, replayed, err := act(ctx, s, a, in.Body, func() (*retryOutput, string, error) {
			task, err := a.retry(ctx, in)
			return told(task), task, err
		}, func(task string) (*retryOutput, error) { return told(task), nil })
		if replayed && err == nil {
			out.Replayed = "true"
		}
		return out, err
	})
	type deleteInput struct{ LetterPath }
	register(s, huma.Operation{
		OperationID: "delete-dead-letter", Method: http.MethodDelete, Path: "/v1/dead-letters/{id}",
		Tags: []string{"operate"}, Summary: "Delete a dead letter for good", DefaultStatus: http.StatusNoContent,
	}, []tokens.Scope{tokens.Operate}, func(ctx context.Context, a *asker, in *deleteInput) (*struct{}, error) {
		deleted, err := a.desk.Retrier.Delete(ctx, in.ID)
		if err == nil && !deleted {
			err = deadletter.ErrNotFound
		}
		return nil, err
	})
}

func listLetters(ctx context.Context, a *asker, in *lettersInput) (*lettersOutput, error) {
	parts, err := in.after(3)
	if err != nil {
		return nil, err
	}
	var from deadletter.Cursor
	if parts != nil {
		from.Seal, from.ID = parts[1], parts[2]
		if from.At, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
			return nil, errCursor()
		}
	}
	filter := deadletter.Filter{Code: in.Code, Campaign: in.Campaign, Reason: in.Reason}
	page, err := a.desk.DeadLetters.Oldest(ctx, filter, from, in.Limit+1) // one more, to know whether there are more
	if errors.Is(err, deadletter.ErrCursor) {
		return nil, errCursor()
	}
	left, err := readable(err)
	if err == nil && len(page.Letters) > in.Limit {
		page.Letters = page.Letters[:in.Limit]
		page.Next, err = a.desk.DeadLetters.CursorOf(ctx, page.Letters[in.Limit-1])
	}
	if err != nil {
		return nil, err
	}
	out := &lettersOutput{Body: DeadLetters{DeadLetters: each(page.Letters, a.letter), Unreadable: left}}
	if next := page.Next; next != (deadletter.Cursor{}) {
		out.Body.NextCursor = cursor(strconv.FormatInt(next.At, 10), next.Seal, next.ID)
	}
	return out, nil
}

// retry sends a dead letter again, with the fields that are set, and gives the task that carries it.
func (a *asker) retry(ctx context.Context, in *retryInput) (string, error) {
	letter, err := a.desk.DeadLetters.Get(ctx, in.ID)
	if err != nil {
		return "", err
	}
	plan := desk.MendPlan{Retry: []desk.Mend{{Letter: letter}}}
	if in.Body != nil && len(in.Body.Set) > 0 {
		change, err := correction(in.Body.Set)
		if err != nil {
			return "", err
		}
		if plan, err = a.desk.PlanChange(ctx, []deadletter.Entry{letter}, change); err != nil {
			return "", err
		}
	}
	var faults []Fault
	for _, f := range plan.Faults {
		fault := Fault{Pointer: "/set", Field: "set", Reason: settings.FlagsAsKeys(f.Reason)}
		if f.Field != "" {
			fault = Fault{Pointer: "/set/" + f.Field, Field: f.Field, Reason: fault.Reason}
		}
		faults = append(faults, fault)
	}
	if len(faults) > 0 {
		return "", faulty(invalid, "the dead letter cannot be sent so; nothing was done", faults)
	}
	done, err := a.desk.CarryOut(ctx, plan, func(desk.Retried) {})
	switch {
	case err != nil:
		return "", err
	case len(done) == 0: // somebody else has retried it meanwhile
		return "", deadletter.ErrNotFound
	}
	return done[0].TaskID, nil
}

// correction gives the fields to set as the command takes them.
func correction(set map[string]any) (c peoplefile.Correction, err error) {
	var texts []string
	for field, value := range set {
		text, isText := value.(string)
		if !isText && value != nil {
			data, err := json.Marshal(value)
			if err != nil {
				return c, err
			}
			text = string(data)
		}
		texts = append(texts, field+"="+text)
	}
	slices.Sort(texts)
	if c, err = peoplefile.ParseCorrection(texts); err != nil {
		err = faulty(invalid, "the dead letter cannot be sent so; nothing was done",
			[]Fault{{Pointer: "/set", Field: "set", Reason: settings.FlagsAsKeys(err.Error())}})
	}
	return c, err
}
