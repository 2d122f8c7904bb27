package handle

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
)

// redact leaves the first letter of an address and its domain.
func redact(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 1 {
		return ""
	}
	first := []rune(address)[0]
	return string(first) + "***" + address[at:]
}

// logEnd writes the one line of a task that has ended.
func (h *Handler) logEnd(r *run) {
	outcome, cause, level := string(r.record.State), r.record.Error, zerolog.InfoLevel
	if cause != nil {
		level = zerolog.WarnLevel
	}
	h.observer.TaskEnded(r.kind, outcome)
	line := r.log.WithLevel(level).Str("outcome", outcome).Int("attempts", r.record.Attempts).
		Float64("duration_seconds", time.Since(r.started).Seconds()).Float64("wait_seconds", r.waited.Seconds())
	if r.about.EmailAddress != "" {
		line = line.Str("address", redact(r.about.EmailAddress))
	}
	if r.record.InvitationID != "" {
		line = line.Str("invitation_id", r.record.InvitationID)
	}
	for _, name := range slices.Sorted(maps.Keys(r.detail)) {
		line = line.Int(name, r.detail[name])
	}
	if cause != nil {
		line = withFailure(line, *cause)
		h.observer.DeadLetterWritten(cause.Reason)
	}
	line.Msg("task ended")
}

// logDead writes the line of a recipient of a campaign that became a dead letter.
func (h *Handler) logDead(e deadletter.Entry) {
	h.observer.DeadLetterWritten(e.Failure.Reason)
	line := h.log.Warn().Str("id", e.TaskID).Str("campaign", e.Campaign).Str("address", redact(e.EmailAddress)).
		Int("attempts", e.Attempts)
	withFailure(line, e.Failure).Msg("recipient is dead")
}

func withFailure(line *zerolog.Event, f fate.Failure) *zerolog.Event {
	return line.Str("reason", string(f.Reason)).Int("status", f.HTTPStatus).Str("code", f.Code).
		Str("trace_id", f.TraceID)
}
