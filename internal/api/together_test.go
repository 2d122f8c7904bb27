package api

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/testkit"
)

// gate holds back what travels together.
type gate struct {
	came, goOn chan struct{} // one for each way
	asked      atomic.Int64

	mu    sync.Mutex
	sizes []int
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		g.asked.Add(1)
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		g.mu.Lock()
		g.sizes = append(g.sizes, len(cmds))
		g.mu.Unlock()
		g.came <- struct{}{}
		<-g.goOn
		return next(ctx, cmds)
	}
}

// TestCommandsTravelTogether: those that come while one is under way; each with an answer of its own. What has a time
// of its own, and what is no part of an invitation, waits for nobody.
func TestCommandsTravelTogether(t *testing.T) {
	t.Parallel()
	rdb := testkit.MiniRedis(t)
	ctx := context.Background() // without a deadline
	testkit.NoError(t, rdb.HSet(ctx, "hash", "field", "value").Err())
	testkit.NoError(t, rdb.Set(ctx, "text", "value", 0).Err())
	g := &gate{came: make(chan struct{}, 100), goOn: make(chan struct{})}
	rdb.AddHook(g)
	rdb.AddHook(newTogether(rdb, zerolog.Nop()))

	var asking sync.WaitGroup
	ask := func(key, want string) {
		asking.Go(func() {
			if got := fmt.Sprint(rdb.HGet(ctx, key, "field").Err()); !strings.HasPrefix(got, want) {
				t.Errorf("%s answers %s, want %s", key, got, want)
			}
		})
	}
	ask("hash", "<nil>")
	<-g.came
	for range 20 {
		ask("hash", "<nil>")
		ask("none", redis.Nil.Error())
		ask("text", "WRONGTYPE")
	}
	timed, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if value, err := rdb.HGet(timed, "hash", "field").Result(); err != nil || value != "value" {
		t.Errorf("with a time of its own: %q, %v", value, err)
	}
	if err := rdb.Get(ctx, "text").Err(); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "all have asked", func() bool { return g.asked.Load() >= 61 })
	close(g.goOn)
	asking.Wait()
	if len(g.sizes) > 10 {
		t.Errorf("they travelled as %v", g.sizes)
	}
}

// TestAWayEndsInTime: it is not gone again and again while Redis hangs.
func TestAWayEndsInTime(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(newTogether(rdb, zerolog.Nop()))
	ctx := context.Background()
	testkit.NoError(t, rdb.HSet(ctx, "hash", "field", "value").Err())
	testkit.NoError(t, server.Hang())
	began := time.Now()
	if err := rdb.HGet(ctx, "hash", "field").Err(); err == nil || time.Since(began) > 3*wayTime {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	testkit.NoError(t, server.GoOn())
	testkit.NoError(t, rdb.HGet(ctx, "hash", "field").Err())
}
