package deadletter_test

import (
	"context"
	"encoding/json"
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
			"one":  {"spring", fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Code: "taken"}},
			"two":  {"", fate.Failure{Reason: fate.ReasonExhausted, Code: "taken"}},
			"odd":  {`x","campaign":"spring`, fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 400, Code: odd}},
			"bare": {"spring", fate.Failure{Reason: fate.ReasonInvalid}},
			"misleads": {"", fate.Failure{
				Reason: fate.ReasonRejected, HTTPStatus: 400, Code: "other",
				Message: `"failure":{"reason":"invalid","code":"taken"`,
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
			{deadletter.Filter{NoCode: true}, []string{"bare"}, 2, 3},
			{deadletter.Filter{Campaign: "nosuch"}, nil, 1, 0}, // the one whose text is not understood
			{deadletter.Filter{Code: "taken"}, []string{"one", "two"}, 3, 2},
			{deadletter.Filter{Code: odd}, []string{"odd"}, 1, 4},
			{deadletter.Filter{Reason: "exhausted"}, []string{"two"}, 2, 0},
			{deadletter.Filter{Campaign: "spring", Code: "taken"}, []string{"one"}, 2, 1},
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
				if c, err := store.CountChosen(ctx, test.chosen, 0); err != nil || c.N != len(test.given) || !c.All {
					t.Errorf("%+v: %+v are counted, %v, want %d", test.chosen, c, err, len(test.given))
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
			e.Failure = fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Code: code}
			e.FailedAt = at
			testkit.NoError(t, b.Put(ctx, e))
		}
		count := func(when string, chosen deadletter.Filter, want int) {
			t.Helper()
			for range 2 { // what it finds in the letters it writes down
				if n, err := b.CountChosen(ctx, chosen, 0); n.N != want || err != nil {
					t.Errorf("%s: %+v with the code %s, %v, want %d", when, n, chosen.Code, err, want)
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
		_, err := b.Delete(ctx, "one", deadletter.Deleted)
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
			_, err := b.Delete(ctx, e.ID, deadletter.Deleted)
			return err
		}))
		if n, err := b.Count(ctx); deleted != all/2 || n != all/2 || err != nil {
			t.Errorf("%d were deleted, %d are left, %v", deleted, n, err)
		}
	})
}

// fill writes letters of three instants each, of which each fifth has the code taken, and gives when the first failed.
func fill(t *testing.T, rdb *redis.Client, n int) time.Time {
	t.Helper()
	begin := time.UnixMilli(1_700_000_000_000)
	_, err := rdb.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for i := range n {
			id, at, code := fmt.Sprintf("id%d", i), begin.Add(time.Duration(i*3/n)*time.Second), "other"
			if i%5 == 0 {
				code = "taken"
			}
			e := letter(id)
			e.Failure.Code, e.FailedAt = code, at
			text, err := json.Marshal(e)
			testkit.NoError(t, err)
			pipe.HSet(t.Context(), "test:{once}:d:e:"+id, "entry", text)
			pipe.ZAdd(t.Context(), "test:{once}:d:index", redis.Z{Score: float64(at.UnixMilli()), Member: id})
			pipe.HSet(t.Context(), factsKey, id, fmt.Sprintf("%d|rejected|%s|", at.UnixMilli(), code))
		}
		return nil
	})
	testkit.NoError(t, err)
	return begin
}

// TestNewestGoesOnWhereItWas: also among letters of one instant, and behind a letter that is gone since.
func TestNewestGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		const all = 3000
		b, ctx := on(rdb), t.Context()
		fill(t, rdb, all)
		seen, last, gone := map[string]bool{}, "", 0
		for from, over := (deadletter.Cursor{}), false; !over; {
			page, err := b.Newest(ctx, deadletter.Filter{Code: "taken"}, from, 50)
			testkit.NoError(t, err)
			for _, e := range page.Letters {
				if seen[e.ID] {
					t.Errorf("%s is given twice", e.ID)
				}
				seen[e.ID], last = true, e.ID
			}
			if from, over = page.Next, page.Next == (deadletter.Cursor{}); !over && len(page.Letters) != 50 {
				t.Errorf("a page has %d letters, and is not the last", len(page.Letters))
			}
			if _, err := b.Delete(ctx, last, deadletter.Deleted); err == nil { // the cursor's
				gone++
			}
		}
		if len(seen) != all/5 || gone < all/5/50 {
			t.Errorf("%d of %d are given, while %d went", len(seen), all/5, gone)
		}
	})
}

// TestNothingIsFoundForLittle: a page of a filter that chooses nothing costs few commands, says how far it got, and
// goes on there. So it is where facts are missing.
func TestNothingIsFoundForLittle(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	const all = deadletter.Looks + 1000
	b, ctx, none := on(rdb), t.Context(), deadletter.Filter{Code: "nosuch"}
	fill(t, rdb, all)
	var n commandsSent
	rdb.AddHook(&n)
	first, err := b.Newest(ctx, none, deadletter.Cursor{}, 50)
	testkit.NoError(t, err)
	n.Store(0)
	second, err := b.Newest(ctx, none, first.Next, 50)
	testkit.NoError(t, err)
	if first.Looked != deadletter.Looks || second.Looked != all-deadletter.Looks || second.Next != (deadletter.Cursor{}) {
		t.Errorf("at first it looks at %d letters, then at %d", first.Looked, second.Looked)
	}
	testkit.NoError(t, rdb.Del(ctx, factsKey).Err())
	n.Store(0)
	slow, err := b.Newest(ctx, none, deadletter.Cursor{}, 50)
	testkit.NoError(t, err)
	if slow.Looked == 0 || slow.Looked > deadletter.Looks/10 || n.Load() > 6 {
		t.Errorf("without facts it looks at %d letters, with %d commands", slow.Looked, n.Load())
	}
}

// commandsSent counts commands.
type commandsSent struct{ atomic.Int32 }

func (n *commandsSent) DialHook(next redis.DialHook) redis.DialHook { return next }

func (n *commandsSent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		n.Add(1)
		return next(ctx, cmd)
	}
}

func (n *commandsSent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestCountingStopsInTime, and says how far it came; else it counts exactly those that failed until then.
func TestCountingStopsInTime(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	const all = 6000
	b, ctx := on(rdb), t.Context()
	begin := fill(t, rdb, all)
	taken := deadletter.Filter{Code: "taken"}
	for _, test := range []struct {
		until  time.Time
		within time.Duration
		want   deadletter.Counted
	}{
		{time.Time{}, 0, deadletter.Counted{N: all / 5, Looked: all, All: true}},
		{begin.Add(time.Second), 0, deadletter.Counted{N: 2 * all / 5 / 3, Looked: 2 * all / 3, All: true}},
		{begin.Add(-time.Second), 0, deadletter.Counted{All: true}},
		{time.Time{}, 1, deadletter.Counted{N: all / 5 / 3, Looked: all / 3}}, // one slice
	} {
		taken.Until = test.until
		if c, err := b.CountChosen(ctx, taken, test.within); c != test.want || err != nil {
			t.Errorf("until %v, within %s: %+v, %v, want %+v", test.until, test.within, c, err, test.want)
		}
	}
	all2, err := b.CountChosen(ctx, deadletter.Filter{Until: begin.Add(999 * time.Microsecond)}, 0)
	if all2.N != all/3 || err != nil {
		t.Errorf("of all letters, %+v failed in the first millisecond, %v", all2, err)
	}
}
