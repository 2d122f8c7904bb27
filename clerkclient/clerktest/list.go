package clerktest

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

var statuses = []string{"pending", "accepted", "revoked", "expired"}

// listQuery is what GET /invitations asks for.
type listQuery struct {
	statuses   []string // empty: all but revoked
	text       string   // lower-cased substring of an address or id
	property   string
	descending bool
	paginated  bool
	limit      int
	offset     int
}

func (c *call) listWork() work {
	q := query{values: c.r.URL.Query()}
	l := listQuery{
		limit: q.number("limit", 10, 1, 500), offset: q.number("offset", 0, 0, math.MaxInt),
		paginated: q.flag("paginated"), text: strings.ToLower(q.values.Get("query")),
	}
	l.property, l.descending = q.order("created_at", "email_address", "expires_at")
	l.statuses = q.values["status"]
	if !c.cfg.StatusRepeatable && len(l.statuses) > 1 {
		l.statuses = l.statuses[:1]
	}
	for _, status := range l.statuses {
		if !slices.Contains(statuses, status) {
			q.errs = append(q.errs, paramValue("status", quoted(statuses)))
		}
	}
	if refusal := q.refusal(); refusal != nil {
		return constant(refusal)
	}
	return func(now time.Time) *answer { return c.s.list(now, l) }
}

// page is the paginated form of a list. (Observed)
type page struct {
	Data       []Invitation `json:"data"`
	TotalCount int          `json:"total_count"`
}

func (s *Sandbox) list(now time.Time, l listQuery) *answer {
	found := make([]*invitation, 0, len(s.invitations))
	for _, v := range s.invitations {
		if l.matches(v, now) {
			found = append(found, v)
		}
	}
	switch l.property { // they are kept in the order of creation
	case "email_address":
		slices.SortStableFunc(found, func(a, b *invitation) int { return strings.Compare(a.folded, b.folded) })
	case "expires_at":
		slices.SortStableFunc(found, func(a, b *invitation) int { return cmp.Compare(a.ExpiresAt, b.ExpiresAt) })
	}
	if l.descending {
		slices.Reverse(found)
	}
	p := page{Data: []Invitation{}, TotalCount: len(found)}
	start := min(l.offset, len(found))
	for _, v := range found[start:min(start+l.limit, len(found))] {
		p.Data = append(p.Data, v.view(now))
	}
	if l.paginated {
		return ok(p)
	}
	return ok(p.Data)
}

func (l *listQuery) matches(v *invitation, now time.Time) bool {
	status := v.status(now)
	if len(l.statuses) == 0 && status == "revoked" || len(l.statuses) > 0 && !slices.Contains(l.statuses, status) {
		return false
	}
	if now.Before(v.shown) {
		return false
	}
	return l.text == "" || strings.Contains(v.folded, l.text) || strings.Contains(strings.ToLower(v.ID), l.text)
}
