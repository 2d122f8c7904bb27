package worker

import (
	"cmp"
	"context"
	"crypto/sha1" // by which Redis names scripts
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// refusals are the commands and scripts that Redis refuses to carry out at present, whoever asks. It is a hook of a
// client: what a worker really does tells whether it can work.
type refusals struct {
	mu    sync.Mutex
	now   map[string]refusal
	named error // what lasts, with the commands to which the user has no right; nil if nobody has looked
}

// refusal is of one command or script.
type refusal struct {
	since, last time.Time
	why         error
	command     string // that is refused whatever is asked with it, as EVAL; empty: something in a script is
}

const (
	// refusedOnce is how long a command must be refused before the worker is not ready.
	refusedOnce = redisPatience
	// refusedLast is after how long a command that is not tried any more counts no longer. asynq's slowest loop tries
	// once a minute.
	refusedLast = 150 * time.Second
)

// note notes the answer to a command.
func (r *refusals) note(cmd redis.Cmder, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case store.Refused(err) && !slices.Contains([]string{"info", "config", "hello", "blmove"}, cmd.Name()): // optional
		now := time.Now()
		if r.now == nil {
			r.now = map[string]refusal{}
		}
		name := nameOf(cmd)
		before, stands := r.now[name]
		if !stands || now.Sub(before.last) > refusedLast {
			before.since = now
		}
		before.last, before.why, before.command = now, err, ""
		if strings.Contains(strings.ToLower(err.Error()), "'"+cmd.Name()+"'") {
			before.command = cmd.Name()
		}
		r.now[name] = before
	case len(r.now) > 0 && (err == nil || answeredWithError(err)):
		delete(r.now, nameOf(cmd))
		// Some scripts run once a minute: that Redis carries out another one shows that it would carry them out too.
		maps.DeleteFunc(r.now, func(_ string, at refusal) bool { return at.command == cmd.Name() })
	}
}

// nameOf names a command, and a script by its digest.
func nameOf(cmd redis.Cmder) string {
	args := cmd.Args()
	if len(args) < 2 || !strings.HasPrefix(cmd.Name(), "eval") {
		return cmd.Name()
	}
	script := fmt.Sprint(args[1])
	if cmd.Name() == "eval" {
		sum := sha1.Sum([]byte(script))
		script = hex.EncodeToString(sum[:])
	}
	return "script " + script
}

// lasting is what Redis has refused for a while, or nil.
func (r *refusals) lasting() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.now {
		if time.Since(at.last) < refusedLast && at.last.Sub(at.since) > refusedOnce {
			return at.why
		}
	}
	r.named = nil
	return nil
}

// name finds out to which commands the user of Redis has no right, if Redis has refused one for a while. If it has all
// that scripts need again, their refusals are over: some are not tried again for a minute.
func (r *refusals) name(ctx context.Context, db store.DB) {
	lasting := r.lasting()
	if lasting == nil {
		return
	}
	named, back := lasting, false
	if store.NoRight(lasting) {
		rights := store.CheckRights(ctx, db) // what Redis has said then may name a right that it has given since
		back = rights == nil
		if _, missing := errors.AsType[*store.RightsError](rights); missing {
			named = rights
		} else {
			named = store.NameRights(ctx, db, lasting)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.named = named; back {
		maps.DeleteFunc(r.now, func(_ string, at refusal) bool { return at.command == "" && store.NoRight(at.why) })
	}
}

// why says what Redis refuses and what to do, or nothing.
func (r *refusals) why() string {
	lasting := r.lasting()
	if lasting == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.TrimPrefix(cmp.Or(r.named, lasting).Error(), "Redis refuses ")
}

// DialHook is for [redis.Hook].
func (r *refusals) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook is for [redis.Hook].
func (r *refusals) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		r.note(cmd, err) // the command itself learns it later
		return err
	}
}

// ProcessPipelineHook is for [redis.Hook].
func (r *refusals) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			r.note(cmd, cmd.Err())
		}
		return err
	}
}
