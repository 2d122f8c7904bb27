package ask

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// Lost is an address of which nobody knows whether calls have made an invitation.
type Lost struct {
	Address string
	Since   time.Time // of the first such call, on our clock
}

// Found are the invitations that were made for one address.
type Found struct {
	IDs  []string // the oldest first, revoked and accepted ones too
	Gone []string // those that are revoked or expired
	// Err is why there may be others: absence is proved only without an error. It is fate.ErrNotAsked if the time was
	// over before the address had its turn.
	Err error
}

// FindLost asks Clerk which invitations were made for addresses since their first lost calls, and gives what it found
// for each, in their order.
//
// One reading of the newest invitations answers for any number of addresses. It ends when it has reached the first
// call, or has taken as many calls as there are addresses, or half of the time. The addresses that it does not answer
// for are then asked for one by one.
func (q *Questions) FindLost(ctx context.Context, lost []Lost) []Found {
	ctx, cancel := context.WithTimeout(ctx, policy.LostPatience)
	defer cancel()
	s := &search{
		q: q, lost: lost, left: make([][]clerkclient.ListQuery, len(lost)), errs: make([]error, len(lost)),
		made: map[string][]clerkclient.Invitation{},
	}
	for _, l := range lost {
		s.made[tasks.FoldAddress(l.Address)] = nil
	}
	s.readNewest(ctx)
	s.askEach(ctx)
	found := make([]Found, len(lost))
	for i, l := range lost {
		if found[i] = s.of(l); s.errs[i] != nil {
			found[i].Err = fmt.Errorf("asking what became of a call: %w", s.errs[i])
		}
	}
	return found
}

// search looks for the invitations that lost calls have made.
type search struct {
	q    *Questions
	lost []Lost
	left [][]clerkclient.ListQuery // what is left to ask about each of them, in this order
	errs []error                   // why there may be others for each of them

	mu   sync.Mutex
	made map[string][]clerkclient.Invitation // for their addresses, folded
}

// take takes what was listed and is for one of the addresses.
func (s *search) take(listed []clerkclient.Invitation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, inv := range listed {
		folded := tasks.FoldAddress(inv.EmailAddress)
		if some, asked := s.made[folded]; asked {
			inv.PublicMetadata = nil // large, and of no use here
			s.made[folded] = append(some, inv)
		}
	}
}

// of gives what the lost calls for an address may have made.
func (s *search) of(l Lost) (found Found) {
	for _, inv := range byAge(s.made[tasks.FoldAddress(l.Address)]) {
		if !s.q.MadeSince(inv, l.Since) {
			continue
		}
		if found.IDs = append(found.IDs, inv.ID); inv.Status == "revoked" || inv.Status == "expired" {
			found.Gone = append(found.Gone, inv.ID)
		}
	}
	return found
}

// readNewest reads the newest invitations, and notes what is left to ask. Whatever was not revoked is asked for first:
// an invitation may be revoked at any time, and would be in neither answer if it were the other way round.
func (s *search) readNewest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, policy.LostPatience/2)
	defer cancel()
	for _, status := range []string{"", "revoked"} {
		var some []Lost // whom the reading may answer for
		for i, l := range s.lost {
			if s.errs[i] == nil && s.left[i] == nil {
				some = append(some, l)
			}
		}
		reached, err := unread, error(nil)
		if len(some) > policy.FewAddresses {
			reached, err = s.readBack(ctx, status, some)
		}
		for i, l := range s.lost {
			answered := s.left[i] == nil && reached.Before(s.q.earliest(l.Since))
			switch {
			case answered || s.errs[i] != nil:
			case err != nil && s.left[i] == nil:
				s.errs[i] = err
			default:
				s.left[i] = append(s.left[i], queriesOf(l.Address, status)...)
			}
		}
	}
}

// unread is how far a list was read of which nothing was.
var unread = time.Unix(1<<40, 0)

// readBack reads the newest invitations of a status for some of the lost calls, and takes no more calls than there are
// of these. It gives the instant after which none has been made that it has not read: zero if it has read all. Time
// that runs out and a list that changes too fast are no errors.
func (s *search) readBack(ctx context.Context, status string, some []Lost) (reached time.Time, err error) {
	byTime := func(a, b Lost) int { return a.Since.Compare(b.Since) }
	first, pages := slices.MinFunc(some, byTime).Since, 0
	reached = unread
	for rows, err := range latest(ctx, s.q.insist, status, "", time.Time{}) {
		switch {
		case errors.Is(err, errSlid), err != nil && ctx.Err() != nil:
			return reached, nil
		case err != nil:
			return reached, err
		}
		s.take(rows)
		if len(rows) < policy.ListPage {
			return time.Time{}, nil
		}
		if end := rows[len(rows)-1].CreatedAt; end.Before(reached) {
			reached = end
		}
		if pages++; pages == len(some) || reached.Before(s.q.earliest(first)) {
			return reached, nil
		}
	}
	return time.Time{}, nil // the list is empty
}

// askEach puts the queries that are left, as far as the time allows.
func (s *search) askEach(ctx context.Context) {
	var left []int
	for i, queries := range s.left {
		if queries != nil {
			left = append(left, i)
		}
	}
	answers := call.Several(s.q.log, len(left), queriesAtOnce, func(n int) error {
		for _, query := range s.left[left[n]] {
			page, err := s.q.insist(ctx, query)
			switch {
			case err != nil && ctx.Err() != nil:
				return fate.ErrNotAsked
			case err != nil:
				return err
			}
			s.take(page.Invitations)
		}
		return nil
	})
	for n, err := range answers {
		s.errs[left[n]] = err
	}
}

// MadeSince tells whether a call since an instant may have made an invitation.
func (q *Questions) MadeSince(inv clerkclient.Invitation, since time.Time) bool {
	return !inv.CreatedAt.Before(q.earliest(since))
}

// PendingOf asks for the pending invitations of an address and gives them, the newest first.
func (q *Questions) PendingOf(ctx context.Context, address string) ([]clerkclient.Invitation, error) {
	listed, err := q.pages(ctx, queriesOf(address, "pending"))
	if err != nil {
		return nil, fmt.Errorf("asking for the pending invitations of an address: %w", err)
	}
	pending := slices.DeleteFunc(byAge(listed), func(inv clerkclient.Invitation) bool {
		return tasks.FoldAddress(inv.EmailAddress) != tasks.FoldAddress(address)
	})
	slices.Reverse(pending)
	return pending, nil
}

// byAge sorts invitations, the oldest first, and leaves out those that are there twice.
func byAge(invitations []clerkclient.Invitation) []clerkclient.Invitation {
	slices.SortFunc(invitations, func(a, b clerkclient.Invitation) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(invitations, func(a, b clerkclient.Invitation) bool { return a.ID == b.ID })
}
