#!/bin/sh
# Where clocks change by half an hour, cron-parser 5.10.6 loses a day and cron 4.4.0 runs a daily job twice.
#
# Expected: both run a job of 02:30 at 03:30 or 03:00 where clocks skip an hour, once (New York, 8 March 2026). So a job
# of 02:15 would run once on 4 October 2026 on Lord Howe Island, where clocks go from 02:00 to 02:30.
# Seen: cron-parser, by which BullMQ repeats jobs, has no run on that day. cron has one at 01:45, before the change and
# half an hour early, and another at 02:45. croner 11.0.1 has one, at 02:30.
# Also: of a repeated hour cron-parser takes the first 01:30 in New York, but the second 00:00 in Havana.
#
# Needs node and npm. Output seen with node 20.20.2:
#   Lord Howe, 02:15: croner 10-04 02:30 10-05 02:15, cron-parser 10-05 02:15 10-06 02:15, cron 10-04 01:45 10-04 02:45
#   New York, 02:30: croner 03-08 03:00 03-09 02:30, cron-parser 03-08 03:30 03-09 02:30, cron 03-08 03:00 03-09 02:30
#   hours after the change: New York -0.5, Havana 0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{"private": true, "type": "module"}' >package.json
npm install --silent --no-audit --no-fund croner@11.0.1 cron-parser@5.10.6 cron@4.4.0 >/dev/null 2>&1
cat >main.js <<'JS'
import { Cron } from 'croner'
import { CronTime } from 'cron'
import parser from 'cron-parser'

const libraries = {
  croner: (expression, timezone, t) => new Cron(expression, { timezone, paused: true }).nextRun(t),
  'cron-parser': (expression, tz, t) =>
    parser.CronExpressionParser.parse(expression, { tz, currentDate: t }).next().toDate(),
  cron: (expression, zone, t) => new CronTime(expression, zone).getNextDateFrom(t, zone).toJSDate(),
}

function shown(t, timeZone) {
  const parts = Object.fromEntries(new Intl.DateTimeFormat('en-US', { timeZone, hourCycle: 'h23', month: '2-digit',
    day: '2-digit', hour: '2-digit', minute: '2-digit' }).formatToParts(t).map(part => [part.type, part.value]))
  return `${parts.month}-${parts.day} ${parts.hour}:${parts.minute}`
}

for (const [what, zone, expression, from] of [
  ['Lord Howe, 02:15', 'Australia/Lord_Howe', '15 2 * * *', '2026-10-03T12:00:00+10:30'],
  ['New York, 02:30', 'America/New_York', '30 2 * * *', '2026-03-07T12:00:00-05:00'],
]) {
  const runs = Object.entries(libraries).map(([name, next]) => {
    const first = next(expression, zone, new Date(from))
    return `${name} ${shown(first, zone)} ${shown(next(expression, zone, first), zone)}`
  })
  console.log(`${what}: ${runs.join(', ')}`)
}

const after = (expression, zone, from, change) =>
  (libraries['cron-parser'](expression, zone, new Date(from)) - new Date(change)) / 3_600_000
const newYork = after('30 1 * * *', 'America/New_York', '2026-10-31T12:00:00-04:00', '2026-11-01T06:00:00Z')
const havana = after('0 0 * * *', 'America/Havana', '2026-10-31T12:00:00-04:00', '2026-11-01T05:00:00Z')
console.log(`hours after the change: New York ${newYork}, Havana ${havana}`)
JS
node main.js | tee seen
cat >wanted <<'TEXT'
Lord Howe, 02:15: croner 10-04 02:30 10-05 02:15, cron-parser 10-05 02:15 10-06 02:15, cron 10-04 01:45 10-04 02:45
New York, 02:30: croner 03-08 03:00 03-09 02:30, cron-parser 03-08 03:30 03-09 02:30, cron 03-08 03:00 03-09 02:30
hours after the change: New York -0.5, Havana 0
TEXT
cmp seen wanted
