package tasks

import (
	"errors"
	"time"

	"example.com/usher/internal/store/ledger"
)

// State is where a task stands.
type State string

// The states of a task. Of a bulk-invite task it is its campaign's.
const (
	StateScheduled State = "scheduled" // its time has not come
	StatePending   State = "pending"
	StateActive    State = "active"
	StateRetry     State = "retry"     // an attempt failed and the next one waits for its time
	StateDone      State = "done"      // a bulk: every recipient has its outcome; some may be dead letters
	StateDead      State = "dead"      // it is a dead letter
	StateCancelled State = "cancelled" // a person stopped it
)

// Ended tells whether a task in this state will not run again by itself.
func (s State) Ended() bool { return s == StateDone || s == StateDead || s == StateCancelled }

// Failure is why a task is dead, or why its latest attempt failed.
type Failure struct {
	// Reason of a dead one: "rejected", "exhausted", "invalid" or, without a dead letter, ReasonArchived.
	Reason     string `json:"reason,omitempty"`
	HTTPStatus int    `json:"http_status,omitempty"`
	Code       string `json:"code,omitempty"`
	Message    string `json:"message,omitempty"`
	TraceID    string `json:"trace_id,omitempty"`
}

// Task is what is known of a task.
type Task struct {
	ID    string `json:"task_id"`
	Type  string `json:"type"`
	Queue string `json:"queue"`
	State State  `json:"state"`
	// EnqueuedAt is zero if it is not known: of a task that another program has enqueued.
	EnqueuedAt time.Time `json:"enqueued_at"`
	// ScheduledAt is when it runs, or runs again, or was to run before it was cancelled; zero for a task that may run
	// at once.
	ScheduledAt time.Time `json:"scheduled_at"`
	// CancelWanted is that a person has cancelled it, and that it ends as cancelled as soon as the outcome of its last
	// call is known, unless that call has invited.
	CancelWanted bool `json:"cancel_wanted"`
	// CancelledBy is who has cancelled it, if that is known.
	CancelledBy string `json:"cancelled_by"`
	// RetriedAs is the task that retries its dead letter, the last one; empty if none does.
	RetriedAs string `json:"retried_as"`
	// Attempts counts the calls to Clerk that were made for it and answered or lost; waiting for a permit is none.
	Attempts     int      `json:"attempts"`
	InvitationID string   `json:"invitation_id"`
	Error        *Failure `json:"error"`
	// Skipped is why an invite is done without an invitation: its address belongs to a user, and it was to be skipped
	// then. It is nil for any other task.
	Skipped *Failure `json:"skipped,omitempty"`
	// Revoked is how many invitations a revoke task has revoked so far; those that were revoked before it are not
	// counted.
	Revoked int `json:"revoked"`
	// Deleted is how many invitations a delete task has deleted so far.
	Deleted int `json:"deleted"`
	// Bulk is set for bulk-invite tasks.
	Bulk *Bulk `json:"bulk,omitempty"`

	unqueued bool // it has not ended, and no queue has it
}

// Bulk is what is known of a bulk-invite task: its campaign, and the counts of its recipients. Recipients = Sent + Dead
// + Skipped + Remaining.
type Bulk struct {
	Campaign   string `json:"campaign"`
	Recipients int    `json:"recipients"`
	Sent       int    `json:"sent"`
	Dead       int    `json:"dead"`
	Skipped    int    `json:"skipped"`
	Remaining  int    `json:"remaining"`
	// Added, Known, Duplicates and Forgotten are set by BulkInvite: recipients new to the campaign, those it had
	// already, and those that stood in the list more than once. Forgotten are left out: their addresses were
	// forgotten on request.
	Added      int `json:"added"`
	Known      int `json:"known"`
	Duplicates int `json:"duplicates"`
	Forgotten  int `json:"forgotten"`
}

var (
	// ErrExists means that a task with this id and payload was enqueued before. The Task that comes with it is that
	// one or, if it died and was retried, its last retry. Look at its state: one that is StateDead has not done what
	// was asked, and does not until somebody retries its dead letter. Once the dead letter was deleted the id is free.
	ErrExists = errors.New("a task with this id exists already")
	// ErrConflict means that the id belongs to a task with another payload. That task comes with it, if it is known.
	ErrConflict = errors.New("the id belongs to a task with another payload")
	// ErrForgotten means that the address was forgotten on request, and is not written down again until that is
	// lifted.
	ErrForgotten = errors.New("the address was forgotten on request (enqueue forget --lift ends that)")
	// ErrUnsure means that it is not known whether a BulkInvite worked. The same one may be made again: it adds
	// nothing twice.
	ErrUnsure = ledger.ErrUnsure
	// ErrHeld means that a campaign was paused while a BulkInvite added recipients to it. Those that are missing are
	// added when it is resumed.
	ErrHeld = ledger.ErrHeld
	// ErrNotFound means that no task with this id is known, because there was none or its end was long ago, or no
	// campaign of this name.
	ErrNotFound = errors.New("no such task or campaign")
)
