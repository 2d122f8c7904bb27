package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// stage is what one scenario is played on with one seed: a fresh Redis, a fresh sandbox Clerk, and the workers that
// the scenario starts.
type stage struct {
	scenario scenario
	seed     uint64
	commands binaries
	old      binaries // of an earlier build; only mixed has it
	dir      string
	redis    *testkit.Redis
	clerk    *sandbox
	client   *tasks.Client
	intents  intents

	mu         sync.Mutex
	workers    []*testkit.Process // by place; nil while one is replaced
	starts     int                // of workers
	tally      tally
	violations []string
	notes      []string
}

// on sets the stage, plays, and clears it away.
func (s *stage) on(ctx context.Context, play func(ctx context.Context, s *stage) error) (err error) {
	if s.redis, err = testkit.StartRedis(ctx, s.dir, testkit.Durable()...); err != nil {
		return err
	}
	defer s.redis.Kill()
	rdb := redis.NewClient(&redis.Options{Addr: s.redis.Addr})
	defer rdb.Close()
	s.intents = intents{rdb: rdb}
	seed := s.rng("sandbox").Uint64()
	if s.clerk, err = startSandbox(ctx, s.commands.worker(), s.dir, s.scenario.setting, seed); err != nil {
		return err
	}
	defer s.clerk.Kill()
	defer s.killWorkers()
	if s.client, err = tasks.NewClient(tasks.RedisURL(s.redis.URL())); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	defer s.client.Close()
	return errors.Join(play(ctx, s), s.conclude(ctx))
}

// conclude takes down what the sandbox saw, and looks through the logs.
func (s *stage) conclude(ctx context.Context) error {
	requests, err := s.clerk.Requests(ctx, 0)
	if err != nil {
		return err
	}
	s.tally.sawRequests(requests, s.clerk.faults)
	if err := s.checkLogs(); err != nil {
		return err
	}
	sent, err := s.clerk.Ledger(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.keep("requests.json", requests), s.keep("ledger.json", sent))
}

// keep writes something down for whoever looks into a failure.
func (s *stage) keep(name string, what any) error {
	data, err := json.MarshalIndent(what, "", " ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
		return fmt.Errorf("keeping %s: %w", name, err)
	}
	return nil
}

// rng draws for one actor, so that what one of them draws does not depend on how fast the others are.
func (s *stage) rng(actor string) *rand.Rand {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%s/%s", s.scenario.name, actor)
	return rand.New(rand.NewPCG(s.seed, hash.Sum64()))
}

// wrong records something that did not hold.
func (s *stage) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// note records a figure that the scenario's line tells.
func (s *stage) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// count changes the tally.
func (s *stage) count(change func(t *tally)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.tally)
}

// bear lets a scenario that waited in vain go on to its checks, which tell what is missing.
func (s *stage) bear(err error) error {
	if errors.Is(err, testkit.ErrTooLate) {
		s.wrong("%v", err)
		return nil
	}
	return err
}
