package store

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Call is what one run of a script is given.
type Call struct {
	Keys []string
	Args []any
}

// RunEach runs a script once for each call, in one round trip, and gives the answers in the order of the calls. Other
// clients wait meanwhile: a hundred calls of a script take Redis a few milliseconds.
func RunEach(ctx context.Context, rdb redis.Cmdable, script *redis.Script, calls []Call) []*redis.Cmd {
	if len(calls) == 1 {
		return []*redis.Cmd{script.Run(ctx, rdb, calls[0].Keys, calls[0].Args...)}
	}
	answers := make([]*redis.Cmd, len(calls))
	_, _ = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error { // each answer has its own error
		for i, call := range calls {
			answers[i] = script.EvalSha(ctx, pipe, call.Keys, call.Args...)
		}
		return nil
	})
	for i, answer := range answers {
		if redis.HasErrorPrefix(answer.Err(), "NOSCRIPT") { // Run sends the script itself: then Redis knows it
			answers[i] = script.Run(ctx, rdb, calls[i].Keys, calls[i].Args...)
			return append(answers[:i+1], RunEach(ctx, rdb, script, calls[i+1:])...)
		}
	}
	return answers
}

// Errors is RunEach where nothing but the error of each call counts. The errors say what was done.
func Errors(ctx context.Context, rdb redis.Cmdable, what string, script *redis.Script, calls []Call) []error {
	errs := make([]error, len(calls))
	for i, answer := range RunEach(ctx, rdb, script, calls) {
		errs[i] = answer.Err()
		Wrap(&errs[i], "%s", what)
	}
	return errs
}

// FirstError tells how many came before the first error, and gives that.
func FirstError(errs []error) (before int, err error) {
	for i, err := range errs {
		if err != nil {
			return i, err
		}
	}
	return len(errs), nil
}

// Each gives an error for each of n, for whom all the same has failed. Nil makes none.
func Each(n int, err error) []error { return slices.Repeat([]error{err}, n) }
