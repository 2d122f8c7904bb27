package main

import (
	"errors"
	"fmt"
	"strings"

	"example.com/usher/internal/testkit"
)

// maxAttempts is out of the reach of what the scenarios break.
const maxAttempts = "50"

// prefixes are what the paths of Clerk's API begin with, for a worker at an even place and at an odd one: the
// sandbox knows both, and its record of requests tells by them whose they are.
func prefixes() []string { return []string{"/v1", ""} }

// placeOf is the place of the worker, among two, that sent a request of this path.
func placeOf(path string) int { return oneIf(!strings.HasPrefix(path, prefixes()[0]+"/")) }

// startWorkers starts n workers.
func (s *stage) startWorkers(n int) error {
	for range n {
		if _, err := s.startWorker(); err != nil {
			return err
		}
	}
	return nil
}

// startWorker starts a worker at the next place, which ends with the stage.
func (s *stage) startWorker(env ...string) (*testkit.Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.workerAt(len(s.workers), env...)
	if err == nil {
		s.workers = append(s.workers, p)
	}
	return p, err
}

// workerAt starts a worker at a place. In mixed, every other one is of the earlier build.
func (s *stage) workerAt(place int, env ...string) (*testkit.Process, error) {
	set := s.scenario.setting
	prefix := prefixes()[place%len(prefixes())]
	base := []string{
		"REDIS_URL=" + s.redis.URL(), "CLERK_SECRET_KEY=" + clerkKey, "CLERK_API_URL=" + s.clerk.URL() + prefix,
		"USHER_LIMIT_CREATE=" + set.create, "USHER_LIMIT_BULK=" + set.bulk, "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=0",
		"USHER_TIMEOUT=" + set.timeout.String(), "USHER_SETTLE=" + set.settle.String(),
		"USHER_MAX_ATTEMPTS=" + maxAttempts,
		"USHER_BACKOFF_MIN=200ms", "USHER_BACKOFF_MAX=2s", "USHER_ADMIN_ADDR=off", "USHER_LOG_LEVEL=debug",
	}
	name, path := fmt.Sprintf("worker-%d", place), s.commands.worker()
	if s.starts++; s.scenario.name == mixed && s.starts%2 == 0 {
		name, path = name+"-old", s.old.worker()
	}
	return testkit.Start(testkit.Command{Name: name, Path: path, Env: append(base, env...), Dir: s.dir})
}

// replace kills the workers at some places and starts others there.
func (s *stage) replace(places []int) error {
	victims := make([]*testkit.Process, len(places))
	s.mu.Lock()
	for i, place := range places {
		victims[i], s.workers[place] = s.workers[place], nil
	}
	s.mu.Unlock()
	for _, victim := range victims {
		victim.Kill()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, place := range places {
		var err error
		if s.workers[place], err = s.workerAt(place); err != nil {
			return err
		}
	}
	return nil
}

// workersAlive is an error when one has ended by itself.
func (s *stage) workersAlive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.workers {
		if p != nil {
			errs = append(errs, p.Alive())
		}
	}
	return errors.Join(errs...)
}

func (s *stage) killWorkers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.workers {
		if p != nil {
			p.Kill()
		}
	}
	s.workers = nil
}
