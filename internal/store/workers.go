package store

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// WorkerSeen is how often a worker says that it lives.
	WorkerSeen = 5 * time.Second
	// workerLost is the age of its last sign at which a worker is lost.
	workerLost = 3 * WorkerSeen
	// workersKeep is for how long the last signs of workers are kept: while others live, and when none does.
	workersKeep, workersKeepLast = 10 * time.Minute, 7 * 24 * time.Hour
)

// Worker is a worker process, as it says itself.
type Worker struct {
	ID      string         `json:"id"` // of this start of it
	Host    string         `json:"host"`
	PID     int            `json:"pid"`
	Version string         `json:"version"`
	KeyKind string         `json:"key_kind"` // test or live
	Since   time.Time      `json:"since"`    // on its own clock
	Active  map[string]int `json:"active"`   // tasks that it works on, or that wait in it, by type
	Stopped bool           `json:"stopped"`
	// SeenAt is when it said this, on Redis's clock, and Lost that this was too long ago.
	SeenAt time.Time `json:"seen_at"`
	Lost   bool      `json:"lost"`
}

// Lives tells whether the worker works.
func (w Worker) Lives() bool { return !w.Stopped && !w.Lost }

// Workers are the workers of one namespace.
type Workers struct{ db DB }

// NewWorkers gives the workers of a namespace.
func NewWorkers(rdb redis.UniversalClient, namespace string) *Workers {
	return &Workers{Open(rdb, namespace)}
}

// announceScript notes what a worker says of itself, and forgets others that said nothing for long.
//
// KEYS[1] -> usher:workers
// --
// ARGV[1] -> id of the worker
// ARGV[2] -> what it says
// ARGV[3] -> for how long signs of others are kept (ms)
// ARGV[4] -> for how long they are kept if no sign follows (ms)
// --
// Returns 1.
var announceScript = redis.NewScript(Clock + `
redis.call('HSET', KEYS[1], ARGV[1], stamp(now) .. '|' .. ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^(%d+)|') or '0')
  if now - at > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
`)

// Announce notes what a worker says of itself.
func (w *Workers) Announce(ctx context.Context, worker Worker) (err error) {
	defer Wrap(&err, "announcing the worker")
	data, err := json.Marshal(worker)
	if err != nil {
		return err
	}
	return announceScript.Run(ctx, w.db, []string{w.db.Key.Workers()}, worker.ID, data, workersKeep.Milliseconds(),
		workersKeepLast.Milliseconds()).Err()
}

// workersScript reads what workers said of themselves.
//
// KEYS[1] -> usher:workers
// --
// Returns now, and for each worker its id and what it said, after an instant and a bar.
var workersScript = redis.NewScript(Clock + `
local answer = { stamp(now) }
for _, value in ipairs(redis.call('HGETALL', KEYS[1])) do answer[#answer + 1] = value end
return answer
`)

// maxWorker is the most bytes that are read of what a worker says.
const maxWorker = 4 << 10

// List gives the workers that gave a sign of late, those that have stopped or are lost too, and the time of Redis.
// What cannot be read is left out.
func (w *Workers) List(ctx context.Context) (workers []Worker, now time.Time, err error) {
	defer Wrap(&err, "reading which workers run")
	now, rows, err := Answer(workersScript.Run(ctx, w.db, []string{w.db.Key.Workers()}), 2)
	for _, row := range rows {
		stamp, text, _ := strings.Cut(row[1], "|")
		at, stampErr := Instant(stamp)
		var worker Worker
		if stampErr != nil || len(text) > maxWorker || json.Unmarshal([]byte(text), &worker) != nil {
			continue
		}
		worker.ID, worker.SeenAt, worker.Lost = row[0], at.UTC(), !worker.Stopped && now.Sub(at) > workerLost
		workers = append(workers, worker)
	}
	return workers, now, err
}
