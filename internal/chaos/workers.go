package main

import (
	"errors"
	"slices"
)

// maxAttempts is out of the reach of what the scenarios break.
const maxAttempts = "50"

// startWorkers starts n workers.
func (s *stage) startWorkers(n int, env ...string) error {
	for range n {
		if _, err := s.startWorker(env...); err != nil {
			return err
		}
	}
	return nil
}

// startWorker starts a worker, which ends with the stage.
func (s *stage) startWorker(env ...string) (*process, error) {
	set := s.scenario.setting
	base := []string{
		"REDIS_URL=" + s.redis.url(), "CLERK_SECRET_KEY=" + clerkKey, "CLERK_API_URL=" + s.clerk.url(),
		"USHER_LIMIT_CREATE=" + set.create, "USHER_LIMIT_BULK=" + set.bulk, "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=0",
		"USHER_TIMEOUT=" + set.timeout.String(), "USHER_SETTLE=" + set.settle.String(), "USHER_MAX_ATTEMPTS=" + maxAttempts,
		"USHER_BACKOFF_MIN=200ms", "USHER_BACKOFF_MAX=2s", "USHER_ADMIN_ADDR=off", "USHER_LOG_LEVEL=debug",
	}
	p, err := start(command{name: "worker", path: s.commands.worker(), env: append(base, env...), dir: s.dir})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers = append(s.workers, p)
	return p, nil
}

// replace kills workers and starts others in their places.
func (s *stage) replace(places []int) error {
	s.mu.Lock()
	var victims []*process
	for _, place := range places {
		victims = append(victims, s.workers[place])
	}
	s.workers = slices.DeleteFunc(s.workers, func(p *process) bool { return slices.Contains(victims, p) })
	s.mu.Unlock()
	for _, victim := range victims {
		victim.kill()
	}
	return s.startWorkers(len(victims))
}

// workersAlive is an error when one has ended by itself.
func (s *stage) workersAlive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.workers {
		errs = append(errs, p.alive())
	}
	return errors.Join(errs...)
}

func (s *stage) killWorkers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.workers {
		p.kill()
	}
	s.workers = nil
}
