package main

import (
	"fmt"
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

func TestIntentsTellCallsUnderWayFromOthers(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	rdb := testkit.Client(t, server.Addr)
	now, past := time.Now().Add(time.Minute).UnixMilli(), time.Now().Add(-time.Minute).UnixMilli()
	for key, fields := range map[string][]any{
		"usher:{once}:i:\x00*[under]way": {"c:storm", fmt.Sprintf("c|one|%d|1", now), "=inv_1", "1"},
		"usher:{once}:i:killed":          {"t:invite", fmt.Sprintf("c|two|%d|1", past)},
		"usher:{once}:i:unknown": {"t:invite", fmt.Sprintf("u|three|%d|1", now), "=inv_2",
			fmt.Sprintf("c|four|%d|1", now)},
		"usher:{once}:t:another": {"t:invite", fmt.Sprintf("c|five|%d|1", now)},
	} {
		if err := rdb.HSet(t.Context(), key, fields...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	i := intents{rdb: rdb}
	under, err := i.underWay(t.Context())
	if err != nil || len(under) != 1 {
		t.Errorf("under way are %v, %v; want one", under, err)
	}
	all, err := i.claimed(t.Context())
	if err != nil || len(all) != 2 || !under.shares(all) {
		t.Errorf("claimed are %v, %v; want that one and the killed one's", all, err)
	}
	server.Kill()
	if _, err := i.underWay(t.Context()); err == nil {
		t.Error("a Redis that is away is no error")
	}
}
