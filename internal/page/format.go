package page

import (
	"cmp"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"example.com/usher/internal/address"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/forecast"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/visible"
	"example.com/usher/tasks"
)

// functions are what templates write values with. Templates escape what they write; nothing here gives markup.
func functions() template.FuncMap {
	return template.FuncMap{
		"count": count, "plural": settings.Plural, "instant": instant, "clock": clock, "iso": iso, "span": span,
		"percent": percent, "plain": visible.Text, "brief": brief, "exact": exact, "advice": desk.Advice,
		"failure":    fate.Failure.Words,
		"standstill": standstill, "quiet": quiet, "sentence": sentence, "happened": happened, "taskOf": taskOf,
	}
}

// brief writes a text of others in which nothing hides, and cuts it where it would take more bytes of the page: a page
// stays small, whatever stands in it.
func brief(most int, text string) string {
	text = visible.Text(text)
	takes := 0
	for i, r := range text {
		if takes += escapedBytes(r); takes > most {
			return text[:i] + "…"
		}
	}
	return text
}

// escapedBytes is how many bytes a template writes for a rune.
func escapedBytes(r rune) int {
	if strings.ContainsRune("\"'&<>+", r) {
		return len("&amp;")
	}
	return utf8.RuneLen(r)
}

// count writes a number with a comma at its thousands, as help and documents do.
func count(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// instant writes a time.
func instant(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// clock writes a time as short as can be: without the day if it is today.
func clock(t time.Time) string {
	t = t.UTC()
	if t.Format(time.DateOnly) == time.Now().UTC().Format(time.DateOnly) {
		return t.Format("15:04:05") + " UTC"
	}
	return instant(t)
}

// iso writes a time for programs.
func iso(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// exact writes a time as a form gives it back.
func exact(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// span writes how far from now a time is.
func span(t time.Time) string {
	return settings.FormatDuration(time.Until(t).Abs().Truncate(time.Second))
}

// percent is a part of a whole, between 0 and 100.
func percent(part, whole int) int {
	if whole <= 0 {
		return 0
	}
	return min(100, max(0, part*100/whole))
}

// quiet tells whether a standstill is nothing to worry about: a window is closed, or a person wanted it.
func quiet(s *tasks.Standstill) bool { return s.Usual() || s.Reason == forecast.Paused }

// standstill says why something stands still.
func standstill(s *tasks.Standstill) string { return s.Words(clock) }

// happened says in words what an event of a story is. What is not named here is a word already.
func happened(e desk.Event) string {
	words := map[string]string{
		"attempt": "attempt failed", "campaign": "is a recipient", "waiting": "waits", "open": "call is under way",
		"doubt": "outcome of a call is not known", "dead-letter": "became a dead letter",
		"deleted": "dead letter was deleted", "invitation": "made at Clerk, not by Usher as far as is known:",
	}
	return cmp.Or(words[e.What], e.What)
}

// taskOf says in words what kind of task an event is about.
func taskOf(e desk.Event) string {
	return map[string]string{
		"": "task", tasks.TypeRevoke: "revocation task", tasks.TypeDelete: "deletion task",
	}[e.Type]
}

// address is an address as the person may see it.
func (v *visit) address(text string) string {
	if v.operates() {
		return text
	}
	return address.Redact(text)
}
