package main

import (
	"context"
	"time"

	"example.com/usher/internal/policy"
)

// load is what Redis and the first worker did in a span, or had done by an instant.
type load struct {
	at       time.Time
	span     time.Duration // up to at
	commands int64
	cpu      time.Duration
}

// reading is the load since Redis and the worker were started.
func (s *stage) reading(ctx context.Context) (load, error) {
	cpu, err := cpuTime(s.workers[0].PID())
	if err != nil {
		return load{}, err
	}
	commands, err := s.redis.commands(ctx)
	return load{at: time.Now(), commands: commands, cpu: cpu}, err
}

// since is the load from an earlier reading until now.
func (s *stage) since(ctx context.Context, earlier load) (load, error) {
	now, err := s.reading(ctx)
	now.span, now.cpu = now.at.Sub(earlier.at), now.cpu-earlier.cpu
	now.commands -= earlier.commands + 1 // the earlier reading is a command itself
	return now, err
}

// watch is the load of the time to come.
func (s *stage) watch(ctx context.Context, span time.Duration) (load, error) {
	before, err := s.reading(ctx)
	if err != nil {
		return load{}, err
	}
	if err := policy.Sleep(ctx, span); err != nil {
		return load{}, err
	}
	return s.since(ctx, before)
}
