package deadletter_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

func (n *lettersRead) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "hgetall" {
			n.Add(1)
		}
		if strings.HasPrefix(cmd.Name(), "eval") && err == nil { // it is sent again if Redis does not know the script
			keys, _ := cmd.Args()[2].(int)
			for _, key := range cmd.Args()[3 : 3+keys] {
				if strings.Contains(fmt.Sprint(key), "{once}:d:e:") {
					n.Add(1)
				}
			}
		}
		return err
	}
}

func (n *lettersRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
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
			{deadletter.Filter{Campaign: "spring"}, []string{"bare", "one"}, 3, 0},
			{deadletter.Filter{Campaign: "nosuch"}, nil, 2, 0}, // those whose text is not understood
			{deadletter.Filter{Code: "taken"}, []string{"one", "two"}, 4, 1},
			{deadletter.Filter{Code: odd}, []string{"odd"}, 2, 3},
			{deadletter.Filter{Reason: "exhausted"}, []string{"two"}, 3, 0},
			{deadletter.Filter{Campaign: "spring", Code: "taken"}, []string{"one"}, 3, 0},
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
				filter.Other = func(_ string, n int) { others += n }
				testkit.NoError(t, each(ctx, filter, func(e deadletter.Entry) error {
					if filter.Matches(e) {
						given = append(given, e.ID)
					}
					return nil
				}))
				read := n.Load()
				if count, err := store.CountChosen(ctx, test.chosen); err != nil || count != len(test.given) {
					t.Errorf("%+v: %d are counted, %v, want %d", test.chosen, count, err, len(test.given))
				}
				if slices.Sort(given); !slices.Equal(given, test.given) || read != test.read || others != test.others {
					t.Errorf("%s %+v gives %q, reads %d, and leaves out %d for their code", name, test.chosen, given, read, others)
				}
			}
		}
	})
}

const factsKey = "test:{once}:d:index:facts"

// facts is what the hash of facts says of a letter.
func facts(t *testing.T, rdb *redis.Client, id string) string {
	t.Helper()
	return rdb.HGet(t.Context(), factsKey, id).Val()
}

// TestWhatEarlierVersionsWriteIsChosenToo: they write a letter without its facts, or leave those of the letter before.
func TestWhatEarlierVersionsWriteIsChosenToo(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		b, ctx := on(rdb), t.Context()
		taken, other := deadletter.Filter{Code: "taken"}, deadletter.Filter{Code: "other"}
		put := func(id, code string, at time.Time) {
			e := letter(id)
			e.Failure = fate.Failure{Reason: fate.Rejected, HTTPStatus: 422, Code: code}
			e.FailedAt = at
			testkit.NoError(t, b.Put(ctx, e))
		}
		count := func(when string, chosen deadletter.Filter, want int) {
			t.Helper()
			for range 2 { // what it finds in the letters it writes down
				if n, err := b.CountChosen(ctx, chosen); n != want || err != nil {
					t.Errorf("%s: %d with the code %s, %v, want %d", when, n, chosen.Code, err, want)
				}
			}
		}
		begin := time.Now()
		put("one", "taken", begin)
		if facts(t, rdb, "one") == "" {
			t.Error("a letter is written without its facts")
		}
		testkit.NoError(t, rdb.Del(ctx, factsKey).Err())
		count("without facts", taken, 1)
		was := facts(t, rdb, "one")
		if was == "" {
			t.Error("facts that were read are not written down")
		}
		put("one", "other", begin.Add(time.Second))
		testkit.NoError(t, rdb.HSet(ctx, factsKey, "one", was).Err())
		count("with the facts of the letter before", other, 1)
		count("with the facts of the letter before", taken, 0)
		_, err := b.Delete(ctx, "one", "", deadletter.Deleted)
		testkit.NoError(t, err)
		if n := rdb.Exists(ctx, factsKey).Val(); n != 0 {
			t.Error("facts of a deleted letter are left")
		}
	})
}

// TestEveryChosenLetterIsGivenOnce: more than a page of them, also of one instant, while others are deleted.
func TestEveryChosenLetterIsGivenOnce(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		b, ctx := on(rdb), t.Context()
		const atOnce, all = 1100, 1700
		begin := time.UnixMilli(1_700_000_000_000)
		for i := range all {
			e := letter(fmt.Sprint(i))
			e.Failure.Code, e.FailedAt = "taken", begin
			if i%2 == 1 {
				e.Failure.Code = "other"
			}
			if i >= atOnce {
				e.FailedAt = begin.Add(time.Duration(i/3) * time.Millisecond)
			}
			testkit.NoError(t, b.Put(ctx, e))
		}
		chosen, others, given := deadletter.Filter{Code: "taken"}, 0, map[string]int{}
		chosen.Other = func(_ string, n int) { others += n }
		testkit.NoError(t, b.Read(ctx, chosen, func(e deadletter.Entry) error {
			given[e.ID]++
			return nil
		}))
		if len(given) != all/2 || others != all/2 {
			t.Errorf("%d are given, and %d left out, want %d each", len(given), others, all/2)
		}
		for id, n := range given {
			if n != 1 {
				t.Errorf("%s is given %d times", id, n)
			}
		}
		deleted := 0
		testkit.NoError(t, b.Each(ctx, deadletter.Filter{Code: "taken"}, func(e deadletter.Entry) error {
			deleted++
			_, err := b.Delete(ctx, e.ID, "", deadletter.Deleted)
			return err
		}))
		if n, err := b.Count(ctx); deleted != all/2 || n != all/2 || err != nil {
			t.Errorf("%d were deleted, %d are left, %v", deleted, n, err)
		}
	})
}
