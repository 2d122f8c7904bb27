package ask

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
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
		found := q.FindLost(t.Context(), lostSince(called, asked...))
		for i, want := range []Found{
			{IDs: []string{"inv_first", "inv_second"}},
			{IDs: []string{"inv_revoked"}, Gone: []string{"inv_revoked"}},
			{},
		}[:len(asked)] {
			if !reflect.DeepEqual(found[i], want) {
				t.Errorf("%d asked: of %s %+v was found, want %+v", len(asked), asked[i], found[i], want)
			}
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
			for _, found := range once(t, clerk).FindLost(t.Context(), lostSince(time.Now(), addresses...)) {
				if found.Err == nil || errors.Is(found.Err, fate.ErrNotAsked) {
					t.Errorf("status %q fails, and of one of %d it is said: %+v", status, n, found)
				}
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
		for i, found := range once(t, clerk).FindLost(t.Context(), lost) {
			if len(found.IDs) != 1 || found.Err != nil {
				t.Errorf("%d vanish: of %s %+v is found", vanish, lost[i].Address, found)
			}
		}
	}
}

// bookOf has invitations for p0@example.com and on, one a second until now: p0 has the newest.
func bookOf(n int, now time.Time) (book []clerkclient.Invitation) {
	for i := range n {
		book = append(book, clerkclient.Invitation{
			ID: fmt.Sprint("inv_", i), EmailAddress: fmt.Sprintf("p%d@example.com", i), Status: "pending",
			CreatedAt: now.Add(-time.Duration(i) * time.Second),
		})
	}
	return book
}

// lostOf are calls for p0@example.com and on that were lost when bookOf says that their invitations were made; every
// other one has made none.
func lostOf(clerk *bookClerk, places ...int) (lost []Lost) {
	for _, i := range places {
		inv := &clerk.book[i]
		lost = append(lost, Lost{Address: inv.EmailAddress, Since: inv.CreatedAt})
		if i%2 == 1 {
			inv.EmailAddress = "somebody@else.example"
		}
	}
	return lost
}

// wantAnswers fails the test unless those of even places are found, and no others.
func wantAnswers(t *testing.T, found []Found, places ...int) {
	t.Helper()
	for n, i := range places {
		if f := found[n]; f.Err != nil || len(f.IDs) != 1-i%2 || len(f.IDs) == 1 && f.IDs[0] != fmt.Sprint("inv_", i) {
			t.Errorf("of %d: %+v", i, f)
		}
	}
}

func some(n int, place func(int) int) (places []int) {
	for i := range n {
		places = append(places, place(i))
	}
	return places
}

// TestAQuestionTakesTheFewestCalls: it reads the list where that takes fewer calls than asking one by one, and if it
// cannot know that before, it takes at most twice as many.
func TestAQuestionTakesTheFewestCalls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		places []int
		calls  int
	}{
		"one":                    {[]int{0}, 2},
		"two, of late":           {[]int{0, 1}, 4},
		"20 of late":             {some(20, func(i int) int { return i }), 1 + 1},
		"2000 among 20000":       {some(2000, func(i int) int { return i * 10 }), 42 + 1},
		"3 long ago":             {[]int{19000, 19003, 19006}, 3 + 3*2},
		"20 of late, 1 long ago": {append(some(20, func(i int) int { return i }), 19001), 21 + 1 + 2},
		"100 long ago":           {some(100, func(i int) int { return 19900 + i }), 42 + 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clerk := &bookClerk{book: bookOf(20000, time.Now())}
			lost := lostOf(clerk, test.places...)
			found := once(t, clerk).FindLost(t.Context(), lost)
			wantAnswers(t, found, test.places...)
			if len(clerk.queries) != test.calls {
				t.Errorf("%d calls, want %d", len(clerk.queries), test.calls)
			}
		})
	}
}

// TestAPageIsAskedForAgain: one page that fails does not spend all that were read before it.
func TestAPageIsAskedForAgain(t *testing.T) {
	t.Parallel()
	clerk := &bookClerk{book: bookOf(2000, time.Now())}
	failed := false
	clerk.fail = func(q clerkclient.ListQuery) error {
		if q.Offset == 0 || failed {
			return nil
		}
		failed = true
		return &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true}
	}
	places := some(100, func(i int) int { return i * 10 })
	lost := lostOf(clerk, places...)
	wantAnswers(t, once(t, clerk).FindLost(t.Context(), lost), places...)
	if len(clerk.queries) != 3+1+1 {
		t.Errorf("%d calls", len(clerk.queries))
	}
}

// TestWhatWasReadBeforeAFailureCounts: those that the reading has reached are answered.
func TestWhatWasReadBeforeAFailureCounts(t *testing.T) {
	t.Parallel()
	clerk := &bookClerk{book: bookOf(2000, time.Now())}
	clerk.fail = func(q clerkclient.ListQuery) error {
		if q.Offset < 900 {
			return nil
		}
		return &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true}
	}
	young, old := some(90, func(i int) int { return i * 10 }), some(10, func(i int) int { return 990 + i })
	found := once(t, clerk).FindLost(t.Context(), lostOf(clerk, append(young, old...)...))
	wantAnswers(t, found[:90], young...)
	for _, f := range found[90:] {
		if f.Err == nil || errors.Is(f.Err, fate.ErrNotAsked) {
			t.Errorf("%+v", f)
		}
	}
}

// TestWhoHadNoTurnIsNotAsked: when the time is over, absence of them is not proved, and nothing is held against them.
func TestWhoHadNoTurnIsNotAsked(t *testing.T) {
	t.Parallel()
	clerk := &bookClerk{book: bookOf(30000, time.Now())}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	clerk.fail = func(q clerkclient.ListQuery) error {
		if q.Query == "p29050@example.com" {
			cancel()
		}
		return nil
	}
	young := some(10, func(i int) int { return i * 10 })
	old := some(45, func(i int) int { return 29000 + 2*i })
	found := once(t, clerk).FindLost(ctx, lostOf(clerk, append(young, old...)...))
	wantAnswers(t, found[:10], young...)
	asked := 0
	for i, f := range found[10:] {
		switch {
		case f.Err == nil:
			wantAnswers(t, found[10+i:], old[i])
			asked++
		case !errors.Is(f.Err, fate.ErrNotAsked):
			t.Errorf("%+v", f)
		}
	}
	if asked < 25-queriesAtOnce || asked > 25+queriesAtOnce {
		t.Errorf("%d had their turn", asked)
	}
}

// TestWhatIsRevokedMeanwhileIsFound: by whichever way it is asked about.
func TestWhatIsRevokedMeanwhileIsFound(t *testing.T) {
	t.Parallel()
	for name, revoked := range map[string]int{"asked for by itself": 19002, "listed": 4} {
		clerk := &bookClerk{book: bookOf(20000, time.Now())}
		places := append(some(20, func(i int) int { return i }), 19002)
		lost := lostOf(clerk, places...)
		address := clerk.book[revoked].EmailAddress
		clerk.fail = func(q clerkclient.ListQuery) error {
			if q.Status == "" && (q.Query == address || revoked < 20 && q.Offset == 0) {
				clerk.book[revoked].Revoked, clerk.book[revoked].Status = true, "revoked"
			}
			return nil
		}
		for i, found := range once(t, clerk).FindLost(t.Context(), lost) {
			if places[i] == revoked && (found.Err != nil || len(found.Gone) != 1) {
				t.Errorf("%s: %+v", name, found)
			}
		}
	}
}

// slowClerk takes five seconds for each answer.
type slowClerk struct{ bookClerk }

func (s *slowClerk) List(
	ctx context.Context, q clerkclient.ListQuery,
) (clerkclient.Page, clerkclient.Answer, error) {
	if err := policy.Sleep(ctx, 5*time.Second); err != nil {
		return clerkclient.Page{}, clerkclient.Answer{}, err
	}
	return s.bookClerk.List(ctx, q)
}

// TestAQuestionEndsInTimeAndGetsOn: the list is too long to be read in the time, so half of the time is for some of
// those that are asked for one by one.
func TestAQuestionEndsInTimeAndGetsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clerk := &slowClerk{bookClerk{book: bookOf(20_000, time.Now())}}
		put := func(ctx context.Context, question func(ctx context.Context) error) error { return question(ctx) }
		places := some(400, func(i int) int { return 19_000 + i })
		began, lost := time.Now(), lostOf(&clerk.bookClerk, places...)
		found := New(clerk, put, silent{}, zerolog.Nop()).FindLost(t.Context(), lost)
		if took := time.Since(began); took > policy.LostPatience {
			t.Errorf("it took %s", took)
		}
		answered := 0
		for i, f := range found {
			if errors.Is(f.Err, fate.ErrNotAsked) {
				continue
			}
			wantAnswers(t, found[i:], places[i])
			answered++
		}
		if answered < 100 || answered == len(found) { // eight at once for 150 seconds, and two calls for each
			t.Errorf("%d of %d are answered", answered, len(found))
		}
	})
}
