package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.com/usher/internal/testkit"
)

const (
	largeUpload = 200_000 // a list of this many is as long as one may be
	largeSent   = 20_000  // of it are sent before it is cancelled, and then copied to the directory
	largeDead   = 5000    // of these are in a second list, become dead letters and are retried at once
	largePlain  = 4000    // that the baseline sends in all
)

// largeLimits leave processors to Redis: on a machine that is at its limit, every command takes long now and then. The
// windows are short, so that calls come one by one and not hundreds at once.
var largeLimits = setup{create: "10/100ms", bulk: "15/100ms"}

// largeMeasurement does with a long list what people do with campaigns. It sees which command or script stops Redis
// longest, and what memory the programs take.
func largeMeasurement() measurement {
	list := "a list of " + number(largeUpload)
	return measurement{
		questions: []question{
			{list + ": longest stop of Redis", "ms", "lower"},
			{list + ": peak memory of enqueue, which uploads it", "MiB", "lower"},
			{list + ": peak memory of the worker", "MiB", "lower"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			usher, before := b.workThrough(ctx, usherCampaign()), b.workThrough(ctx, usherCampaign().before())
			plain := b.sendPlain(ctx)
			row := func(of func(large) float64, note string) answer {
				return answer{usher.figure(of), before.figure(of), plain.figure(of), note}
			}
			done := fmt.Sprintf("by Redis's slow log: %s; the baseline: %s. A processor that is busy with something "+
				"else adds to it", usher.stops, plain.stops)
			return []answer{
				row(large.longestStop, done),
				{usher.figure(large.enqueueMemory), before.figure(large.enqueueMemory), figure{err: errNoBaseline},
					"a CSV file of addresses"},
				row(large.workerMemory, fmt.Sprintf("over all of this; the baseline's after %s", number(largePlain))),
			}
		},
	}
}

// large is what it took to work with a long list.
type large struct {
	stops           stops
	enqueue, worker int64 // peaks, in bytes
	err             error
}

func (l large) figure(of func(large) float64) figure { return measured(of(l), l.err) }

func (l large) longestStop() float64   { return float64(l.stops.longest()) / float64(time.Millisecond) }
func (l large) enqueueMemory() float64 { return mebibytes(l.enqueue) }
func (l large) workerMemory() float64  { return mebibytes(l.worker) }

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// stops has the longest command or script of each thing that was done, in the order of doing.
type stops []stop

type stop struct {
	doing string
	took  time.Duration
}

func (s stops) longest() (most time.Duration) {
	for _, one := range s {
		most = max(most, one.took)
	}
	return most
}

func (s stops) String() string {
	var all []string
	for _, one := range s {
		all = append(all, fmt.Sprintf("%s %.1f", one.doing, float64(one.took)/float64(time.Millisecond)))
	}
	return strings.Join(all, ", ")
}

// during does something, and adds what it was to Redis.
func (s *stage) during(ctx context.Context, all *stops, doing string, do func() error) error {
	if err := s.redis.forgetSlow(ctx); err != nil {
		return err
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	took, err := s.redis.slowest(ctx)
	*all = append(*all, stop{doing, took})
	return err
}

// workThrough does to a long list all that people do to one.
func (b *bench) workThrough(ctx context.Context, c contender) large {
	var result large
	result.err = b.on(ctx, c, largeLimits, func(s *stage) error {
		if err := s.work(c.worker, 1); err != nil {
			return err
		}
		for _, act := range s.acts(ctx, c, &result) {
			if err := s.during(ctx, &result.stops, act.name, act.do); err != nil {
				return err
			}
		}
		var err error
		result.worker, err = peakMemory(s.workers[0].PID())
		return err
	})
	b.told(c.name, result.err, "ms: %s; enqueue %.0f MiB, worker %.0f MiB",
		result.stops, result.enqueueMemory(), result.workerMemory())
	return result
}

type act struct {
	name string
	do   func() error
}

// acts are what is done to a long list, in order.
func (s *stage) acts(ctx context.Context, c contender, result *large) []act {
	const limit = 60 * time.Second
	enqueue := func(args ...string) func() error {
		return func() error { _, err := s.enqueue(ctx, c, args...); return err }
	}
	upload := func(campaign string, n int, more ...string) func() error {
		return func() (err error) {
			path := filepath.Join(s.redis.Dir, campaign+".csv")
			if err := writePeople(path, n); err != nil {
				return err
			}
			peak, err := s.enqueue(ctx, c, append([]string{"bulk-invite", path, "--campaign", campaign}, more...)...)
			result.enqueue = max(result.enqueue, peak)
			return err
		}
	}
	return []act{
		{"upload of " + number(largeUpload), upload("long", largeUpload)},
		{"sending " + number(largeSent), func() error { return s.untilCreated(ctx, limit, largeSent) }},
		{"pause", enqueue("campaign", "pause", "long")},
		{"status", enqueue("campaign", "status", "long")},
		{"cancel", enqueue("campaign", "cancel", "long", "--yes")},
		{"export", enqueue("campaign", "export", "long", "-o", filepath.Join(s.redis.Dir, "export.csv"))},
		{"sync-list of " + number(largeSent), enqueue("sync-list", "--wait")},
		{"death of " + number(largeDead), upload("dead", largeDead, "--on-duplicate", "dead-letter", "--wait")},
		{"their retry", enqueue("dead-letter", "retry", "--all")},
		{"forget", enqueue("forget", people("person", 1)[0].EmailAddress, "--yes")},
		{"campaign delete", enqueue("campaign", "delete", "long", "--yes")},
	}
}

// writePeople writes a file of n recipients.
func writePeople(path string, n int) error {
	var text strings.Builder
	text.WriteString("email_address\n")
	for _, person := range people("person", n) {
		fmt.Fprintln(&text, person.EmailAddress)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("writing a list: %w", err)
	}
	return nil
}

// enqueue runs the command of a contender's build to its end, and gives the most memory that it took.
func (s *stage) enqueue(ctx context.Context, c contender, args ...string) (peak int64, err error) {
	const often = 5 * time.Millisecond
	command := testkit.Command{
		Name: "enqueue", Path: s.bench.enqueue(c.worker), Dir: s.bench.dir, Args: args,
		Env: []string{"REDIS_URL=" + s.redis.URL()},
	}
	p, err := testkit.Start(command)
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	for {
		// The system tells the peak of a program while it runs only. That of one which has ended counts that of its
		// parent, too.
		if now, err := peakMemory(p.PID()); err == nil {
			peak = now
		}
		glance, done := context.WithTimeout(ctx, often)
		exit, err := p.Wait(glance)
		done()
		switch {
		case err == nil && exit != 0:
			return peak, fmt.Errorf("enqueue %s: exit %d: %s", strings.Join(args, " "), exit, p.Log())
		case err == nil:
			return peak, nil
		case ctx.Err() != nil:
			return peak, err
		}
	}
}

// sendPlain has the baseline send what it can in a short time.
func (b *bench) sendPlain(ctx context.Context) large {
	const limit = 60 * time.Second
	var result large
	c := plainInvites()
	result.err = b.on(ctx, c, setup{create: "0", bulk: "0"}, func(s *stage) error {
		if err := s.work(c.worker, 1); err != nil {
			return err
		}
		err := s.during(ctx, &result.stops, "sending "+number(largePlain), func() error {
			if err := c.enqueue(ctx, s, people("person", largePlain)); err != nil {
				return err
			}
			return s.untilCreated(ctx, limit, largePlain)
		})
		if err != nil {
			return err
		}
		result.worker, err = peakMemory(s.workers[0].PID())
		return err
	})
	b.told(c.name, result.err, "ms: %s; worker %.0f MiB", result.stops, result.workerMemory())
	return result
}
