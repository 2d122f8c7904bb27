package timings

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

func TestFiguresOfAllWorkersTogether(t *testing.T) {
	t.Parallel()
	rdb := testkit.MiniRedis(t)
	publish := func(record func(*Recorder)) {
		r := NewRecorder("test")
		record(r)
		means, changed := r.means()
		if !changed {
			t.Fatal("nothing changed")
		}
		if _, again := r.means(); again {
			t.Error("it changed again")
		}
		put(t, rdb, r, published{At: time.Now(), Means: means})
	}
	publish(func(r *Recorder) {
		for range 2 * kept { // only the last ones count
			r.Record("bulk", time.Hour, time.Hour)
		}
		for range kept {
			r.Record("bulk", time.Second, 100*time.Millisecond)
		}
	})
	publish(func(r *Recorder) {
		for range kept {
			r.Record("bulk", 3*time.Second, 300*time.Millisecond)
		}
		r.Record("create", 0, time.Second)
	})
	put(t, rdb, NewRecorder("test"), published{At: time.Now().Add(-time.Hour), Means: []Mean{{Call: "old", Calls: 1}}})
	rdb.HSet(t.Context(), "test:timings", "garbage", "{")
	rdb.HSet(t.Context(), "test:timings", "more", `{"at":"2999-01-01T00:00:00Z","means":[{"call":"x","calls":-7}]}`)

	means, err := Read(t.Context(), rdb, "test")
	want := []Mean{{"bulk", 2 * kept, 2 * time.Second, 200 * time.Millisecond}, {"create", 1, 0, time.Second}}
	if err != nil || len(means) != 2 || means[0] != want[0] || means[1] != want[1] {
		t.Errorf("%+v, %v, want %+v", means, err, want)
	}
}

func put(t *testing.T, rdb *redis.Client, r *Recorder, p published) {
	t.Helper()
	data := mustJSON(t, p)
	if err := rdb.HSet(t.Context(), r.key, r.worker, data).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsPublishedWhileNothingIsCalled(t *testing.T) {
	writes := 0
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{})
		defer rdb.Close()
		rdb.AddHook(countingHook{&writes})
		ctx, cancel := context.WithCancel(t.Context())
		r := NewRecorder("test")
		go r.Publish(ctx, rdb)
		time.Sleep(time.Hour) // in the bubble
		if writes != 0 {
			t.Errorf("%d writes without a call", writes)
		}
		r.Record("bulk", 0, 0)
		time.Sleep(time.Hour) // in the bubble
		cancel()
		synctest.Wait()
	})
	if writes != 1 {
		t.Errorf("%d writes after one call", writes)
	}
}
