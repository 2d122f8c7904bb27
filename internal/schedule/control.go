package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
)

var (
	// ErrNotFound means that no worker has or had a schedule of that name.
	ErrNotFound = errors.New("no such schedule")
	// ErrAbandoned means that no worker has a schedule in its file, so that nobody can do what it says.
	ErrAbandoned = errors.New("no worker that runs has it in its file")
	// ErrUnderWay means that a tick of a schedule has begun and is not confirmed.
	ErrUnderWay = errors.New("a tick of it is under way; try again when that is over")
)

// KeptError means that a worker has a schedule in its file.
type KeptError struct {
	Name, By string        // By is the file and the host
	Ago      time.Duration // when the worker last noted it
}

func (e *KeptError) Error() string {
	ago, wait := settings.FormatDuration(e.Ago.Round(time.Second)), settings.FormatDuration(policy.ScheduleLost)
	return fmt.Sprintf("schedule %s is in a worker's file: %s, %s ago. Take it out of the file, restart the worker, "+
		"and remove it %s later; enqueue schedule pause stops it now", e.Name, e.By, ago, wait)
}

// controlScript does what a person wants of a schedule.
//
// KEYS[1] -> usher:{schedule}:s:NAME
// KEYS[2] -> usher:{schedule}:names
// --
// ARGV[1] -> name
// ARGV[2] -> what: look, pause, resume, remove or run, which makes a tick of this instant pending for any worker
// ARGV[3] -> how long after a worker last noted it none has it any more (ms)
// --
// Returns outcome (ok, missing, kept, abandoned or busy), now (ms), how long ago a worker noted it (ms), and the fields
// of the schedule, names and values in turn, as they were before a removal and are after anything else.
var controlScript = redis.NewScript(store.Clock + instant + `
local what, outcome = ARGV[2], 'ok'
local noted = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '0')
local kept = now - noted <= tonumber(ARGV[3])
local before = redis.call('HGETALL', KEYS[1])
if #before == 0 then return {'missing', stamp(now), '0'} end
if what == 'pause' then
  redis.call('HSETNX', KEYS[1], 'paused', stamp(now))
elseif what == 'resume' then
  if redis.call('HDEL', KEYS[1], 'paused') == 1 then redis.call('HSET', KEYS[1], 'resumed', stamp(now)) end
elseif what == 'remove' then
  if kept then
    outcome = 'kept'
  else
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
  end
elseif what == 'run' then
  if not kept then
    outcome = 'abandoned'
  elseif instant(redis.call('HGET', KEYS[1], 'pending')) then
    outcome = 'busy'
  else
    redis.call('HSET', KEYS[1], 'pending', stamp(now), 'holder', '', 'held_until', stamp(now))
  end
end
local fields = what == 'remove' and before or redis.call('HGETALL', KEYS[1])
return {outcome, stamp(now), stamp(now - noted), unpack(fields)}
`)

// Control is what people do with the schedules of a namespace.
type Control struct {
	states   *states
	patience time.Duration // the longest wait for a tick to be enqueued
}

// NewControl gives the control of a namespace's schedules.
func NewControl(rdb redis.UniversalClient, namespace string) *Control {
	return &Control{newStates(rdb, namespace), runPatience}
}

// Pause lets workers pass over the ticks of a schedule, until it is resumed. Pausing it again changes nothing. The
// error may be ErrNotFound.
func (c *Control) Pause(ctx context.Context, name string) (Standing, error) {
	s, _, err := c.do(ctx, name, "pause")
	return s, err
}

// Resume lets a paused schedule go on with its next tick. The error may be ErrNotFound.
func (c *Control) Resume(ctx context.Context, name string) (Standing, error) {
	s, _, err := c.do(ctx, name, "resume")
	return s, err
}

// Remove forgets a schedule that no worker has in its file any more, and tells how it stood. The error is ErrNotFound,
// or a *KeptError if a worker has it.
func (c *Control) Remove(ctx context.Context, name string) (Standing, error) {
	s, _, err := c.do(ctx, name, "remove")
	return s, err
}

const (
	// runPoll is the pause between two looks whether a tick was enqueued.
	runPoll = 200 * time.Millisecond
	// runPatience is the longest wait for a tick to be enqueued: a worker may read a long list first.
	runPatience = policy.TickHold
)

// ErrNotYet means that no worker has enqueued a tick yet that a person asked for. One will, once it can.
var ErrNotYet = errors.New("no worker has enqueued it yet; one does as soon as it can (enqueue schedule list)")

// Run has a worker enqueue one tick of a schedule now, besides those that are due, whether it is paused or not. It
// gives the instant of the tick, and how the schedule stands once it is over. It calls asked when it begins to wait for
// a worker. The error is ErrNotFound, ErrAbandoned, ErrUnderWay or ErrNotYet.
func (c *Control) Run(ctx context.Context, name string, asked func()) (tick time.Time, s Standing, err error) {
	if _, tick, err = c.do(ctx, name, "run"); err != nil {
		return tick, s, err
	}
	asked()
	waiting, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	for policy.Sleep(waiting, runPoll) == nil {
		s, _, err = c.do(waiting, name, "look")
		if waiting.Err() != nil {
			break // what was being read when it ended says nothing
		}
		if err != nil || !s.Last.Before(tick) {
			return tick, s, err
		}
	}
	if ctx.Err() != nil {
		return tick, s, context.Cause(ctx)
	}
	return tick, s, fmt.Errorf("schedule %s: %w", name, ErrNotYet)
}

// do runs controlScript, and gives how the schedule stands and Redis's time.
func (c *Control) do(ctx context.Context, name, what string) (s Standing, now time.Time, err error) {
	answer, err := controlScript.Run(ctx, c.states.db, c.states.keys(name), name, what,
		policy.ScheduleLost.Milliseconds()).StringSlice()
	if err == nil && (len(answer) < 3 || len(answer)%2 == 0) {
		err = store.ErrGarbage
	}
	if err == nil {
		now, err = store.Instant(answer[1])
	}
	if err != nil {
		return s, now, fmt.Errorf("schedule %s: %w", name, err)
	}
	var ago time.Duration
	if noted, err := time.ParseDuration(answer[2] + "ms"); err == nil {
		ago = noted
	}
	hash := map[string]string{}
	for i := 3; i+1 < len(answer); i += 2 {
		hash[answer[i]] = answer[i+1]
	}
	s = standing(name, hash, ago <= policy.ScheduleLost)
	switch answer[0] {
	case "missing":
		err = ErrNotFound
	case "abandoned":
		err = ErrAbandoned
	case "busy":
		err = ErrUnderWay
	case "kept":
		return s, now, &KeptError{Name: s.Name, By: s.KeptBy, Ago: ago}
	}
	if err != nil {
		err = fmt.Errorf("schedule %s: %w", bounded(name), err)
	}
	return s, now, err
}
