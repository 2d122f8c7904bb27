package ask

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// fakeClerk knows users and pending invitations.
type fakeClerk struct {
	users   []string // who are users already
	pending []string // who are invited already
	refuse  error    // what questions are answered

	mu      sync.Mutex
	lookUps int // questions about users
}

func (f *fakeClerk) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	var page clerkclient.Page
	for _, address := range f.pending {
		page.Invitations = append(page.Invitations, clerkclient.Invitation{EmailAddress: address})
	}
	return page, clerkclient.Answer{}, f.refuse
}

func (f *fakeClerk) UsersByEmail(_ context.Context, addresses []string) ([]string, clerkclient.Answer, error) {
	f.mu.Lock()
	f.lookUps++
	f.mu.Unlock()
	var found []string
	for _, address := range addresses {
		if slices.Contains(f.users, address) {
			found = append(found, address)
		}
	}
	return found, clerkclient.Answer{}, f.refuse
}

type silent struct{}

func (silent) Called(policy.Call, clerkclient.Outcome, call.Timing) {}
func (silent) LookedUp(time.Duration, bool)                         {}

// newCaller gives a caller without a limit on questions.
func newCaller(t *testing.T) *call.Caller {
	t.Helper()
	p := policy.Policy{
		Create: settings.Rate{N: 100, Window: time.Hour}, Bulk: settings.Rate{N: 25, Window: time.Hour},
		Timeout: 30 * time.Second,
	}
	limiter, err := ratelimit.New(testkit.MiniRedis(t), "test", p.Limits("k")...)
	if err != nil {
		t.Fatal(err)
	}
	return &call.Caller{
		Limiter: limiter, Policy: p, Key: "k", Gate: call.NewKeyGate(), Life: t.Context(), Observer: silent{},
		Log: zerolog.Nop(),
	}
}

// once gives a way to put questions that each take one call.
func once(t *testing.T, clerk Clerk) *Questions {
	t.Helper()
	return New(clerk, Once(newCaller(t)), silent{}, zerolog.Nop())
}

// patient gives a way to put questions for somebody who waits.
func patient(t *testing.T, clerk Clerk) *Questions {
	t.Helper()
	return New(clerk, Patiently(newCaller(t)), nil, zerolog.Nop())
}

func people(name string, n int) []tasks.Recipient {
	list := make([]tasks.Recipient, n)
	for i := range list {
		list[i].EmailAddress = fmt.Sprintf("%s%d@example.com", name, i)
	}
	return list
}
