package intent_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
)

// TestASettlementThatRedisBreaksOffLetsNobodyCallAgain: Redis refuses one command after the other in the middle of it.
// Repeated, it is whole; and if the worker dies before that, the task makes no second call.
func TestASettlementThatRedisBreaksOffLetsNobodyCallAgain(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	admin := testkit.Client(t, server.Addr)
	for _, command := range []string{"hset", "hsetnx", "hdel", "pexpire", "set", "zadd"} {
		may := func(sign string) {
			testkit.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "usher", "on", ">p", "~*", "+@all",
				sign+command).Err())
		}
		may("+")
		rdb := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "usher", Password: "p"})
		t.Cleanup(func() { _ = rdb.Close() })
		for kind, end := range map[string]fate.End{
			"made": fate.IntentMade, "found": fate.IntentFound, "dead": fate.IntentRefused,
		} {
			b := bundle{intent.NewTasks(rdb, command+kind), t, rdb, time.Now().UnixMilli()}
			b.want("a", "1", time.Minute, fate.VerdictGranted)
			ending := intent.Settlement{
				Wish: b.wish("a"), Token: "1", End: end, InvitationID: "inv_1",
				Record: &record.Record{State: record.Done, EmailAddress: "a@example.com"},
			}
			if kind == "dead" {
				ending.Letter = b.died("a", "1", end).Letter
				ending.Record.State = record.Dead
			}
			may("-")
			err := b.Settle(t.Context(), ending)
			may("+")
			if err == nil && (command != "zadd" || kind == "dead") {
				t.Errorf("%s, %s: it was not refused", command, kind)
			}
			if got := b.claim("a", "2", time.Minute).Verdict; got == fate.VerdictGranted {
				t.Errorf("%s, %s: another call was granted", command, kind)
			}
			if err := b.Settle(t.Context(), ending); err != nil {
				t.Errorf("%s, %s: repeated: %v", command, kind, err)
			}
			if got := b.claim("a", "3", time.Minute).Verdict; got != fate.VerdictEnded {
				t.Errorf("%s, %s: the task is %s", command, kind, got)
			}
			if got := b.claim("b", "4", time.Minute).Verdict; got != fate.VerdictGranted {
				t.Errorf("%s, %s: another task for the address is %s", command, kind, got)
			}
			want := 0
			if kind == "dead" {
				want = 1
			}
			if n, err := deadletter.NewStore(rdb, command+kind).Count(t.Context()); n != want || err != nil {
				t.Errorf("%s, %s: %d dead letters, %v", command, kind, n, err)
			}
		}
	}
}
