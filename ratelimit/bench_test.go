package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

// BenchmarkPermit compares a permit taken and settled with two of the plainest commands there are.
func BenchmarkPermit(b *testing.B) {
	rdb := testkit.Client(b, testkit.RunRedis(b).Addr)
	ctx := context.Background()
	b.Run("Try+Done", func(b *testing.B) {
		l := newLimiter(b, rdb, Limit{Name: "calls", N: maxPlaces, Window: time.Second},
			Limit{Name: "overall", N: maxPlaces, Window: time.Second})
		for b.Loop() {
			p, _, err := l.Try(ctx, time.Minute, Want{Limit: "calls", Share: "some", Max: maxPlaces / 2},
				Want{Limit: "overall"})
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Done(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("2xINCR", func(b *testing.B) {
		for b.Loop() {
			for range 2 {
				if err := rdb.Incr(ctx, "counter").Err(); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkWaiting lets goroutines wait behind a closed window and counts what they send: scripts/op is the same.
func BenchmarkWaiting(b *testing.B) {
	s := testkit.RunRedis(b)
	for _, waiters := range []int{400, 50_000} {
		b.Run(fmt.Sprint(waiters), func(b *testing.B) {
			rdb := testkit.Client(b, s.Addr)
			var sent counter
			rdb.AddHook(&sent)
			name := fmt.Sprintf("calls-%d-%d", waiters, b.N)
			l := newLimiter(b, rdb, Limit{Name: name, N: 1, Window: time.Hour})
			if _, err := l.Acquire(b.Context(), hold, Want{Limit: name}); err != nil {
				b.Fatal(err)
			}
			before, rounds := sent.scripts.Load(), 0
			for b.Loop() {
				rounds++
				ctx, cancel := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				for range waiters {
					wg.Go(func() { _, _ = l.Acquire(ctx, hold, Want{Limit: name}) })
				}
				waitUntil(b, "all wait", func() bool {
					return l.waiters() == waiters && sent.scripts.Load() >= before+int64(rounds)
				})
				cancel()
				wg.Wait()
			}
			b.ReportMetric(float64(sent.scripts.Load()-before)/float64(rounds), "scripts/op")
		})
	}
}
