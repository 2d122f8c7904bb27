package worker

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

func TestTroubleThatLastsIsToldOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var buffer testkit.Buffer
		base := zerolog.New(&buffer)
		log := base.Hook(NewTroubles(base))
		for range 150 {
			log.Warn().Err(errors.New("refused")).Msg("no permit: Redis cannot answer")
			log.Warn().Msg("recipient is dead")
			time.Sleep(time.Second)
		}
		time.Sleep(troubleOver)
		text := buffer.String()
		for part, want := range map[string]int{
			"no permit: Redis cannot answer": 3, `"repeated":60`: 2, "recipient is dead": 150,
			`"repeated":150,"lasted_seconds":149,"message":"trouble is over"`: 1,
		} {
			if n := strings.Count(text, part); n != want {
				t.Errorf("%q is told %d times, want %d", part, n, want)
			}
		}
		log.Warn().Msg("no permit: Redis cannot answer")
		time.Sleep(troubleOver)
		if more := strings.TrimPrefix(buffer.String(), text); strings.Count(more, "\n") != 1 {
			t.Errorf("trouble of a moment is told by %s", more)
		}
	})
}

// TestTroubleIsNotOverBetweenTwoLooks: who looks for stranded tasks waits in between, and then for a Redis that hangs.
func TestTroubleIsNotOverBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var buffer testkit.Buffer
		base := zerolog.New(&buffer)
		log := base.Hook(NewTroubles(base))
		const hangs = 12 * time.Second
		for range 10 {
			log.Warn().Msg("no stranded tasks looked for: Redis cannot answer")
			time.Sleep(policy.MendInterval + hangs)
		}
		time.Sleep(troubleOver)
		text := buffer.String()
		if told, over := strings.Count(text, "no stranded tasks looked for: "), strings.Count(text, "is over"); told != 4 ||
			over != 1 {
			t.Errorf("it is told %d times, and over %d times:\n%s", told, over, text)
		}
	})
}

func TestWhatAsynqRepeatsIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var buffer testkit.Buffer
		base := zerolog.New(&buffer)
		log := &asynqLog{base.Hook(newAsynqTroubles(base))}
		for _, id := range []string{"a", "b"} {
			log.Error("Failed to extend lease for tasks [", id, "]: refused")
			log.Error("Dequeue error: refused ", id)
		}
		if text := buffer.String(); strings.Count(text, "\n") != 2 {
			t.Errorf("it is told by %s", text)
		}
		time.Sleep(troubleOver)
	})
}

// TestWhatTheSweepMeetsIsTrouble: without Redis it fails every two seconds, and each failure is told once.
func TestWhatTheSweepMeetsIsTrouble(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	server.Close()
	var buffer testkit.Buffer
	base := zerolog.New(&buffer)
	w := &Worker{Config: Config{Redis: rdb, Namespace: "test", Log: base.Hook(NewTroubles(base))}}
	for range 3 {
		w.sweepOnce(t.Context(), asynq.NewClientFromRedisClient(rdb), ledger.New(rdb, "test"))
	}
	for _, what := range []string{noDriver, noUpload} {
		if n := strings.Count(buffer.String(), what); n != 1 {
			t.Errorf("%q is told %d times:\n%s", what, n, buffer.String())
		}
	}
}
