package fate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxHistory bounds the attempts that are kept of one task or recipient: the latest ones.
const maxHistory = 30

// Reason says why something became a dead letter.
type Reason string

// The reasons of dead letters.
const (
	ReasonRejected  Reason = "rejected"  // Clerk refused it
	ReasonExhausted Reason = "exhausted" // it failed too often
	ReasonInvalid   Reason = "invalid"   // its payload cannot be read
)

// Failure is the cause of an attempt that failed, without addresses or secrets.
type Failure struct {
	Reason     Reason `json:"reason,omitempty"`
	HTTPStatus int    `json:"http_status,omitempty"`
	Code       string `json:"code,omitempty"`
	Message    string `json:"message,omitempty"`
	TraceID    string `json:"trace_id,omitempty"`
	// FoundBeforeSending means that a look-up found what Clerk would have answered; no call was made.
	FoundBeforeSending bool `json:"found_before_sending,omitempty"`
}

// Words say what was answered, in as much as is known: "422 form_param_invalid: It is no address."
func (f Failure) Words() string {
	status := ""
	if f.HTTPStatus != 0 {
		status = fmt.Sprint(f.HTTPStatus)
	}
	isEmpty := func(part string) bool { return part == "" }
	answer := strings.Join(slices.DeleteFunc([]string{status, f.Code}, isEmpty), " ")
	return strings.Join(slices.DeleteFunc([]string{answer, f.Message}, isEmpty), ": ")
}

// Attempt is one failed try in the history of a task or recipient.
type Attempt struct {
	At time.Time `json:"at"`
	Failure
	// Excused means that it does not count: nobody was served at that time.
	Excused bool `json:"excused,omitempty"`
}

// Remember appends an attempt to a history and keeps the latest ones.
func Remember(history []Attempt, at time.Time, failure Failure) []Attempt {
	history = append(history, Attempt{At: at.UTC(), Failure: failure})
	return history[max(0, len(history)-maxHistory):]
}
