package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"
)

// question is a row of the table without its figures.
type question struct {
	what, unit string
	better     string // lower or higher
}

// answer has the figures of a row.
type answer struct {
	usher, before, baseline figure
	note                    string
}

// measurement answers one question or several that one run can answer.
type measurement struct {
	questions []question
	run       func(ctx context.Context, b *bench) []answer // one for each question, in their order
}

// measurements lists them in the order of the table.
func measurements() []measurement {
	return []measurement{
		campaignMeasurement(),
		refusedMeasurement(),
		idleMeasurement(),
		waitingMeasurement(400),
		waitingMeasurement(50_000),
		latencyMeasurement("on an idle system", trial{usherInvites(), 1, 60}),
		latencyMeasurement("during a campaign of 2,000", trial{usherCampaign(), 2000, reserve}),
		producerMeasurement(),
		bullLatencyMeasurement(),
		crowdMeasurement(),
		speedMeasurement(),
		apiMeasurement(),
		speedRefusedMeasurement(),
		memoryMeasurement(50_000),
		largeMeasurement(),
	}
}

// choose leaves of the measurements those that answer a question whose name matches. What else such a run answers is
// kept too: it costs nothing.
func choose(all []measurement, only *regexp.Regexp) []measurement {
	var chosen []measurement
	for _, m := range all {
		for _, q := range m.questions {
			if only.MatchString(q.what) {
				chosen = append(chosen, m)
				break
			}
		}
	}
	return chosen
}

func list(out io.Writer, chosen []measurement) {
	for i, m := range chosen {
		for _, q := range m.questions {
			fmt.Fprintf(out, "%d  %s (%s, %s is better)\n", i+1, q.what, q.unit, q.better)
		}
	}
}

// bench is one run of the benchmark.
type bench struct {
	dir      string            // of Usher's worker, and of what the processes write
	self     string            // path of this program
	old      string            // folder of an earlier build; empty if there is none
	bull     *bullInstallation // nil until it is asked for
	progress io.Writer
}

// say tells whoever waits how far it is.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// told says what one run gave, or why it gave nothing.
func (b *bench) told(name string, err error, format string, args ...any) {
	if errors.Is(err, errNoEarlier) {
		return
	}
	if err != nil {
		b.say("      %s: not measured: %v", name, err)
		return
	}
	b.say("      %s: %s", name, fmt.Sprintf(format, args...))
}

// measure builds the binaries and takes every measurement, one after the other. An interruption ends it early: what
// was measured by then is reported.
func measure(ctx context.Context, chosen []measurement, old string, progress io.Writer) (report, error) {
	dir, err := os.MkdirTemp("", "usher-bench-")
	if err != nil {
		return report{}, fmt.Errorf("making a folder for the run: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, old: old, progress: progress}
	host, err := describeMachine(ctx)
	if err != nil {
		return report{}, err
	}
	b.say("%s", host)
	b.say("building the workers ...")
	if err := b.build(ctx); err != nil {
		return report{}, err
	}
	began := time.Now()
	r := report{machine: host, compared: old != ""}
	for i, m := range chosen {
		b.say("[%d/%d] %s ...", i+1, len(chosen), m.questions[0].what)
		for j, a := range m.run(ctx, b) {
			r.rows = append(r.rows, row{question: m.questions[j], answer: a})
		}
		if ctx.Err() != nil {
			b.say("interrupted")
			break
		}
	}
	b.say("measured in %s", time.Since(began).Round(time.Second))
	return r, nil
}
