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
func (h *Handler) logEnd(r *run, end ending) {
	outcome, level := "done", zerolog.InfoLevel
	switch {
	case end.dead != nil:
		outcome, level = "dead", zerolog.WarnLevel
	case end.cancelled:
		outcome = "cancelled"
	}
	h.observer.TaskEnded(r.kind, outcome)
	line := h.log.WithLevel(level).Str("id", r.id).Str("type", r.kind).Str("outcome", outcome).
		Int("attempts", r.record.Attempts).Float64("duration_seconds", time.Since(r.started).Seconds()).
		Float64("wait_seconds", r.waited.Seconds())
	if r.about.EmailAddress != "" {
		line = line.Str("address", redact(r.about.EmailAddress))
	}
	if end.invitationID != "" {
		line = line.Str("invitation_id", end.invitationID)
	}
	for _, name := range slices.Sorted(maps.Keys(end.detail)) {
		line = line.Int(name, end.detail[name])
	}
	if end.dead != nil {
		line = withFailure(line, *end.dead)
		h.observer.DeadLetterWritten(end.dead.Reason)
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
