package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// mostShown is how many violations a person is shown.
	mostShown = 12
	// violationsFile is the file in the folder of the logs that has them all.
	violationsFile = "violations.txt"
)

// report is what one scenario came to with one seed, or with all of them.
type report struct {
	Scenario   string   `json:"scenario"`
	Seed       uint64   `json:"seed"`
	Held       bool     `json:"held"`
	Seconds    float64  `json:"seconds"`
	Survived   tally    `json:"survived"`
	Notes      []string `json:"notes"`
	Violations []string `json:"violations"`
	Logs       string   `json:"logs,omitempty"` // folder

	heldRuns int
}

func (s *stage) report(took time.Duration) report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return report{
		Scenario: s.scenario.name, Seed: s.seed, Held: len(s.violations) == 0, Seconds: took.Seconds(),
		Survived: s.tally, Notes: append([]string{}, s.notes...), // [], not null
		Violations: append([]string{}, s.violations...),
	}
}

// add adds another run's report to a total.
func (r *report) add(run report) {
	r.Held = r.Held && run.Held
	r.heldRuns += oneIf(run.Held)
	r.Seconds += run.Seconds
	r.Survived.add(run.Survived)
}

func (r report) violationText() string {
	return fmt.Sprintf("%s, seed %d\n%s\n", r.Scenario, r.Seed, strings.Join(r.Violations, "\n"))
}

// printer tells people or programs what was found.
type printer struct {
	out  io.Writer
	json bool
}

func newPrinter(out io.Writer, json bool) *printer { return &printer{out: out, json: json} }

func (p *printer) seed(seed uint64) {
	if p.json {
		p.object(map[string]uint64{"seed": seed})
		return
	}
	fmt.Fprintf(p.out, "seed %d\n", seed)
}

func (p *printer) report(r report) {
	if p.json {
		p.object(r)
		return
	}
	verdict := "held"
	if !r.Held {
		verdict = "FAILED"
	}
	fmt.Fprintf(p.out, "%-6s %-11s seed %d, %.0f s: %s\n", verdict, r.Scenario, r.Seed, r.Seconds, r.line())
	shown := r.Violations[:min(len(r.Violations), mostShown)]
	for _, violation := range shown {
		fmt.Fprintf(p.out, "       %s\n", violation)
	}
	if more := len(r.Violations) - len(shown); more > 0 {
		fmt.Fprintf(p.out, "       … and %d more in %s\n", more, violationsFile)
	}
	if r.Logs != "" {
		fmt.Fprintf(p.out, "       logs: %s\n", r.Logs)
	}
}

// total tells what a scenario came to with all its seeds.
func (p *printer) total(r report, seeds int) {
	if p.json {
		p.object(map[string]any{
			"scenario": r.Scenario, "total": true, "seeds": seeds, "held": r.heldRuns,
			"seconds": r.Seconds, "survived": r.Survived,
		})
		return
	}
	fmt.Fprintf(p.out, "total  %-11s %d of %d seeds held, %.0f s: %s\n",
		r.Scenario, r.heldRuns, seeds, r.Seconds, r.line())
}

func (p *printer) object(v any) {
	encoder := json.NewEncoder(p.out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // a closed pipe is no finding
}

// line is the notes, and what was survived.
func (r report) line() string {
	t := r.Survived
	parts := slices.Clone(r.Notes)
	some := func(n int, format string, args ...any) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, append([]any{n}, args...)...))
		}
	}
	parts = append(parts, faultText(t.Faults))
	some(t.Kills, "%d kills (%d at an open intent, %d cut a call)", t.KillsAtIntent, t.KillsCut)
	some(t.RedisRestarts, "Redis killed %d ×")
	some(t.Stops, "%d × stopped")
	some(t.LateCommits, "%d late commits")
	some(t.Unauthorized, "%d × 401")
	parts = append(parts, fmt.Sprintf("%d × 429", t.Throttled),
		fmt.Sprintf("%d create and %d bulk calls, %d look-ups, %d abandoned",
			t.Creates, t.Bulks, t.Lookups, t.Abandoned))
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " · ")
}

func faultText(faults map[string]int) string {
	sum := 0
	var kinds []string
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		sum += faults[name]
		kinds = append(kinds, fmt.Sprintf("%d %s", faults[name], name))
	}
	if sum == 0 {
		return ""
	}
	return fmt.Sprintf("%d faults (%s)", sum, strings.Join(kinds, ", "))
}
