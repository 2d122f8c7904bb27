package desk

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/tasks"
)

func setup(t *testing.T) (*Desk, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	d, err := New(rdb, tasks.DefaultNamespace, "")
	if err != nil {
		t.Fatal(err)
	}
	return d, server
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// campaign makes a campaign of n recipients, bulk0@example.com and so on.
func (d *Desk) campaign(t *testing.T, name string, n int) {
	t.Helper()
	request := tasks.BulkRequest{Campaign: name}
	for i := range n {
		recipient := tasks.Recipient{EmailAddress: fmt.Sprintf("bulk%d@example.com", i)}
		request.Recipients = append(request.Recipients, recipient)
	}
	_, err := d.BulkInvite(t.Context(), request)
	must(t, err)
}

// letter writes a dead letter of a campaign, or of none.
func (d *Desk) letter(t *testing.T, id, campaign, code string) {
	t.Helper()
	must(t, d.DeadLetters.Put(t.Context(), deadletter.Entry{
		ID: id, TaskID: id, Type: tasks.TypeRevoke, Campaign: campaign, FailedAt: time.Now().UTC(),
		Failure: fate.Failure{Reason: fate.ReasonRejected, Code: code}, Payload: []byte("{}"),
	}))
}
