package worker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

const (
	// stateFresh is how long figures of the whole system are told again before they are read anew: many who scrape cost
	// Redis as much as one.
	stateFresh = 5 * time.Second
	// mostLabels bounds how many campaigns, and how many schedules, have figures of their own.
	mostLabels = 100
	// lettersLooked is how many of the newest dead letters are counted by their cause, and lettersFresh how long that is
	// told while they change. mostCauses have figures of their own.
	lettersLooked = 500
	lettersFresh  = time.Minute
	mostCauses    = 20
)

// everywhere ends the help of figures that every worker tells alike.
const everywhere = " Read from Redis, and equal on every replica: take it from one."

func stateDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("usher_"+name, help+everywhere, labels, nil)
}

// State tells at each scrape how the work stands, for all workers of a namespace together.
type State struct {
	rdb       redis.UniversalClient
	namespace string
	inspector *asynq.Inspector
	ledgers   *ledger.Ledgers
	letters   *deadletter.Store
	workers   *store.Workers

	queued, oldest, remaining, unsure, doubt, deadLetters, causes, alive, late, up *prometheus.Desc

	mu   sync.Mutex
	at   time.Time // when the figures were read
	last []prometheus.Metric

	byCause byCause
}

// byCause are the newest dead letters by their cause.
type byCause struct {
	asOf    int // how many there were
	newest  deadletter.Cursor
	read    time.Time
	figures []prometheus.Metric
}

// NewState gives the state of a namespace.
func NewState(rdb redis.UniversalClient, namespace string) *State {
	return &State{
		rdb: rdb, namespace: namespace, inspector: asynq.NewInspectorFromRedisClient(rdb),
		ledgers: ledger.New(rdb, namespace), letters: deadletter.NewStore(rdb, namespace),
		workers: store.NewWorkers(rdb, namespace),

		queued: stateDesc("queued_tasks", "Tasks that have not ended, by lane and state.", "lane", "state"),
		oldest: stateDesc("oldest_task_seconds",
			"Time since the first of the tasks that are at work or wait for it was enqueued; 0: there is none.", "lane"),
		remaining: stateDesc("campaign_remaining_recipients",
			"Recipients of a running campaign that have no outcome yet.", "campaign"),
		unsure: stateDesc("campaign_unsure_recipients",
			"Recipients of a running campaign of whose last call nobody knows whether it has invited.", "campaign"),
		doubt: stateDesc("campaign_oldest_doubt_seconds",
			"Time since the first call of an unsure recipient of a running campaign, of 50 that are asked about next and "+
				"50 that are asked about now; 0: none is.", "campaign"),
		deadLetters: stateDesc("dead_letters", "Dead letters that stand."),
		causes: stateDesc("newest_dead_letters",
			"Dead letters among the newest 500, by reason and code: the 20 most frequent causes, and other.",
			"reason", "code"),
		alive: stateDesc("workers", "Workers that live."),
		late: stateDesc("schedule_late_seconds",
			"Time since a tick of a schedule was due that was not taken; 0: none is.", "schedule"),
		up: prometheus.NewDesc("usher_redis_up",
			"1 if Redis has answered this worker at this scrape, and 0 if not.", nil, nil),
	}
}

// Describe is for [prometheus.Collector].
func (s *State) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		s.queued, s.oldest, s.remaining, s.unsure, s.doubt, s.deadLetters, s.causes, s.alive, s.late, s.up,
	} {
		out <- desc
	}
}

// Collect is for [prometheus.Collector]. Without Redis there is only the figure that says so.
func (s *State) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.at) >= stateFresh {
		ctx, cancel := context.WithTimeout(context.Background(), budgetsTimeout)
		defer cancel()
		figures, err := s.read(ctx)
		if s.last, s.at = figures, time.Now(); err != nil {
			s.last, s.at = nil, time.Time{}
		}
	}
	up := 0.0
	if s.last != nil {
		up = 1
	}
	out <- prometheus.MustNewConstMetric(s.up, prometheus.GaugeValue, up)
	for _, figure := range s.last {
		out <- figure
	}
}

func figure(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (s *State) read(ctx context.Context) (figures []prometheus.Metric, err error) {
	for _, part := range []func(context.Context) ([]prometheus.Metric, error){
		s.readQueues, s.readCampaigns, s.readRest, s.readSchedules,
	} {
		read, err := part(ctx)
		if err != nil {
			return nil, err
		}
		figures = append(figures, read...)
	}
	return figures, nil
}

func (s *State) readQueues(ctx context.Context) (figures []prometheus.Metric, err error) {
	for _, lane := range queues.Lanes() {
		w, err := queues.Count(ctx, s.rdb, s.namespace, lane)
		if err != nil {
			return nil, err
		}
		for state, n := range map[tasks.State]int{
			tasks.StatePending: w.Pending, tasks.StateActive: w.Active, tasks.StateScheduled: w.Scheduled,
			tasks.StateRetry: w.Retry,
		} {
			figures = append(figures, figure(s.queued, float64(n), string(lane), string(state)))
		}
		age, err := s.oldestIn(ctx, w.Queue)
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure(s.oldest, age.Seconds(), string(lane)))
	}
	return figures, nil
}

// oldestIn is the age of the first task of a queue that is at work or waits for it. Tasks are taken from the end of the
// list pending, and put before the others into active.
func (s *State) oldestIn(ctx context.Context, queue string) (age time.Duration, err error) {
	for _, list := range []string{"active", "pending"} {
		id, err := s.rdb.LIndex(ctx, queues.Key(queue, list), -1).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return 0, err
		}
		info, err := s.inspector.GetTaskInfo(queue, id)
		if err != nil {
			continue // it has ended meanwhile, or cannot be read
		}
		if at := tasks.LiveTask(info, record.Record{}).EnqueuedAt; !at.IsZero() {
			age = max(age, time.Since(at))
		}
	}
	return age, nil
}

func (s *State) readCampaigns(ctx context.Context) (figures []prometheus.Metric, err error) {
	standings, err := s.ledgers.Outlook(ctx)
	told := 0
	for _, c := range standings {
		if c.State != ledger.Running {
			continue
		}
		if told++; told > mostLabels {
			break
		}
		age := 0.0
		unsure := c.Unsure + c.Asked
		if unsure > 0 {
			since, err := s.ledgers.OldestDoubt(ctx, c.Name)
			if err != nil {
				return nil, err
			}
			if !since.IsZero() {
				age = max(0, time.Since(since).Seconds())
			}
		}
		figures = append(figures, figure(s.remaining, float64(c.Remaining()), c.Name),
			figure(s.unsure, float64(unsure), c.Name), figure(s.doubt, age, c.Name))
	}
	return figures, err
}

// readCauses counts the newest dead letters by their cause. As long as there are as many, and the newest is the same,
// they are not read again.
func (s *State) readCauses(ctx context.Context, letters int) ([]prometheus.Metric, error) {
	first, err := s.letters.Newest(ctx, deadletter.Filter{}, deadletter.Cursor{}, 1)
	if _, err = store.SplitPartial(err); err != nil {
		return nil, err
	}
	same := s.byCause.asOf == letters && s.byCause.newest == first.Next
	if same || len(first.Letters) > 0 && time.Since(s.byCause.read) < lettersFresh {
		return s.byCause.figures, nil
	}
	found, err := s.letters.Newest(ctx, deadletter.Filter{}, deadletter.Cursor{}, lettersLooked)
	if _, err = store.SplitPartial(err); err != nil {
		return nil, err
	}
	counts := map[[2]string]int{}
	for _, e := range found.Letters {
		counts[[2]string{label(string(e.Failure.Reason)), label(e.Failure.Code)}]++
	}
	s.byCause = byCause{letters, first.Next, time.Now(), s.ofCauses(counts)}
	return s.byCause.figures, nil
}

// ofCauses gives figures of the most frequent causes, and one of the others together.
func (s *State) ofCauses(counts map[[2]string]int) (figures []prometheus.Metric) {
	other := [2]string{"other", "other"}
	others := counts[other]
	delete(counts, other)
	causes := slices.SortedFunc(maps.Keys(counts), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), slices.Compare(a[:], b[:]))
	})
	for i, cause := range causes {
		if i >= mostCauses {
			others += counts[cause]
			continue
		}
		figures = append(figures, figure(s.causes, float64(counts[cause]), cause[0], cause[1]))
	}
	if others > 0 {
		figures = append(figures, figure(s.causes, float64(others), other[0], other[1]))
	}
	return figures
}

// label bounds a text that stands in Redis, and may be anything.
func label(text string) string {
	const longest = 100
	return strings.ToValidUTF8(text[:min(len(text), longest)], "")
}

func (s *State) readRest(ctx context.Context) (figures []prometheus.Metric, err error) {
	letters, err := s.letters.Count(ctx)
	if err != nil {
		return nil, err
	}
	causes, err := s.readCauses(ctx, letters)
	if err != nil {
		return nil, err
	}
	workers, _, err := s.workers.List(ctx)
	alive := 0
	for _, w := range workers {
		if w.Lives() {
			alive++
		}
	}
	return append(slices.Clone(causes), figure(s.deadLetters, float64(letters)), figure(s.alive, float64(alive))), err
}

// errManyLabels ends the reading of schedules when enough have figures.
var errManyLabels = errors.New("there are enough labels")

func (s *State) readSchedules(ctx context.Context) (figures []prometheus.Metric, err error) {
	err = schedule.Each(ctx, s.rdb, s.namespace, func(one schedule.Standing) error {
		if len(figures) == mostLabels {
			return errManyLabels
		}
		if one.State == schedule.Active && !one.Next.IsZero() {
			figures = append(figures, figure(s.late, max(0, time.Since(one.Next).Seconds()), one.Name))
		}
		return nil
	})
	if _, err = store.SplitPartial(err); errors.Is(err, errManyLabels) {
		err = nil
	}
	return figures, err
}
