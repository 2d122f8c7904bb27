package handle

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/internal/address"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// logEnd writes the one line of a task that has ended.
func (h *Handler) logEnd(r *run) {
	outcome, cause, level := string(r.record.State), r.record.Error, zerolog.InfoLevel
	if cause != nil {
		level = zerolog.WarnLevel
	}
	if r.story != nil && cause == nil {
		r.story()
		level = zerolog.DebugLevel
	}
	h.observer.TaskEnded(r.kind, outcome, r.record.Attempts)
	line := r.log.WithLevel(level).Str("outcome", outcome).Int("attempts", r.record.Attempts).
		Float64("duration_seconds", time.Since(r.began).Seconds()).Float64("wait_seconds", r.waitedInAll.Seconds())
	if r.about.EmailAddress != "" {
		line = line.Str("address", address.Redact(r.about.EmailAddress))
	}
	if r.record.InvitationID != "" {
		line = line.Str("invitation_id", r.record.InvitationID)
	}
	for _, name := range slices.Sorted(maps.Keys(r.detail)) {
		line = line.Int(name, r.detail[name])
	}
	if cause != nil {
		line = withFailure(line, *cause)
		h.observer.DeadLetterWritten(*cause)
	}
	if r.record.Skipped != nil {
		line = line.Bool("skipped", true).Str("code", r.record.Skipped.Code)
	}
	if r.kind == tasks.TypeInvite {
		h.recipientEnded(r.kind, endOf(r.record), cmp.Or(cause, r.record.Skipped), r.record.Attempts)
	}
	line.Msg("task ended")
}

// endOf is how the recipient of an invite has ended.
func endOf(r record.Record) fate.Step {
	switch {
	case r.State == record.Dead:
		return fate.Dead
	case r.State == record.Cancelled:
		return fate.Cancelled
	case r.Skipped != nil:
		return fate.Skipped
	}
	return fate.Sent
}

// recipientEnded tells the observer of a recipient that has its outcome. The cause is that of one who is not sent.
func (h *Handler) recipientEnded(kind string, end fate.Step, cause *fate.Failure, attempts int) {
	code := ""
	if cause != nil {
		code = cause.Code
	}
	h.observer.RecipientEnded(kind, end, code, attempts)
}

// logDead writes the line of a recipient of a campaign that became a dead letter, at level debug if there are many.
func (h *Handler) logDead(e deadletter.Entry, few bool) {
	level := zerolog.DebugLevel
	if few {
		level = zerolog.WarnLevel
	}
	h.observer.DeadLetterWritten(e.Failure)
	line := h.log.WithLevel(level).Str("id", e.TaskID).Str("campaign", e.Campaign).
		Str("address", address.Redact(e.EmailAddress)).Int("attempts", e.Attempts)
	withFailure(line, e.Failure).Msg("recipient is dead")
}

func withFailure(line *zerolog.Event, f fate.Failure) *zerolog.Event {
	return line.Str("reason", string(f.Reason)).Int("status", f.HTTPStatus).Str("code", f.Code).
		Str("trace_id", f.TraceID)
}
