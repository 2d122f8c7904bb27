package ratelimit

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// History is how calls of one limit have gone. All instants are on Redis's clock.
type History struct {
	Succeeded time.Time // when a call last succeeded; zero: none is known of
	Outages   []Outage  // the latest first, at most nine
}

// Outage is a time in which nobody was served: from when the first call began that failed in it, until one succeeded.
type Outage struct {
	From, To time.Time // To is zero while it lasts
}

// SucceededAfter tells whether a call has succeeded after an instant.
func (h History) SucceededAfter(at time.Time) bool { return h.Succeeded.After(at) }

// DownAt tells whether an instant is in an outage.
func (h History) DownAt(at time.Time) bool {
	for _, o := range h.Outages {
		if !at.Before(o.From) && (o.To.IsZero() || !at.After(o.To)) {
			return true
		}
	}
	return false
}

// History reads how calls of a limit have gone, or gives [ErrUnavailable].
func (l *Limiter) History(ctx context.Context, limit string) (h History, err error) {
	values, err := l.rdb.HMGet(ctx, stateKey(l.prefix, limit), "succeeded", "out", "outages").Result()
	if err != nil {
		return h, cmp.Or(ctx.Err(), unavailable("reading the history of "+limit, err))
	}
	text := make([]string, len(values))
	for i, value := range values {
		text[i], _ = value.(string)
	}
	h.Succeeded, err = readInstant(text[0])
	outages := strings.FieldsFunc(text[2], func(r rune) bool { return r == ',' })
	if text[1] != "" {
		outages = append([]string{text[1] + "-"}, outages...)
	}
	for _, outage := range outages {
		from, to, _ := strings.Cut(outage, "-")
		o, err1, err2 := Outage{}, error(nil), error(nil)
		o.From, err1 = readInstant(from)
		o.To, err2 = readInstant(to)
		err = cmp.Or(err, err1, err2)
		h.Outages = append(h.Outages, o)
	}
	if err != nil {
		return History{}, unavailable("reading the history of "+limit, err)
	}
	return h, nil
}

// readInstant reads microseconds since 1970. Nothing is the zero time.
func readInstant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("garbage: %.20q is no instant", text)
	}
	return time.UnixMicro(micros), nil
}
