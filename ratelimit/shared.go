package ratelimit

import "sync"

// shared is a report that goroutines of one process share if they make it at the same time: it is made once for all
// who came before it began. Those who come while it is under way share the next one.
type shared struct {
	turn chan struct{} // holds a token while a report is made

	mu   sync.Mutex
	next *report
}

// report is one report.
type report struct {
	done chan struct{}
	err  error
}

func newShared() *shared { return &shared{turn: make(chan struct{}, 1)} }

// success gives what successes share that are about the same.
func (l *Limiter) success(about string) *shared {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.successes[about]
	if s == nil {
		s = newShared()
		l.successes[about] = s
	}
	return s
}

// do returns when tell was called by anybody after do was. The answer is that of whoever called it, and 0 for the
// others; the error is everybody's.
func (s *shared) do(tell func() (int, error)) (answer int, err error) {
	s.mu.Lock()
	mine := s.next
	leads := mine == nil
	if leads {
		mine = &report{done: make(chan struct{})}
		s.next = mine
	}
	s.mu.Unlock()
	if !leads {
		<-mine.done
		return 0, mine.err
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	defer close(mine.done)
	answer, mine.err = tell()
	return answer, mine.err
}
