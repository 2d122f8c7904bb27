package taskstest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
	"example.com/usher/tasks/taskstest"
)

// client is what both clients have in common.
type client interface {
	Invite(context.Context, tasks.Recipient, ...tasks.Option) (tasks.Task, error)
	BulkInvite(context.Context, tasks.BulkRequest, ...tasks.Option) (tasks.Task, error)
	Revoke(context.Context, string, ...tasks.Option) (tasks.Task, error)
	RevokeEmail(context.Context, string, ...tasks.Option) (tasks.Task, error)
	RevokeCampaign(context.Context, string, ...tasks.Option) (tasks.Task, error)
	SyncList(context.Context, ...tasks.Option) (tasks.Task, error)
	Campaign(context.Context, string) (tasks.Campaign, error)
	Campaigns(context.Context, int) ([]tasks.Campaign, error)
	Pause(context.Context, string) (tasks.Campaign, error)
	Resume(context.Context, string) (tasks.Campaign, error)
	Cancel(context.Context, string) (tasks.Campaign, error)
	Status(context.Context, string) (tasks.Task, error)
	Wait(context.Context, string) (tasks.Task, error)
	Close() error
}

var (
	_ client = (*tasks.Client)(nil)
	_ client = (*taskstest.Client)(nil)
)

func start(t *testing.T) *taskstest.Client {
	c := taskstest.New()
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRecordsAsTheRealClientAnswers(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	task, err := c.Invite(ctx, tasks.Recipient{EmailAddress: " ada@example.com "}, tasks.ID("a"), tasks.In(time.Hour))
	if err != nil || task.State != tasks.StateScheduled || task.Queue != "usher:interactive" {
		t.Fatalf("%+v, %v", task, err)
	}
	if _, err := c.Invite(ctx, tasks.Recipient{EmailAddress: "ada@example.com"}, tasks.ID("a")); !errors.Is(err,
		tasks.ErrExists) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := c.Invite(ctx, tasks.Recipient{EmailAddress: "bob@example.com"}, tasks.ID("a")); !errors.Is(err,
		tasks.ErrConflict) {
		t.Errorf("another one with the id: %v", err)
	}
	if _, err := c.Invite(ctx, tasks.Recipient{EmailAddress: "ada"}); err == nil {
		t.Error("a bad address was recorded")
	}
	bulk, err := c.BulkInvite(ctx,
		tasks.BulkRequest{Recipients: []tasks.Recipient{{EmailAddress: "x@example.com"},
			{EmailAddress: "X@example.com"}}})
	if err != nil || bulk.Bulk.Added != 1 || bulk.Bulk.Duplicates != 1 {
		t.Errorf("%+v, %v", bulk.Bulk, err)
	}
	if invited := c.Invited(); len(invited) != 2 || invited[0].EmailAddress != "ada@example.com" {
		t.Errorf("invited: %v", invited)
	}
	revocation, err := c.RevokeEmail(ctx, " Ada@example.com ", tasks.ID("r"))
	if recorded := c.Enqueued(); err != nil || revocation.Type != "revoke" ||
		recorded[len(recorded)-1].EmailAddress != "Ada@example.com" {
		t.Errorf("%+v, %v", revocation, err)
	}
	if _, err := c.RevokeCampaign(ctx, "spring", tasks.ID("r")); !errors.Is(err, tasks.ErrConflict) {
		t.Errorf("another revocation with the id: %v", err)
	}
	if _, err := c.RevokeCampaign(ctx, "a b"); err == nil {
		t.Error("a bad campaign was recorded")
	}
	waited := make(chan tasks.Task)
	go func() {
		task, _ := c.Wait(ctx, "a")
		waited <- task
	}()
	if err := c.Finish("a", func(task *tasks.Task) { task.InvitationID = "inv_1" }); err != nil {
		t.Fatal(err)
	}
	if task := <-waited; task.State != tasks.StateDone || task.InvitationID != "inv_1" {
		t.Errorf("waited for %+v", task)
	}
	_, err = c.Invite(ctx, tasks.Recipient{EmailAddress: "ada@example.com"}, tasks.ID("a"))
	if !errors.Is(err, tasks.ErrExists) {
		t.Errorf("the same again after its end: %v", err)
	}
	away, before := errors.New("redis is away"), len(c.Enqueued())
	c.FailWith(away)
	for name, call := range calls(ctx, c) {
		if err := call(); !errors.Is(err, away) {
			t.Errorf("%s with Redis away: %v", name, err)
		}
	}
	c.FailWith(nil)
	if after := len(c.Enqueued()); after != before {
		t.Errorf("%d tasks are recorded that were not enqueued", after-before)
	}
	for name, call := range calls(ctx, c) {
		if err := call(); err != nil {
			t.Errorf("%s with Redis back: %v", name, err)
		}
	}
	if after := len(c.Enqueued()); after != before+6 {
		t.Errorf("%d tasks are recorded, want 6", after-before)
	}
}

// calls are all the ways to enqueue something.
func calls(ctx context.Context, c *taskstest.Client) map[string]func() error {
	ada := tasks.Recipient{EmailAddress: "ada@example.com"}
	return map[string]func() error{
		"Invite":         func() error { _, err := c.Invite(ctx, ada); return err },
		"BulkInvite":     func() error { _, err := c.BulkInvite(ctx, list("fall", "ada")); return err },
		"Revoke":         func() error { _, err := c.Revoke(ctx, "inv_1"); return err },
		"RevokeEmail":    func() error { _, err := c.RevokeEmail(ctx, ada.EmailAddress); return err },
		"RevokeCampaign": func() error { _, err := c.RevokeCampaign(ctx, "fall"); return err },
		"SyncList":       func() error { _, err := c.SyncList(ctx); return err },
	}
}

func TestAForgottenAddressIsNotEnqueued(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	if err := c.Forget("Ada@example.com"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Invite(ctx, tasks.Recipient{EmailAddress: "ada@example.com"}); !errors.Is(err, tasks.ErrForgotten) {
		t.Errorf("inviting it: %v", err)
	}
	bulk, err := c.BulkInvite(ctx, list("spring", "ada", "bob"))
	if err != nil || bulk.Bulk.Added != 1 || bulk.Bulk.Forgotten != 1 {
		t.Errorf("%+v, %v", bulk.Bulk, err)
	}
	if invited := c.Invited(); len(invited) != 1 || invited[0].EmailAddress != "bob@example.com" {
		t.Errorf("invited: %v", invited)
	}
}

func TestABulkRecordsWhoIsNew(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	for _, request := range []tasks.BulkRequest{
		list("spring", "ada", "bob", "ADA"), list("spring", "Bob", "cy"), list("fall", "ada"),
	} {
		if _, err := c.BulkInvite(ctx, request); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, e := range c.Enqueued() {
		got = append(got, e.Task.Bulk.Campaign)
		for _, r := range e.Recipients {
			got = append(got, r.EmailAddress)
		}
	}
	want := []string{
		"spring", "ada@example.com", "bob@example.com", "spring", "cy@example.com", "fall", "ada@example.com",
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded %v\nwant %v", got, want)
	}
}

func TestFinish(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	dead, err1 := c.Revoke(ctx, "inv_1")
	cancelled, err2 := c.BulkInvite(ctx, list("fall", "ada"))
	bulk, err3 := c.BulkInvite(ctx, list("spring", "ada", "bob", "cy"), tasks.In(time.Hour))
	failure := &tasks.Failure{Reason: "rejected", HTTPStatus: 422, Code: "c", Message: "m", TraceID: "t"}
	err4 := c.Finish(dead.ID, func(t *tasks.Task) { t.State, t.Attempts, t.Error = tasks.StateDead, 2, failure })
	err5 := c.Finish(cancelled.ID, func(t *tasks.Task) { t.State = tasks.StateCancelled })
	err6 := c.Finish(bulk.ID, func(t *tasks.Task) { t.Bulk.Dead, t.Bulk.Skipped = 1, 1 })
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
	got, err := c.Wait(ctx, dead.ID)
	if err != nil || got.State != tasks.StateDead || got.Attempts != 2 || *got.Error != *failure {
		t.Errorf("a dead one: %+v, %v", got, err)
	}
	if got, err := c.Wait(ctx, cancelled.ID); err != nil || got.State != tasks.StateCancelled {
		t.Errorf("a cancelled one: %+v, %v", got, err)
	}
	got, err = c.Wait(ctx, bulk.ID)
	if err != nil || got.State != tasks.StateDone || got.Bulk.Sent != 1 || got.Bulk.Dead != 1 ||
		got.Bulk.Skipped != 1 {
		t.Errorf("a bulk: %+v, %v", got.Bulk, err)
	}
	grown, err := c.BulkInvite(ctx, list("spring", "cy", "dan"))
	if err == nil {
		err = c.Finish(grown.ID, func(*tasks.Task) {})
	}
	head, err2 := c.Campaign(ctx, "spring")
	if errors.Join(err, err2) != nil || head.State != tasks.CampaignFinished || head.Sent != 2 || head.Dead != 1 {
		t.Errorf("a bulk that has grown: %+v, %v, %v", head, err, err2)
	}
	if err := c.Finish("nobody", func(*tasks.Task) {}); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// TestBothClientsTreatCampaignsAlike asks the real client, on a Redis without a worker, and the one for tests the
// same things.
func TestBothClientsTreatCampaignsAlike(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, client){"they grow": growing,
		"they are controlled": controlling, "they are listed": listing} {
		real, err := tasks.NewClient(tasks.Redis(testkit.MiniRedis(t)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = real.Close() })
		t.Run(name+", real", func(t *testing.T) { test(t, real) })
		t.Run(name+", in memory", func(t *testing.T) { test(t, start(t)) })
	}
}

// list is a campaign of some people.
func list(campaign string, people ...string) tasks.BulkRequest {
	request := tasks.BulkRequest{Campaign: campaign}
	for _, name := range people {
		request.Recipients = append(request.Recipients, tasks.Recipient{EmailAddress: name + "@example.com"})
	}
	return request
}

func growing(t *testing.T, c client) {
	ctx := t.Context()
	first, err := c.BulkInvite(ctx, list("spring", "ada", "bob"), tasks.ID("first"))
	if err != nil || first.Bulk.Added != 2 || first.Bulk.Known != 0 {
		t.Errorf("%+v, %v", first.Bulk, err)
	}
	again, err := c.BulkInvite(ctx, list("spring", "ADA", "cy", "cy"))
	if b := again.Bulk; err != nil || b.Added != 1 || b.Known != 1 || b.Duplicates != 1 || b.Recipients != 3 ||
		b.Remaining != 3 {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := c.BulkInvite(ctx, list("spring", "ada", "bob"), tasks.ID("first")); !errors.Is(err, tasks.ErrExists) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := c.BulkInvite(ctx, list("spring", "ada"), tasks.ID("first")); !errors.Is(err, tasks.ErrConflict) {
		t.Errorf("another list with the id: %v", err)
	}
	if _, err := c.BulkInvite(ctx, list("spring", "dan"), tasks.In(time.Hour)); err == nil {
		t.Error("a start was taken for a campaign that has begun")
	}
	if now, err := c.Campaign(ctx, "spring"); err != nil || now.State != tasks.CampaignRunning ||
		now.Recipients != 3 || now.DeadByCode == nil {
		t.Errorf("%+v, %v", now, err)
	}
}

func controlling(t *testing.T, c client) {
	ctx := t.Context()
	if _, err := c.Pause(ctx, "spring"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("before it is there: %v", err)
	}
	task, err := c.BulkInvite(ctx, list("spring", "ada", "bob"))
	if err != nil {
		t.Fatal(err)
	}
	if paused, err := c.Pause(ctx, "spring"); err != nil || paused.State != tasks.CampaignPaused ||
		paused.Recipients != 2 || !paused.ETA.IsZero() {
		t.Errorf("%+v, %v", paused, err)
	}
	if resumed, err := c.Resume(ctx, "spring"); err != nil || resumed.State != tasks.CampaignRunning {
		t.Errorf("%+v, %v", resumed, err)
	}
	for range 2 {
		if cancelled, err := c.Cancel(ctx, "spring"); err != nil || cancelled.State != tasks.CampaignCancelled ||
			cancelled.Remaining != 2 {
			t.Errorf("%+v, %v", cancelled, err)
		}
	}
	if _, err := c.Resume(ctx, "spring"); !errors.Is(err, tasks.ErrCampaignOver) {
		t.Errorf("resuming a cancelled one: %v", err)
	}
	if _, err := c.BulkInvite(ctx, list("spring", "dan")); err == nil {
		t.Error("a cancelled campaign took recipients")
	}
	if task, err := c.Wait(ctx, task.ID); err != nil || task.State != tasks.StateCancelled {
		t.Errorf("its task: %+v, %v", task, err)
	}
}

func listing(t *testing.T, c client) {
	ctx := t.Context()
	if none, err := c.Campaigns(ctx, 10); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	if _, err := c.BulkInvite(ctx, list("later", "ada"), tasks.In(time.Hour)); err != nil {
		t.Fatal(err)
	}
	all, err := c.Campaigns(ctx, 10)
	if err != nil || len(all) != 1 || all[0].Name != "later" || all[0].State != tasks.CampaignScheduled ||
		all[0].ScheduledAt.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
	if none, err := c.Campaigns(ctx, 0); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
}
