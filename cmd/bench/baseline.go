package main

import (
	"fmt"
	"os"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
)

// These are the figures of Usher's own lane for invite tasks, so that what is compared is how limits are met, and not
// how a server is tuned: asynq's defaults would look for tasks and for retries five times less often.
const (
	concurrency  = 200
	poolSize     = 32
	pickup       = 200 * time.Millisecond
	delayedCheck = time.Second
)

// serveBaseline is the worker that Usher is measured against: asynq used as its wiki shows for a rate limit. A task
// is a call; a call that Clerk refuses with 429 goes back to the queue for as long as Clerk says. It knows no
// budget. It returns after SIGTERM or SIGINT.
func serveBaseline() error {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	options.PoolSize = poolSize
	rdb := redis.NewClient(options)
	defer rdb.Close()
	clerk, err := clerkclient.New(clerkclient.Config{
		Key: os.Getenv("CLERK_SECRET_KEY"), BaseURL: os.Getenv("CLERK_API_URL"),
	})
	if err != nil {
		return fmt.Errorf("CLERK_SECRET_KEY or CLERK_API_URL: %w", err)
	}
	defer clerk.Close()
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              concurrency,
		TaskCheckInterval:        pickup,
		DelayedTaskCheckInterval: delayedCheck,
		IsFailure:                func(err error) bool { return !isRateLimit(err) },
		RetryDelayFunc:           retryDelay,
		LogLevel:                 asynq.ErrorLevel,
	})
	h := handler{clerk: clerk, queue: asynq.NewClientFromRedisClient(rdb)}
	mux := asynq.NewServeMux()
	mux.HandleFunc(typeInvite, h.invite)
	mux.HandleFunc(typeBulkInvite, h.bulkInvite)
	return server.Run(mux)
}
