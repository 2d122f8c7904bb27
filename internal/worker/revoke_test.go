package worker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// revokingClerk has pending invitations of one address.
type revokingClerk struct {
	fakeClerk
	refuse func(id string) error

	mu      sync.Mutex
	changed *sync.Cond
	pending map[string]bool
	calls   map[string]int
	flying  int
	most    int
}

func newRevokingClerk(n int, refuse func(id string) error) *revokingClerk {
	c := &revokingClerk{refuse: refuse, pending: map[string]bool{}, calls: map[string]int{}}
	c.changed = sync.NewCond(&c.mu)
	for i := range n {
		c.pending[fmt.Sprintf("inv_%d", i)] = true
	}
	return c
}

func (c *revokingClerk) List(
	_ context.Context, q clerkclient.ListQuery,
) (clerkclient.Page, clerkclient.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var page clerkclient.Page
	for id, pending := range c.pending {
		if pending == (q.Status == "pending") && q.Offset == 0 {
			page.Invitations = append(page.Invitations,
				clerkclient.Invitation{ID: id, EmailAddress: "ada@example.com", Status: "pending"})
		}
	}
	return page, clerkclient.Answer{}, nil
}

func (c *revokingClerk) Revoke(_ context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[id]++
	c.flying++
	c.most = max(c.most, c.flying)
	c.changed.Broadcast()
	for c.most < 2 { // the first one is not answered before another is under way
		c.changed.Wait()
	}
	c.flying--
	err := c.refuse(id)
	if err == nil {
		c.pending[id] = false
	}
	return clerkclient.Invitation{ID: id}, clerkclient.Answer{}, err
}

// TestOneRevocationThatFailsHasItsOwnAttempts: the others are done, several at once.
func TestOneRevocationThatFailsHasItsOwnAttempts(t *testing.T) {
	t.Parallel()
	clerk := newRevokingClerk(30, func(id string) error {
		if id == "inv_3" {
			return &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true}
		}
		return nil
	})
	b := setup(t, clerk, func(p *policy.Policy) { p.MaxAttempts = 3 })
	task, err := b.client.RevokeEmail(t.Context(), "ada@example.com")
	ended := b.wait(t, task, err)
	if ended.State != tasks.StateDead || ended.Revoked != 29 || ended.Attempts != 3 ||
		!strings.Contains(ended.Error.Message, "1 of 30 invitations are not revoked, one of them inv_3") {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
	if clerk.calls["inv_3"] != 3 || clerk.most < 2 || clerk.most > policy.RevokesAtOnce {
		t.Errorf("%d calls for the one that fails, %d at once", clerk.calls["inv_3"], clerk.most)
	}
	if log := b.log.String(); !strings.Contains(log, `"not_pending":0,"not_revoked":1,"revoked":29`) ||
		strings.Contains(log, "ada@") {
		t.Errorf("the log:\n%s", b.log.String())
	}
}

// TestWhatIsNotPendingAnyMoreIsNoFailure: whatever Clerk says of it.
func TestWhatIsNotPendingAnyMoreIsNoFailure(t *testing.T) {
	t.Parallel()
	var clerk *revokingClerk
	codes := map[string]string{
		"inv_0": "invitation_already_revoked", "inv_1": "invitation_already_accepted",
		"inv_2": "some_code_for_expired_ones",
	}
	clerk = newRevokingClerk(5, func(id string) error {
		if codes[id] == "" {
			return nil
		}
		clerk.pending[id] = false // since it was listed
		return &clerkclient.Error{Outcome: clerkclient.Rejected, Status: 400, Code: codes[id], Sent: true}
	})
	b := setup(t, clerk, func(*policy.Policy) {})
	task, err := b.client.RevokeEmail(t.Context(), "ada@example.com")
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone || ended.Revoked != 2 {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
}

func TestAPanicInARevocationIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	clerk := newRevokingClerk(10, func(string) error { panic("secret ada@example.com") })
	b := setup(t, clerk, func(p *policy.Policy) { p.MaxAttempts = 2 })
	task, err := b.client.RevokeEmail(t.Context(), "ada@example.com")
	ended := b.wait(t, task, err)
	if ended.State != tasks.StateDead || ended.Error.Code != "panic" || strings.Contains(b.log.String(), "ada@") {
		t.Errorf("%+v, %+v\n%s", ended, ended.Error, b.log.String())
	}
}

// TestAPanicInOneRevocationLosesNoCount: the others are revoked, and counted.
func TestAPanicInOneRevocationLosesNoCount(t *testing.T) {
	t.Parallel()
	panicked := false
	clerk := newRevokingClerk(10, func(id string) error {
		if id == "inv_3" && !panicked {
			panicked = true
			panic("revoking")
		}
		return nil
	})
	b := setup(t, clerk, func(*policy.Policy) {})
	task, err := b.client.RevokeEmail(t.Context(), "ada@example.com")
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone || ended.Revoked != 10 {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
}

// TestARevocationThatIsPutOffGoesOnFromThere: a long backoff frees the handler, and what is left waits with it.
func TestARevocationThatIsPutOffGoesOnFromThere(t *testing.T) {
	t.Parallel()
	failed := false
	clerk := newRevokingClerk(30, func(id string) error {
		if id == "inv_3" && !failed {
			failed = true
			return &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true}
		}
		return nil
	})
	b := setup(t, clerk, func(p *policy.Policy) { p.BackoffMin, p.BackoffMax = 1000*time.Hour, 1000*time.Hour })
	task, err := b.client.RevokeEmail(t.Context(), "ada@example.com")
	if err != nil {
		t.Fatal(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(b.rdb)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for inspector.RunTask(task.Queue, task.ID) != nil { // until it waits for its next run, which then begins
		if err := policy.Sleep(ctx, 10*time.Millisecond); err != nil {
			t.Fatalf("%v\n%s", err, b.log.String())
		}
	}
	between, err := b.client.Status(ctx, task.ID)
	if err != nil || between.Attempts < 1 {
		t.Errorf("%+v, %v", between, err)
	}
	ended := b.wait(t, task, nil)
	if ended.State != tasks.StateDone || ended.Revoked != 30 {
		t.Errorf("%+v, %+v\n%s", ended, ended.Error, b.log.String())
	}
	for id, n := range clerk.calls {
		if want := map[bool]int{true: 2, false: 1}[id == "inv_3"]; n != want {
			t.Errorf("%s was revoked by %d calls, want %d", id, n, want)
		}
	}
}

// unsortedClerk lists invitations in another order than was asked for.
type unsortedClerk struct{ fakeClerk }

func (*unsortedClerk) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	now := time.Now()
	return clerkclient.Page{TotalCount: 2, Invitations: []clerkclient.Invitation{
		{ID: "inv_2", EmailAddress: "ada@example.com", Status: "pending", CreatedAt: now},
		{ID: "inv_1", EmailAddress: "ada@example.com", Status: "pending", CreatedAt: now.Add(-time.Hour)},
	}}, clerkclient.Answer{}, nil
}

// TestAListThatCannotBeReadWholeIsAFailedAttempt: nothing is revoked by half of it.
func TestAListThatCannotBeReadWholeIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, &unsortedClerk{}, func(p *policy.Policy) { p.MaxAttempts = 2 })
	task, err := b.client.RevokeEmail(t.Context(), "ada@example.com")
	ended := b.wait(t, task, err)
	if ended.State != tasks.StateDead || ended.Error.Code != "list_incomplete" || ended.Attempts != 2 ||
		ended.Revoked != 0 {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
}
