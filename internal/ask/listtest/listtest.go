// Package listtest has a list of invitations that changes while it is read, for tests.
package listtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"example.com/usher/clerkclient"
)

// Created is when the first row was created.
var Created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Moving is a list that changes between calls.
type Moving struct {
	Rows     []clerkclient.Invitation // by creation
	Calls    []clerkclient.ListQuery
	Before   func(call int) // is called before each answer; calls are counted from 1
	Unstable bool           // rows of one time come in another order each time
	Untold   bool           // answers have no count
	Lie      int            // is added to the count
}

// Ask answers with one page. It heeds the status and the order that are asked for, and not what rows shall match.
func (m *Moving) Ask(_ context.Context, q clerkclient.ListQuery) (clerkclient.Page, error) {
	m.Calls = append(m.Calls, q)
	if m.Before != nil {
		m.Before(len(m.Calls))
	}
	var found []clerkclient.Invitation
	for _, inv := range m.Rows {
		if inv.Status == q.Status || q.Status == "" && inv.Status != "revoked" {
			found = append(found, inv)
		}
	}
	if m.Unstable {
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	}
	slices.SortStableFunc(found, func(a, b clerkclient.Invitation) int { return a.CreatedAt.Compare(b.CreatedAt) })
	if q.OrderBy == "-created_at" {
		slices.Reverse(found)
	}
	page := clerkclient.Page{TotalCount: len(found) + m.Lie}
	if m.Untold {
		page.TotalCount = -1
	}
	start := min(q.Offset, len(found))
	page.Invitations = found[start:min(start+q.Limit, len(found))]
	return page, nil
}

// Add appends rows that were created a second after each other, so many at a time: inv_0, inv_1 and on, of
// p0@example.com and on.
func (m *Moving) Add(n, atATime int) {
	for range n {
		i := len(m.Rows)
		m.Rows = append(m.Rows, clerkclient.Invitation{
			ID: fmt.Sprintf("inv_%d", i), EmailAddress: fmt.Sprintf("p%d@example.com", i), Status: "pending",
			CreatedAt: Created.Add(time.Duration(i/atATime) * time.Second),
		})
	}
}

// Set gives rows a status.
func (m *Moving) Set(status string, from, to int) {
	for i := from; i < to; i++ {
		m.Rows[i].Status = status
	}
}

// At does something before the answer to a call.
func (m *Moving) At(call int, do func()) {
	earlier := m.Before
	m.Before = func(now int) {
		if earlier != nil {
			earlier(now)
		}
		if now == call {
			do()
		}
	}
}
