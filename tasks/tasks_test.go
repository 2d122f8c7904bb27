package tasks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// bundle is a client with its Redis.
type bundle struct {
	client    *tasks.Client
	rdb       *redis.Client
	inspector *asynq.Inspector
}

func setup(t *testing.T) bundle {
	t.Helper()
	rdb := testkit.MiniRedis(t)
	client, err := tasks.NewClient(tasks.Redis(rdb), tasks.Namespace("test"))
	if err != nil {
		t.Fatal(err)
	}
	return bundle{client: client, rdb: rdb, inspector: asynq.NewInspectorFromRedisClient(rdb)}
}

func TestEveryTypeGoesToItsLane(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	invite, err1 := b.client.Invite(ctx, tasks.Recipient{EmailAddress: "ada@example.com"})
	bulk, err2 := b.client.BulkInvite(ctx,
		tasks.BulkRequest{Campaign: "c", Recipients: []tasks.Recipient{{EmailAddress: "bob@example.com"}}})
	revoke, err3 := b.client.Revoke(ctx, "inv_2bF7QcNnvZp0a1b2c3d4e5f6g7h")
	sync, err4 := b.client.SyncList(ctx)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		task        tasks.Task
		kind, queue string
	}{
		{invite, "invite", "test:interactive"}, {bulk, "bulk-invite", "test:campaign"},
		{revoke, "revoke", "test:housekeeping"}, {sync, "sync-list", "test:housekeeping"},
	} {
		info, err := b.inspector.GetTaskInfo(c.queue, c.task.ID)
		if err != nil {
			t.Fatalf("%s: %v", c.kind, err)
		}
		if info.Type != c.kind || c.task.Queue != c.queue || info.MaxRetry < 1_000_000 ||
			info.Timeout < 1000*time.Hour {
			t.Errorf("%s is in the queue as %+v", c.kind, info)
		}
		if strings.Contains(string(info.Payload), "bob@") {
			t.Errorf("the payload of a bulk holds an address: %s", info.Payload)
		}
	}
}

func TestPayloadsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := tasks.Recipient{
		EmailAddress:   "Ada.Lovelace@Example.com",
		PublicMetadata: map[string]any{"plan": "pro", "big": int64(9007199254740993)},
		RedirectURL:    "/welcome", NoNotify: true, IgnoreExisting: true, ExpiresInDays: 365,
		TemplateSlug: "waitlist_invitation",
	}
	task, err := b.client.Invite(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.inspector.GetTaskInfo(task.Queue, task.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tasks.DecodeInvite(info.Payload)
	if err != nil || fmt.Sprint(got.Recipient) != fmt.Sprint(want) {
		t.Errorf("%v\n got %v\nwant %v", err, got.Recipient, want)
	}
}

func TestOnDuplicate(t *testing.T) {
	t.Parallel()
	r := tasks.Recipient{EmailAddress: "ada@example.com", OnDuplicate: tasks.DeadLetterDuplicate}
	if r.Validate() != nil || r.Normalize().OnDuplicate != "" {
		t.Errorf("what goes without saying stays in %+v", r.Normalize())
	}
	for _, bad := range []tasks.Recipient{
		{EmailAddress: "ada@example.com", OnDuplicate: "ignore"},
		{EmailAddress: "ada@example.com", OnDuplicate: tasks.AcceptDuplicate, IgnoreExisting: true},
		{EmailAddress: "ada@example.com", OnDuplicate: tasks.ResendDuplicate, IgnoreExisting: true},
	} {
		if invalid, ok := errors.AsType[*tasks.InvalidError](bad.Validate()); !ok || invalid.Field != "on_duplicate" {
			t.Errorf("%+v: %v", bad, bad.Validate())
		}
	}
}

// TestTheOldestVersionThatCanCarryAnInvite: workers of earlier versions take what they can read, and leave the others.
func TestTheOldestVersionThatCanCarryAnInvite(t *testing.T) {
	t.Parallel()
	for wish, version := range map[tasks.OnExistingUser]int{"": 1, tasks.DeadLetterUser: 1, tasks.SkipUser: 2} {
		r := tasks.Recipient{EmailAddress: "ada@example.com", OnExistingUser: wish}
		if err := r.Validate(); err != nil {
			t.Errorf("%q: %v", wish, err)
		}
		data, err := json.Marshal(tasks.NewInvitePayload(r.Normalize(), 1))
		if want := fmt.Sprintf(`{"v":%d,`, version); err != nil || !strings.HasPrefix(string(data), want) {
			t.Errorf("%q: %v, %s, want %s", wish, err, data, want)
		}
		if version == 1 && strings.Contains(string(data), "on_existing_user") {
			t.Errorf("what goes without saying stays in %s", data)
		}
	}
	bad := tasks.Recipient{EmailAddress: "ada@example.com", OnExistingUser: "accept"}.Validate()
	if invalid, ok := errors.AsType[*tasks.InvalidError](bad); !ok || invalid.Field != "on_existing_user" {
		t.Errorf("a wish that is none: %v", bad)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		"nothing":         ``,
		"no JSON":         `hello`,
		"null":            `null`,
		"no version":      `{"email_address":"ada@example.com"}`,
		"version 0":       `{"v":0,"email_address":"ada@example.com"}`,
		"unknown field":   `{"v":1,"email_address":"ada@example.com","wish":1}`,
		"wrong type":      `{"v":1,"email_address":["ada@example.com"]}`,
		"bad address":     `{"v":1,"email_address":"ada@secret-host"}`,
		"something after": `{"v":1,"email_address":"ada@example.com"}{}`,
		"too long":        `{"v":1,"email_address":"` + strings.Repeat("a", 300<<10) + `@example.com"}`,
	} {
		_, err := tasks.DecodeInvite([]byte(payload))
		if err == nil || errors.Is(err, tasks.ErrNewer) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "ada@") || strings.Contains(err.Error(), "secret-host") {
			t.Errorf("%s: the error quotes the payload: %v", name, err)
		}
	}
	if _, err := tasks.DecodeInvite([]byte(`{"v":3,"email_address":"ada@example.com","wish":1}`)); !errors.Is(err,
		tasks.ErrNewer) {
		t.Errorf("a newer version: %v", err)
	}
}

// TestAnEarlierProducersSyncIsRead: it may say that the list is to be read whole, as it always is now.
func TestAnEarlierProducersSyncIsRead(t *testing.T) {
	t.Parallel()
	if _, err := tasks.DecodeSyncList([]byte(`{"v":1,"whole":true}`)); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"email_address":"ada@example.com","public_metadata":{"a":[1,{"b":null}]}}`))
	f.Add([]byte(`{"v":1,"campaign":"c"}`))
	f.Add([]byte(`{"v":1,"invitation_id":"inv_2bF7QcNnvZp0a1b2c3d4e5f6g7h"}`))
	f.Add([]byte(`{"v":1,"email_address":"ada@example.com","campaign":"c"}`))
	f.Add([]byte(`{"v":1e3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := tasks.DecodeInvite(data); err == nil && p.Recipient.Validate() != nil {
			t.Errorf("accepted an invalid recipient: %+v", p)
		}
		if p, err := tasks.DecodeBulkInvite(data); err == nil && tasks.ValidateCampaign(p.Campaign) != nil {
			t.Errorf("accepted an invalid campaign: %+v", p)
		}
		if p, err := tasks.DecodeRevoke(data); err == nil && p.Validate() != nil {
			t.Errorf("accepted an invalid revocation: %+v", p)
		}
		_, _ = tasks.DecodeSyncList(data)
		_, _ = tasks.DecodeRecipient(data)
	})
}

// TestAHalfDoneEnqueueIsFinished plays a producer that died between claiming its id and enqueuing.
func TestAHalfDoneEnqueueIsFinished(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	recipient := tasks.Recipient{EmailAddress: "ada@example.com"}
	task, err := b.client.Invite(ctx, recipient, tasks.ID("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.inspector.DeleteTask(task.Queue, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Invite(ctx, recipient, tasks.ID("x")); err != nil {
		t.Errorf("finishing it: %v", err)
	}
	if _, err := b.inspector.GetTaskInfo(task.Queue, "x"); err != nil {
		t.Errorf("it is not in its queue: %v", err)
	}
}

func TestABulkIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	_, err := b.client.BulkInvite(ctx,
		tasks.BulkRequest{Campaign: "c",
			Recipients: []tasks.Recipient{{EmailAddress: "ada@example.com"}, {EmailAddress: "x"}}})
	invalid, ok := errors.AsType[*tasks.InvalidError](err)
	if !ok || invalid.Index != 1 || invalid.Field != "email_address" {
		t.Errorf("%v", err)
	}
	if keys := b.rdb.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("keys were written: %v", keys)
	}
	for name, request := range map[string]tasks.BulkRequest{
		"empty": {Campaign: "c"}, "bad name": {Campaign: "a b",
			Recipients: []tasks.Recipient{{EmailAddress: "ada@example.com"}}},
	} {
		if _, err := b.client.BulkInvite(ctx, request); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestABulkWithoutANameAddsNothingWhenRepeated(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	list := make([]tasks.Recipient, 2500) // several chunks of an upload
	for i := range list {
		list[i].EmailAddress = fmt.Sprintf("p%d@example.com", i)
	}
	first, err := b.client.BulkInvite(ctx, tasks.BulkRequest{Recipients: list})
	if err != nil || first.Bulk.Added != 2500 {
		t.Fatalf("%+v, %v", first.Bulk, err)
	}
	again, err := b.client.BulkInvite(ctx, tasks.BulkRequest{Recipients: list})
	if err != nil || again.Bulk.Added != 0 || again.Bulk.Known != 2500 || again.Bulk.Campaign != first.Bulk.Campaign ||
		again.ID != first.ID {
		t.Errorf("%+v, %v", again.Bulk, err)
	}
	each, err := b.client.BulkInvite(ctx, tasks.BulkRequest{Each: slices.Values(list)})
	if err != nil || each.Bulk.Known != 2500 || each.Bulk.Campaign != first.Bulk.Campaign {
		t.Errorf("the same list, not in memory together: %+v, %v", each.Bulk, err)
	}
	if _, err := b.client.BulkInvite(ctx, tasks.BulkRequest{Each: slices.Values(list[:0])}); err == nil {
		t.Error("a list without anybody was accepted")
	}
	list[0].NoNotify = true
	other, err := b.client.BulkInvite(ctx, tasks.BulkRequest{Recipients: list})
	if err != nil || other.Bulk.Campaign == first.Bulk.Campaign {
		t.Errorf("other options have the same name: %+v, %v", other.Bulk, err)
	}
	if _, err := b.client.BulkInvite(ctx, tasks.BulkRequest{Campaign: first.Bulk.Campaign, Recipients: list},
		tasks.In(time.Hour)); err == nil {
		t.Error("a start was accepted for a campaign that has begun")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	recipient := tasks.Recipient{EmailAddress: "ada@example.com"}
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	task, err := b.client.Invite(ctx, recipient, tasks.At(at))
	if err != nil || task.State != tasks.StateScheduled || !task.ScheduledAt.Equal(at) {
		t.Errorf("%+v, %v", task, err)
	}
	if status, err := b.client.Status(ctx, task.ID); err != nil || status.State != tasks.StateScheduled ||
		!status.ScheduledAt.Equal(at) {
		t.Errorf("status %+v, %v", status, err)
	}
	if _, err := b.client.Invite(ctx, recipient, tasks.ID("bulk:x:1")); err == nil {
		t.Error("an id with a colon was accepted")
	}
	if _, err := b.client.Status(ctx, "nobody"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("status of nobody: %v", err)
	}
}

// TestAddressesAreCleaned: the same address, as it comes out of a web page, makes the same task.
func TestAddressesAreCleaned(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	const pasted = "\u00A0mailto:ada@example.com\u200B\uFEFF "
	for id, enqueue := range map[string]func(address string) (tasks.Task, error){
		"invite": func(address string) (tasks.Task, error) {
			return b.client.Invite(ctx, tasks.Recipient{EmailAddress: address}, tasks.ID("invite"))
		},
		"revoke": func(address string) (tasks.Task, error) {
			return b.client.RevokeEmail(ctx, address, tasks.ID("revoke"))
		},
		"delete": func(address string) (tasks.Task, error) {
			return b.client.DeleteEmail(ctx, address, tasks.ID("delete"))
		},
		"bulk": func(address string) (tasks.Task, error) {
			people := []tasks.Recipient{{EmailAddress: address}}
			task, err := b.client.BulkInvite(ctx, tasks.BulkRequest{Campaign: "bulk", Recipients: people})
			if err == nil && task.Bulk.Known > 0 {
				err = tasks.ErrExists
			}
			return task, err
		},
	} {
		if _, err := enqueue(pasted); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := enqueue("ada@example.com"); !errors.Is(err, tasks.ErrExists) {
			t.Errorf("%s again: %v", id, err)
		}
	}
}

func TestAMalformedNamespaceIsRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "a b", "a:b", "{a}", strings.Repeat("a", 33)} {
		client, err := tasks.NewClient(tasks.Namespace(bad))
		if client != nil || err == nil || !strings.HasPrefix(err.Error(), "tasks.Namespace: got ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestProducersStayLight: a program that enqueues does not carry the Clerk SDK or the worker.
func TestProducersStayLight(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "example.com/usher/tasks").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, heavy := range []string{"clerk", "usher/internal/worker", "zerolog", "prometheus", "kong", "miniredis"} {
		for dep := range strings.Lines(string(out)) {
			if strings.Contains(dep, heavy) {
				t.Errorf("tasks imports %s", strings.TrimSpace(dep))
			}
		}
	}
}

func TestARevocationIsOfOneThing(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	byID, err1 := b.client.Revoke(ctx, "inv_2bF7QcNnvZp0a1b2c3d4e5f6g7h")
	byAddress, err2 := b.client.RevokeEmail(ctx, " Ada@Example.com ")
	byCampaign, err3 := b.client.RevokeCampaign(ctx, "spring")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for task, want := range map[tasks.Task]string{
		byID:      `{"v":1,"invitation_id":"inv_2bF7QcNnvZp0a1b2c3d4e5f6g7h"}`,
		byAddress: `{"v":1,"email_address":"Ada@Example.com"}`, byCampaign: `{"v":1,"campaign":"spring"}`,
	} {
		info, err := b.inspector.GetTaskInfo("test:housekeeping", task.ID)
		if err != nil || string(info.Payload) != want {
			t.Errorf("%s, %v, want %s", info.Payload, err, want)
		}
		if _, err := tasks.DecodeRevoke(info.Payload); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, payload := range []string{
		`{"v":1}`, `{"v":1,"campaign":"a b"}`, `{"v":1,"email_address":"ada"}`,
		`{"v":1,"email_address":" ada@example.com"}`,
		`{"v":1,"campaign":"spring","email_address":"ada@example.com"}`,
		`{"v":1,"campaign":"spring","invitation_id":"inv_2bF7QcNnvZp0a1b2c3d4e5f6g7h"}`,
	} {
		if _, err := tasks.DecodeRevoke([]byte(payload)); err == nil {
			t.Errorf("%s was accepted", payload)
		} else if strings.Contains(err.Error(), "ada@") {
			t.Errorf("the error quotes the payload: %v", err)
		}
	}
	_, err1 = b.client.RevokeEmail(ctx, "ada")
	_, err2 = b.client.RevokeCampaign(ctx, "")
	for _, err := range []error{err1, err2} {
		if _, invalid := errors.AsType[*tasks.InvalidError](err); !invalid {
			t.Errorf("%v", err)
		}
	}
}

// TestMetadataIsBoundedAsClerkBoundsIt: what is enqueued, but not what earlier versions have queued.
func TestMetadataIsBoundedAsClerkBoundsIt(t *testing.T) {
	t.Parallel()
	r := tasks.Recipient{EmailAddress: "ada@example.com", PublicMetadata: map[string]any{"x": ""}}
	r.PublicMetadata["x"] = strings.Repeat("<", tasks.MaxMetadataBytes-len(`{"x":""}`))
	if err := r.Validate(); err != nil {
		t.Errorf("at the bound: %v", err)
	}
	r.PublicMetadata["x"] = r.PublicMetadata["x"].(string) + "<"
	client, err := tasks.NewClient(tasks.RedisURL("redis://127.0.0.1:1/0")) // where nothing listens
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, single := client.Invite(t.Context(), r)
	_, bulk := client.BulkInvite(t.Context(), tasks.BulkRequest{Recipients: []tasks.Recipient{r}})
	for index, err := range map[int]error{-1: single, 0: bulk} {
		fault, ok := errors.AsType[*tasks.InvalidError](err)
		if !ok || fault.Field != "public_metadata" || fault.Index != index {
			t.Errorf("one more: %v", err)
		}
	}
	data, err := json.Marshal(tasks.InvitePayload{Version: tasks.Version, Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.DecodeInvite(data); err != nil {
		t.Errorf("one that is queued: %v", err)
	}
}
