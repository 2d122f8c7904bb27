package ask

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient"
)

// bookClerk lists the invitations of a book.
type bookClerk struct {
	fakeClerk
	book    []clerkclient.Invitation // the newest first
	behind  time.Duration            // its clock
	queries []clerkclient.ListQuery
	fail    func(clerkclient.ListQuery) error
}

func (b *bookClerk) List(_ context.Context, q clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queries = append(b.queries, q)
	if b.fail != nil {
		if err := b.fail(q); err != nil {
			return clerkclient.Page{}, clerkclient.Answer{}, err
		}
	}
	var rows []clerkclient.Invitation
	for _, inv := range b.book {
		if inv.Revoked == (q.Status == "revoked") && strings.Contains(inv.EmailAddress, q.Query) {
			rows = append(rows, inv)
		}
	}
	rows = rows[min(q.Offset, len(rows)):]
	rows = rows[:min(q.Limit, len(rows))]
	return clerkclient.Page{Invitations: rows}, clerkclient.Answer{Date: time.Now().Add(-b.behind)}, nil
}

func lostSince(since time.Time, addresses ...string) []Lost {
	lost := make([]Lost, len(addresses))
	for i, address := range addresses {
		lost[i] = Lost{Address: address, Since: since}
	}
	return lost
}

func TestFindLostTakesOnlyWhatTheCallCanHaveMade(t *testing.T) {
	t.Parallel()
	called := time.Now().Add(-time.Minute)
	clerk := &bookClerk{behind: 10 * time.Second, book: []clerkclient.Invitation{
		{ID: "inv_second", EmailAddress: "Ada@Example.com", CreatedAt: called.Add(20 * time.Second)},
		// Clerk's clock is behind
		{ID: "inv_first", EmailAddress: "ada@example.com", CreatedAt: called.Add(-9 * time.Second)},
		{ID: "inv_before", EmailAddress: "ada@example.com", CreatedAt: called.Add(-30 * time.Second)},
		{ID: "inv_other", EmailAddress: "canada@example.com", CreatedAt: called},
		{ID: "inv_revoked", EmailAddress: "bob@example.com", CreatedAt: called, Revoked: true,
			Status: "revoked"},
	}}
	q := once(t, clerk)
	// both ways of asking
	for _, asked := range [][]string{{"Ada@Example.com", "bob@example.com"},
		{"Ada@Example.com", "bob@example.com", "eve@example.com"}} {
		found, err := q.FindLost(t.Context(), lostSince(called, asked...))
		if err != nil || len(found) != 2 {
			t.Fatalf("%v, %v", found, err)
		}
		if got := found["ada@example.com"].IDs; !slices.Equal(got, []string{"inv_first", "inv_second"}) {
			t.Errorf("%d asked: %v", len(asked), got)
		}
		if got := found["bob@example.com"].IDs; !slices.Equal(got, []string{"inv_revoked"}) {
			t.Errorf("%d asked: %v", len(asked), got)
		}
		if got := found["bob@example.com"].Gone; !slices.Equal(got, []string{"inv_revoked"}) {
			t.Errorf("%d asked: %v are gone", len(asked), got)
		}
	}
}

func TestWhatCouldNotBeAskedProvesNoAbsence(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"", "revoked"} {
		clerk := &bookClerk{fail: func(q clerkclient.ListQuery) error {
			if q.Status == status {
				return &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true}
			}
			return nil
		}}
		for n := 1; n <= 5; n += 4 {
			var addresses []string
			for i := range n {
				addresses = append(addresses, fmt.Sprintf("p%d@example.com", i))
			}
			if found, err := once(t, clerk).FindLost(t.Context(), lostSince(time.Now(), addresses...)); err == nil {
				t.Errorf("status %q fails, and %d asked are said to be %v", status, n, found)
			}
		}
	}
}

// TestRowsThatSlideAreNotMissed: rows that vanish between two pages move others past the border, few of them or too
// many.
func TestRowsThatSlideAreNotMissed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, vanish := range []int{5, 50} {
		clerk := &bookClerk{}
		for i := range 1200 {
			clerk.book = append(clerk.book,
				clerkclient.Invitation{ID: fmt.Sprint("inv_", i),
					EmailAddress: fmt.Sprintf("p%d@example.com", i), CreatedAt: now})
		}
		lost := lostSince(now, "p500@example.com", "p501@example.com", "p502@example.com")
		clerk.fail = func(q clerkclient.ListQuery) error {
			if q.Offset > 0 && len(clerk.book) == 1200 {
				clerk.book = clerk.book[vanish:] // revoked meanwhile
			}
			return nil
		}
		found, err := once(t, clerk).FindLost(t.Context(), lost)
		if err != nil || len(found) != 3 {
			t.Errorf("%d vanish: %d of 3 found, %v", vanish, len(found), err)
		}
	}
}

func TestAskingForManyTakesFewCalls(t *testing.T) {
	t.Parallel()
	clerk := &bookClerk{}
	var addresses []string
	for i := range 20 {
		addresses = append(addresses, fmt.Sprintf("p%d@example.com", i))
	}
	q := once(t, clerk)
	if _, err := q.FindLost(t.Context(), lostSince(time.Now(), addresses...)); err != nil || len(clerk.queries) != 2 {
		t.Errorf("%d calls, %v", len(clerk.queries), err)
	}
	clerk.queries = nil
	if _, err := q.FindLost(t.Context(), lostSince(time.Now().Add(-48*time.Hour), addresses...)); err != nil ||
		len(clerk.queries) != 40 {
		t.Errorf("of a call two days ago: %d calls, %v", len(clerk.queries), err)
	}
	clerk.fail = func(clerkclient.ListQuery) error { return errors.New("no") }
	if _, err := q.FindLost(t.Context(), lostSince(time.Now(), addresses...)); err == nil {
		t.Error("no answer is taken for an answer")
	}
}
