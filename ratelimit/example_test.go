package ratelimit_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/usher/ratelimit"
)

// open starts a Redis for the examples; a program connects to its own.
func open() (rdb *redis.Client, end func()) {
	mini, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	mini.SetTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	rdb = redis.NewClient(&redis.Options{Addr: mini.Addr()})
	return rdb, func() {
		rdb.Close()
		mini.Close()
	}
}

// A call needs a place in the limit of its endpoint and in the one for all endpoints together.
func ExampleLimiter_Acquire() {
	rdb, end := open()
	defer end()
	limiter, err := ratelimit.New(rdb, "example",
		ratelimit.Limit{Name: "mail", N: 100, Window: time.Hour},
		ratelimit.Limit{Name: "overall", N: 50, Window: 10 * time.Second},
	)
	if err != nil {
		log.Fatal(err)
	}
	call := func(ctx context.Context) error {
		permit, err := limiter.Acquire(ctx, 30*time.Second,
			ratelimit.Want{Limit: "mail"}, ratelimit.Want{Limit: "overall"})
		if err != nil {
			return err
		}
		defer permit.Release(ctx) // does nothing once the call was made

		httpCtx, cancel := context.WithDeadline(ctx, permit.Deadline())
		defer cancel()
		switch send(httpCtx) {
		case 429:
			return permit.Refuse(ctx, "mail", time.Minute) // what Retry-After said
		default:
			return permit.Done(ctx)
		}
	}
	fmt.Println(call(context.Background()))
	// Output: <nil>
}

func send(context.Context) (status int) { return 200 }

// Of five places background work may hold three, so that two are always left for people who wait.
func ExampleWant() {
	rdb, end := open()
	defer end()
	limiter, err := ratelimit.New(rdb, "example", ratelimit.Limit{Name: "mail", N: 5, Window: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	background := ratelimit.Want{Limit: "mail", Share: "background", Max: 3}
	for range 4 {
		permit, wait, err := limiter.Try(context.Background(), time.Minute, background)
		fmt.Println(permit != nil, wait, err)
	}
	permit, _, _ := limiter.Try(context.Background(), time.Minute, ratelimit.Want{Limit: "mail"})
	fmt.Println("urgent:", permit != nil)
	// Output:
	// true 0s <nil>
	// true 0s <nil>
	// true 0s <nil>
	// false 1h0m0s <nil>
	// urgent: true
}

// A status command shows limits whose figures it does not know.
func ExampleReadUsage() {
	rdb, end := open()
	defer end()
	ctx := context.Background()
	limiter, err := ratelimit.New(rdb, "example", ratelimit.Limit{Name: "mail", N: 2, Window: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	if err := limiter.Announce(ctx); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		permit, err := limiter.Acquire(ctx, time.Minute, ratelimit.Want{Limit: "mail"})
		if err != nil {
			log.Fatal(err)
		}
		if err := permit.Done(ctx); err != nil {
			log.Fatal(err)
		}
	}

	limits, err := ratelimit.ReadUsage(ctx, rdb, "example")
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range limits {
		fmt.Printf("%s: %d of %d per %v, next at %s\n", u.Name, u.Used, u.N, u.Window,
			u.NextFree.UTC().Format(time.TimeOnly))
	}
	// Output: mail: 2 of 2 per 1h0m0s, next at 13:00:00
}
