// Package timings tells where the time of the last calls to Clerk went. Each worker publishes its own figures in Redis now and
// then, and whoever reads them sees all workers together.
package timings

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

const (
	kept       = 100 // calls of each kind in one worker
	interval   = 5 * time.Second
	fresh      = 15 * time.Minute // figures that are older are not shown
	maxWorkers = 1000             // whose figures are read
	maxFigures = 16 << 10         // bytes of one worker's figures
)

// LookUp is the kind under which look-ups before bulk calls are counted, each with all its calls.
const LookUp = "look-up"

// Mean is where the time of the last calls of one kind went, on average.
type Mean struct {
	Call   string        `json:"call"`
	Calls  int           `json:"calls"`
	Permit time.Duration `json:"permit"` // waiting for a permit
	Answer time.Duration `json:"answer"` // waiting for the answer; of a look-up, all of it
}

// Recorder keeps the last calls of one worker.
type Recorder struct {
	key, worker string

	mu      sync.Mutex
	last    map[string][]Mean // single calls
	changed bool
}

// NewRecorder gives a recorder that publishes in a namespace.
func NewRecorder(namespace string) *Recorder {
	return &Recorder{key: keyOf(namespace), worker: uuid.NewString(), last: map[string][]Mean{}}
}

func keyOf(namespace string) string { return namespace + ":timings" }

// Record notes one call.
func (r *Recorder) Record(call string, permit, answer time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := append(r.last[call], Mean{Call: call, Calls: 1, Permit: permit, Answer: answer})
	r.last[call] = last[max(0, len(last)-kept):]
	r.changed = true
}

// means sums up what was recorded, if anything since the last time.
func (r *Recorder) means() ([]Mean, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.changed
	r.changed = false
	var all []Mean
	for _, last := range r.last {
		all = append(all, last...)
	}
	return merge(all), changed
}

// published is what a worker's figures look like in Redis.
type published struct {
	At    time.Time `json:"at"`
	Means []Mean    `json:"means"`
}

// Publish writes the figures every few seconds, if there was a call, until the context ends. Figures that could not be written are
// written with the next ones.
func (r *Recorder) Publish(ctx context.Context, rdb redis.UniversalClient) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		means, changed := r.means()
		if !changed {
			continue
		}
		data, err := json.Marshal(published{At: time.Now().UTC(), Means: means})
		if err != nil {
			continue
		}
		pipe := rdb.Pipeline()
		pipe.HSet(ctx, r.key, r.worker, data)
		pipe.Expire(ctx, r.key, fresh)
		_, _ = pipe.Exec(ctx)
	}
}

// Read gives the figures of all workers together, by kind of call. What cannot be read is left out.
func Read(ctx context.Context, rdb redis.UniversalClient, namespace string) ([]Mean, error) {
	n, err := rdb.HLen(ctx, keyOf(namespace)).Result()
	if err != nil || n > maxWorkers {
		return nil, err
	}
	all, err := rdb.HGetAll(ctx, keyOf(namespace)).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the timings of calls: %w", err)
	}
	var means []Mean
	for _, data := range all {
		var p published
		if len(data) > maxFigures || json.Unmarshal([]byte(data), &p) != nil || time.Since(p.At) > fresh {
			continue
		}
		means = append(means, p.Means...)
	}
	return merge(means), nil
}

// merge sums up means of the same kind.
func merge(means []Mean) []Mean {
	sums := map[string]Mean{}
	for _, m := range means {
		if m.Calls < 1 || m.Calls > kept {
			continue
		}
		sum := sums[m.Call]
		sum.Calls += m.Calls
		sum.Permit += m.Permit * time.Duration(m.Calls)
		sum.Answer += m.Answer * time.Duration(m.Calls)
		sums[m.Call] = sum
	}
	merged := make([]Mean, 0, len(sums))
	for call, sum := range sums {
		n := time.Duration(sum.Calls)
		merged = append(merged, Mean{Call: call, Calls: sum.Calls, Permit: sum.Permit / n, Answer: sum.Answer / n})
	}
	slices.SortFunc(merged, func(a, b Mean) int { return strings.Compare(a.Call, b.Call) })
	return merged
}
