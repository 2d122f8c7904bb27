#!/bin/sh
# Where clocks skip midnight, netresearch/go-cron 0.9.1 loses the day, and reugn/go-quartz 0.15.2 runs the day before.
#
# Expected: netresearch/go-cron continues robfig/cron, which is known not to run what clocks skip; it runs a skipped
# 02:30 at 03:30. So a skipped 00:00 (Santiago, 6 September 2026; also Cairo and Beirut in spring) would run at 01:00,
# as croner, cron and cron-parser from npm have it.
# Seen: the day has no run, as with robfig/cron 3.0.1 and hashicorp/cronexpr 1.1.3. A job for the sixth of the month
# waits for October. go-quartz runs it at 23:00 on the fifth, so a report about "today" is about the wrong day, and a
# skipped 02:30 runs at 01:30; where an hour is repeated, its "every half hour" pauses for that hour.
#
# Output seen with Go 1.26.8:
#   daily, midnight skipped: robfig 09-07 00:00, netresearch 09-07 00:00, hashicorp 09-07 00:00, quartz 09-05 23:00
#   the 6th, midnight skipped: robfig 10-06 00:00, netresearch 10-06 00:00, hashicorp 10-06 00:00, quartz 09-05 23:00
#   02:30 skipped: robfig 03-09 02:30, netresearch 03-08 03:30, hashicorp 03-09 02:30, quartz 03-08 01:30
#   half hours, 01:00 repeated: robfig 30m0s, netresearch 30m0s, hashicorp 30m0s, quartz 1h30m0s
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.24
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"time"
	_ "time/tzdata"

	hashicorp "github.com/hashicorp/cronexpr"
	netresearch "github.com/netresearch/go-cron"
	"github.com/reugn/go-quartz/quartz"
	robfig "github.com/robfig/cron/v3"
)

var libraries = []struct {
	name string
	next func(expression string, t time.Time) (time.Time, error)
}{
	{"robfig", func(expression string, t time.Time) (time.Time, error) {
		schedule, err := robfig.ParseStandard(expression)
		if err != nil {
			return t, err
		}
		return schedule.Next(t), nil
	}},
	{"netresearch", func(expression string, t time.Time) (time.Time, error) {
		schedule, err := netresearch.ParseStandard(expression)
		if err != nil {
			return t, err
		}
		return schedule.Next(t), nil
	}},
	{"hashicorp", func(expression string, t time.Time) (time.Time, error) {
		parsed, err := hashicorp.Parse(expression)
		if err != nil {
			return t, err
		}
		return parsed.Next(t), nil
	}},
	{"quartz", func(expression string, t time.Time) (time.Time, error) {
		// Quartz has seconds in front, and ? for the day of the week.
		trigger, err := quartz.NewCronTriggerWithLoc("0 "+expression[:len(expression)-1]+"?", t.Location())
		if err != nil {
			return t, err
		}
		next, err := trigger.NextFireTime(t.UnixNano())
		return time.Unix(0, next).In(t.Location()), err
	}},
}

func main() {
	day := func(next, _ time.Time) string { return next.Format("01-02 15:04") }
	for _, c := range []struct {
		what, zone, expression, from string
		show                         func(next, from time.Time) string
	}{
		{"daily, midnight skipped", "America/Santiago", "0 0 * * *", "2026-09-05T12:00:00-04:00", day},
		{"the 6th, midnight skipped", "America/Santiago", "0 0 6 * *", "2026-09-05T12:00:00-04:00", day},
		{"02:30 skipped", "America/New_York", "30 2 * * *", "2026-03-07T12:00:00-05:00", day},
		{"half hours, 01:00 repeated", "America/New_York", "*/30 * * * *", "2026-11-01T01:30:00-04:00",
			func(next, from time.Time) string { return next.Sub(from).String() }},
	} {
		zone, err := time.LoadLocation(c.zone)
		check(err)
		from, err := time.Parse(time.RFC3339, c.from)
		check(err)
		fmt.Print(c.what, ": ")
		for i, library := range libraries {
			next, err := library.next(c.expression, from.In(zone))
			check(err)
			if i > 0 {
				fmt.Print(", ")
			}
			fmt.Print(library.name, " ", c.show(next, from))
		}
		fmt.Println()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
GO
go get github.com/robfig/cron/v3@v3.0.1 github.com/netresearch/go-cron@v0.9.1 github.com/hashicorp/cronexpr@v1.1.3 \
	github.com/reugn/go-quartz@v0.15.2 >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
daily, midnight skipped: robfig 09-07 00:00, netresearch 09-07 00:00, hashicorp 09-07 00:00, quartz 09-05 23:00
the 6th, midnight skipped: robfig 10-06 00:00, netresearch 10-06 00:00, hashicorp 10-06 00:00, quartz 09-05 23:00
02:30 skipped: robfig 03-09 02:30, netresearch 03-08 03:30, hashicorp 03-09 02:30, quartz 03-08 01:30
half hours, 01:00 repeated: robfig 30m0s, netresearch 30m0s, hashicorp 30m0s, quartz 1h30m0s
TEXT
cmp seen wanted
