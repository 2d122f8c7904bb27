package deadletter_test

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
)

// lettersRead counts the letters that are read.
type lettersRead struct{ atomic.Int32 }

func (n *lettersRead) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (n *lettersRead) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (n *lettersRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == "hgetall" {
				n.Add(1)
			}
		}
		return next(ctx, cmds)
	}
}

// TestOnlyWhatMayBeChosenIsRead: all that is chosen is given, whatever stands in it, and little else is read.
func TestOnlyWhatMayBeChosenIsRead(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		b, ctx := on(rdb), t.Context()
		odd := `a "quoted" <code>`
		for id, l := range map[string]struct {
			campaign string
			failure  fate.Failure
		}{
			"one":  {"spring", fate.Failure{Reason: fate.Rejected, HTTPStatus: 422, Code: "taken"}},
			"two":  {"", fate.Failure{Reason: fate.Exhausted, Code: "taken"}},
			"odd":  {`x","campaign":"spring`, fate.Failure{Reason: fate.Rejected, HTTPStatus: 400, Code: odd}},
			"bare": {"spring", fate.Failure{Reason: fate.Invalid}},
			"misleads": {"", fate.Failure{
				Reason: fate.Rejected, HTTPStatus: 400, Code: "other", Message: `"failure":{"reason":"invalid","code":"taken"`,
			}},
		} {
			e := letter(id)
			e.Campaign, e.Failure = l.campaign, l.failure
			testkit.NoError(t, b.Put(ctx, e))
		}
		for _, test := range []struct {
			chosen deadletter.Filter
			given  []string // in the order of the alphabet
			read   int32
			others int
		}{
			{deadletter.Filter{}, []string{"bare", "misleads", "odd", "one", "two"}, 5, 0},
			{deadletter.Filter{Campaign: "spring"}, []string{"bare", "one"}, 2, 0},
			{deadletter.Filter{Campaign: "nosuch"}, nil, 0, 0},
			{deadletter.Filter{Code: "taken"}, []string{"one", "two"}, 4, 1},
			{deadletter.Filter{Code: odd}, []string{"odd"}, 2, 3},
			{deadletter.Filter{Reason: "exhausted"}, []string{"two"}, 3, 0},
			{deadletter.Filter{Campaign: "spring", Code: "taken"}, []string{"one"}, 2, 0},
		} {
			var n lettersRead
			counting := redis.NewClient(rdb.Options())
			defer counting.Close()
			counting.AddHook(&n)
			store := on(counting)
			for name, each := range map[string]func(context.Context, deadletter.Filter, func(deadletter.Entry) error) error{
				"Read": store.Read, "Each": store.Each,
			} {
				var given []string
				others := 0
				n.Store(0)
				filter := test.chosen
				filter.Other = func(string) { others++ }
				testkit.NoError(t, each(ctx, filter, func(e deadletter.Entry) error {
					if (filter.Code == "" || filter.Code == e.Failure.Code) &&
						(filter.Campaign == "" || filter.Campaign == e.Campaign) &&
						(filter.Reason == "" || filter.Reason == string(e.Failure.Reason)) {
						given = append(given, e.ID)
					}
					return nil
				}))
				if slices.Sort(given); !slices.Equal(given, test.given) || n.Load() != test.read || others != test.others {
					t.Errorf("%s %+v gives %q, reads %d, and leaves out %d for their code", name, test.chosen, given, n.Load(), others)
				}
			}
		}
	})
}
