package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// TestTranscripts runs the commands of every file in testdata on a stage of the file's own, one after the other, and
// compares what they answer with what stands under them. -update writes it anew.
//
// A line "$ enqueue …" is a command; "$ KEY enqueue …" has the sandbox's Clerk key, and "< FILE" at the end of a
// command is its standard input. What follows is its standard output, its standard error (each line after "! ") and
// its exit code if it is not 0. A line "# step …" is one of steps, below; "## …" is a remark. Instants of these years,
// ids and addresses of servers are replaced, so that every run shows the same.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if testkit.NoError(t, err); len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			testkit.NoError(t, err)
			got := setup(t).transcript(string(data))
			if flag.Lookup("update").Value.String() == "true" {
				testkit.NoError(t, os.WriteFile(file, []byte(got), 0o600))
			}
			differ(t, string(data), got)
		})
	}
}

var _ = flag.Bool("update", false, "write the transcripts in testdata anew")

// differ shows the first lines that differ.
func differ(t *testing.T, want, got string) {
	t.Helper()
	wanted, gotten := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wanted), len(gotten)) {
		line := func(lines []string) string {
			if i < len(lines) {
				return lines[i]
			}
			return "(no more)"
		}
		if line(wanted) != line(gotten) {
			t.Fatalf("line %d is\n\t%s\nwant\n\t%s\nthe commands before it:\n%s", i+1, line(gotten), line(wanted),
				strings.Join(gotten[max(0, i-8):min(i, len(gotten))], "\n"))
		}
	}
}

// transcript runs the commands and steps of a transcript and gives it as it should be.
func (s *stage) transcript(text string) string {
	var b strings.Builder
	answering := false
	for line := range strings.Lines(text) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		isStep := strings.HasPrefix(line, "# ")
		if answering && !isCommand && !isStep && !strings.HasPrefix(line, "##") {
			continue // an answer of the last time
		}
		answering = isCommand
		switch {
		case isCommand:
			b.WriteString(line + s.answerOf(strings.Fields(command)))
		case isStep:
			words := strings.Fields(line)
			step := steps()[words[1]]
			if step == nil {
				s.t.Fatalf("there is no step %s", words[1])
			}
			step(s, words[2:]...)
			b.WriteString(line)
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

// answerOf runs a command and gives its answer as a transcript shows it.
func (s *stage) answerOf(words []string) string {
	stdin, with := "", s.enqueue
	if words[0] == "KEY" {
		words, with = words[1:], s.withKey
	}
	if i := len(words) - 2; words[i] == "<" {
		data, err := os.ReadFile(filepath.Join(s.dir, words[i+1]))
		testkit.NoError(s.t, err)
		stdin, words = string(data), words[:i]
		with = func(args ...string) answer { return s.run(s.t.Context(), strings.NewReader(stdin), args...) }
	}
	args := make([]string, 0, len(words))
	for _, word := range words[1:] {
		if strings.HasSuffix(word, ".csv") || strings.HasSuffix(word, ".log") {
			word = filepath.Join(s.dir, word)
		}
		args = append(args, word)
	}
	a := with(args...)
	var b strings.Builder
	for line := range strings.Lines(a.stdout) {
		b.WriteString(sorted(line))
	}
	for line := range strings.Lines(a.stderr) {
		b.WriteString("! " + sorted(line))
	}
	if a.exit != 0 {
		fmt.Fprintf(&b, "[exit %d]\n", a.exit)
	}
	return s.steady(b.String()) + "\n"
}

// sorted sorts the fields of a line that is an object.
func sorted(line string) string {
	var object map[string]any
	if json.Unmarshal([]byte(line), &object) != nil {
		return line
	}
	var b strings.Builder
	_ = encode(&b, object)
	return b.String()
}

// steady replaces what differs from run to run.
func (s *stage) steady(text string) string {
	text = strings.ReplaceAll(text, s.dir+string(filepath.Separator), "")
	text = strings.NewReplacer(s.mini.Addr(), "REDIS", s.clerkURL, "CLERK").Replace(text)
	for _, r := range []struct{ what, with string }{
		{`20[23]\d-\d\d-\d\dT[\d:]{8}(\.\d+)?(Z|[+-]\d\d:\d\d)`, "2006-01-02T15:04:05Z"},
		{`20[23]\d-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d`, "2006-01-02 15:04:05 +00:00"},
		{`20[23]\d-\d\d-\d\d \d\d:\d\d UTC`, "2006-01-02 15:04 UTC"},
		{`(since|until|ETA) (20[23]\d-\d\d-\d\d )?\d\d:\d\d:\d\d`, "$1 15:04:05"},
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "ID"},
		{`inv_[0-9A-Za-z]{27}`, "inv_1"},
		{`\d+(\.\d+)?m?s ago`, "5s ago"},
		{`\(trace \w+\)`, "(trace T)"},
	} {
		text = regexp.MustCompile(r.what).ReplaceAllString(text, r.with)
	}
	return text
}

// refusal is what Clerk says of a recipient that it refuses.
func refusal(code string) fate.Failure {
	return fate.Failure{
		Reason: fate.ReasonRejected, HTTPStatus: 422, Code: code, Message: "Clerk says " + code, TraceID: "trace-1",
	}
}

// steps are what a transcript may have happen between its commands.
func steps() map[string]func(s *stage, args ...string) {
	number := func(s *stage, text string) int {
		n, err := strconv.Atoi(text)
		testkit.NoError(s.t, err)
		return n
	}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	unavailable := fate.Failure{HTTPStatus: 503, Code: "unavailable", Message: "service unavailable"}
	keys := store.Keys(tasks.DefaultNamespace)
	return map[string]func(s *stage, args ...string){
		// file NAME LINE…: a file; _ in a line is a space.
		"file": func(s *stage, args ...string) {
			s.write(args[0], strings.ReplaceAll(strings.Join(args[1:], "\n")+"\n", "_", " "))
		},
		// people FILE NAME N: a file of N recipients.
		"people": func(s *stage, args ...string) { s.write(args[0], people(args[1], number(s, args[2]))) },
		// done TASK INVITATION, revoked TASK N, dead TASK CODE, cancelled TASK, failing TASK: what becomes of a task.
		"done": func(s *stage, args ...string) {
			s.ended(args[0], record.Record{State: record.Done, Attempts: 1, InvitationID: strings.Join(args[1:], "")})
		},
		"revoked": func(s *stage, args ...string) {
			s.ended(args[0], record.Record{State: record.Done, Attempts: 1, Revoked: number(s, args[1])})
		},
		"deleted": func(s *stage, args ...string) {
			s.ended(args[0], record.Record{State: record.Done, Attempts: 1, Deleted: number(s, args[1])})
		},
		"dead": func(s *stage, args ...string) {
			f := refusal(args[1])
			s.ended(args[0], record.Record{State: record.Dead, Attempts: 1, Error: &f})
		},
		"cancelled": func(s *stage, args ...string) { s.ended(args[0], record.Record{State: record.Cancelled}) },
		"failing": func(s *stage, args ...string) {
			r, _, err := s.records.Get(s.t.Context(), args[0])
			testkit.NoError(s.t, err)
			r.Attempts, r.History = 1, []fate.Attempt{{At: noon, Failure: unavailable}}
			testkit.NoError(s.t, s.records.Put(s.t.Context(), args[0], r))
		},
		// sent CAMPAIGN N, deadof CAMPAIGN N CODE, finish CAMPAIGN: what becomes of a campaign's recipients.
		"sent":   func(s *stage, args ...string) { s.sent(args[0], number(s, args[1])) },
		"deadof": func(s *stage, args ...string) { s.dead(args[0], number(s, args[1]), args[2]) },
		"finish": func(s *stage, args ...string) { s.finish(args[0]) },
		// letter ID TYPE ADDRESS CODE: a dead letter of a task.
		"letter": func(s *stage, args ...string) {
			e := deadletter.Entry{
				ID: args[0], TaskID: args[0], Type: args[1], Queue: "usher:interactive", EmailAddress: args[2],
				Failure: refusal(args[3]), Attempts: 2, FailedAt: noon,
				Payload: fmt.Appendf(nil, `{"v":1,"email_address":%q}`, args[2]),
				History: []fate.Attempt{
					{At: noon.Add(-time.Minute), Failure: unavailable}, {At: noon, Failure: refusal(args[3])},
				},
			}
			e.History[1].FoundBeforeSending = true
			if args[1] == tasks.TypeRevoke {
				e.EmailAddress, e.Campaign, e.Payload = "", args[2], fmt.Appendf(nil, `{"v":1,"campaign":%q}`, args[2])
			}
			testkit.NoError(s.t, s.letters.Put(s.t.Context(), e))
		},
		// limits: as a worker announces them. spent LIMIT N: as many calls have just been made.
		"limits": func(s *stage, _ ...string) {
			p := policy.Default("test")
			limiter, err := ratelimit.New(s.rdb, tasks.DefaultNamespace, p.Limits("k")...)
			testkit.NoError(s.t, err)
			testkit.NoError(s.t, limiter.Announce(s.t.Context()))
			testkit.NoError(s.t, p.Announce(s.t.Context(), s.rdb, tasks.DefaultNamespace))
		},
		// idle: the worker is gone.
		"idle": func(s *stage, _ ...string) { s.idle() },
		// suspended CALLS: Clerk has just refused such a call to everybody.
		"suspended": func(s *stage, args ...string) {
			limiter, err := ratelimit.New(s.rdb, tasks.DefaultNamespace, policy.Default("test").Limits("k")...)
			testkit.NoError(s.t, err)
			limit := policy.RestPrefix + args[0]
			permit, err := limiter.Acquire(s.t.Context(), time.Minute, ratelimit.Want{Limit: limit})
			testkit.NoError(s.t, err)
			_, err = permit.Suspend(s.t.Context(), limit, ratelimit.Suspension{
				First: time.Minute, Why: "503 maintenance_mode",
			})
			testkit.NoError(s.t, err)
		},
		// belongs KIND: the namespace belongs to keys of a kind.
		"belongs": func(s *stage, args ...string) {
			testkit.NoError(s.t, s.rdb.Set(s.t.Context(), keys.KeyKind(), args[0], 0).Err())
		},
		// user ADDRESS…, pending ADDRESS…: what is at Clerk.
		"user": func(s *stage, args ...string) {
			for _, address := range args {
				s.clerk.AddUser(address)
			}
		},
		"pending": func(s *stage, args ...string) {
			for _, address := range args {
				s.clerk.AddInvitation(address)
			}
		},
		// fault STATUS: Clerk does not say who is a user. revokekey: it refuses the key.
		"fault": func(s *stage, args ...string) {
			status := number(s, args[0])
			s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: status, Endpoint: clerktest.Users})
		},
		"revokekey": func(s *stage, _ ...string) { s.clerk.RevokeKey() },
		// synced ID:ADDRESS:STATUS…: a copy of Clerk's list, the newest first.
		"synced": func(s *stage, args ...string) {
			var rows []clerkclient.Invitation
			for i, arg := range args {
				fields := strings.Split(arg, ":")
				at := noon.Add(-time.Duration(i) * time.Hour)
				row := clerkclient.Invitation{
					ID: fields[0], EmailAddress: fields[1], Status: fields[2], Revoked: fields[2] == "revoked",
					PublicMetadata: json.RawMessage(`{"plan":"pro"}`), CreatedAt: at, UpdatedAt: at,
				}
				if fields[2] == "pending" {
					row.ExpiresAt = time.Now().Add(time.Hour)
				}
				rows = append(rows, row)
			}
			s.synced(rows...)
		},
		// earlier: a copy in the layout of an earlier version.
		"earlier": func(s *stage, _ ...string) {
			testkit.NoError(s.t, s.rdb.HSet(s.t.Context(), keys.Directory(), "copy", "old", "synced_at", 1, "count",
				1).Err())
		},
		// schedule NAME CRON TASK FIELD VALUE…: a schedule as a worker keeps it; ~ stands for a space.
		"schedule": func(s *stage, args ...string) {
			spaces := strings.NewReplacer("~", " ")
			fields := []any{
				"digest", "d", "cron", spaces.Replace(args[1]), "timezone", "Europe/Berlin", "task", args[2],
				"next", noon.AddDate(1, 0, 0).UnixMilli(),
			}
			for _, field := range args[3:] {
				fields = append(fields, spaces.Replace(field))
			}
			testkit.NoError(s.t, s.rdb.HSet(s.t.Context(), keys.Schedule(args[0]), fields...).Err())
			testkit.NoError(s.t, s.rdb.ZAdd(s.t.Context(), keys.Schedules(), z(args[0])).Err())
		},
		// newer CAMPAIGN: a recipient whose data this version cannot read.
		"newer": func(s *stage, args ...string) {
			newer := []ledger.Recipient{{Folded: "new", Data: json.RawMessage(`{"v":9}`)}}
			_, err := s.ledgers.Add(s.t.Context(), args[0], time.Time{}, newer)
			testkit.NoError(s.t, err)
		},
	}
}
