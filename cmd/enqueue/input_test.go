package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
)

// TestBadInputLeavesNothing runs every kind of bad setting, address, option and file: exit 2, one line that says what
// is wrong, and an untouched Redis.
func TestBadInputLeavesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	good := s.write("good.csv", "email\nada@example.com\n")
	bad := s.write("bad.csv", "email,expires_in_days\nada@example.com,5\nnot-an-address,5\nbob@example.com,999\n")
	unknown := s.write("unknown.csv", "email,shoe size\nada@example.com,42\n")
	xlsx := s.write("people.xlsx", "PK\x03\x04rest")
	latin1 := s.write("latin1.csv", "email\nj\xe4rg@example.com\n")
	empty := s.write("empty.csv", "email\n")
	const invitation, ada, lateness = "inv_SftISK7GFJOAPfh0WxgHZZBcsQQ", "ada@example.com", "--wait-timeout"
	both := []string{"invite", "--on-duplicate", "accept", "--ignore-existing"}
	withKey := []string{"revoke", "--dry-run", "--clerk-secret-key", "hunter2"}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no command":      {nil, "expected one of"},
		"unknown command": {[]string{"invit"}, `no command invit, did you mean one of "invite", "invitations"?`},
		"no such subcommand": {[]string{"campaign", "nope"},
			"there is no command campaign nope (enqueue help campaign lists them)"},
		"one argument too many":  {[]string{"invite", ada, "more"}, "unexpected argument more"},
		"unknown flag":           {[]string{"invite", ada, "--frobnicate"}, "--frobnicate"},
		"no address":             {[]string{"invite"}, "address"},
		"not an address":         {[]string{"invite", "ada"}, "email_address"},
		"a display name":         {[]string{"invite", "Ada <ada@example.com>"}, "display name"},
		"two addresses":          {[]string{"invite", "a@example.com,b@example.com"}, "email_address"},
		"no dot in the domain":   {[]string{"invite", "ada@localhost"}, "dot"},
		"a long address":         {[]string{"invite", strings.Repeat("a", 250) + "@example.com"}, "254"},
		"metadata":               {[]string{"invite", ada, "--metadata", "[1]"}, "public_metadata"},
		"metadata with a tail":   {[]string{"invite", ada, "--metadata", "{} {}"}, "public_metadata"},
		"expires in 0 days":      {[]string{"invite", ada, "--expires-in-days", "0"}, "365"},
		"expires in 366 days":    {[]string{"invite", ada, "--expires-in-days", "366"}, "365"},
		"redirect":               {[]string{"invite", ada, "--redirect-url", "app.example.com"}, "redirect_url"},
		"template":               {[]string{"invite", ada, "--template-slug", "x"}, "template_slug"},
		"two ways":               {append(both, ada), "on_duplicate"},
		"at and in":              {[]string{"invite", ada, "--at", "2099-01-01 09:00", "--in", "2d"}, "--in"},
		"a past time":            {[]string{"invite", ada, "--at", "2020-01-01 09:00"}, "past"},
		"no time":                {[]string{"invite", ada, "--at", "tomorrow"}, "tomorrow"},
		"no wait timeout":        {[]string{"invite", ada, "--wait", lateness, "soon"}, lateness},
		"no wait":                {[]string{"revoke", invitation, lateness, "5s"}, "--wait"},
		"no duration":            {[]string{"invite", ada, "--in", "soon"}, "soon"},
		"an id":                  {[]string{"invite", ada, "--id", "a b"}, "id"},
		"invitation id":          {[]string{"revoke", "inv_../../users"}, "invitation_id"},
		"nothing to revoke":      {[]string{"revoke"}, "only one of them"},
		"two to revoke":          {[]string{"revoke", invitation, "--email", ada}, "say what to revoke"},
		"an address to revoke":   {[]string{"revoke", "--email", "ada", "--yes"}, "email_address"},
		"a campaign to revoke":   {[]string{"revoke", "--campaign", "a b", "--yes"}, "campaign"},
		"a bad key":              {append(withKey, invitation), "CLERK_SECRET_KEY"},
		"campaign name":          {[]string{"bulk-invite", good, "--campaign", "a b"}, "campaign"},
		"bad rows":               {[]string{"bulk-invite", bad}, "line 3"},
		"unknown column":         {[]string{"bulk-invite", unknown}, "shoe size"},
		"a broken workbook":      {[]string{"bulk-invite", xlsx}, "is a broken .xlsx"},
		"another encoding":       {[]string{"bulk-invite", latin1}, "UTF-8"},
		"no rows":                {[]string{"bulk-invite", empty}, "row"},
		"no file":                {[]string{"bulk-invite", "no-such-file.csv"}, "no-such-file.csv"},
		"stdin without a place":  {[]string{"bulk-invite", "-", "--skip-invalid"}, "--invalid-to"},
		"a rehearsal that waits": {[]string{"bulk-invite", good, "--dry-run", "--wait"}, "--wait"},
		"no wait for the dead":   {[]string{"bulk-invite", good, "--fail-on-dead"}, "--wait"},
		"no bad rows to write":   {[]string{"bulk-invite", good, "--invalid-to", "bad.csv"}, "--skip-invalid"},
		"redis url":              {[]string{"status", "--redis-url", "http://:hunter2hunter2@x"}, "REDIS_URL"},
		"redis url with a word":  {[]string{"status", "--redis-url", "redis://u:hunter2@host:port/0"}, "REDIS_URL"},
		"namespace":              {[]string{"status", "--namespace", "a{b}"}, "USHER_NAMESPACE"},
		"retry nothing":          {[]string{"dead-letter", "retry"}, "--all"},
		"delete nothing":         {[]string{"dead-letter", "delete", "--yes"}, "--all"},
		"list status":            {[]string{"invitations", "--status", "gone"}, "gone"},
		"an empty campaign":      {[]string{"bulk-invite", good, "--campaign", ""}, "is empty"},
		"an empty time":          {[]string{"bulk-invite", good, "--at", ""}, "is empty"},
		"an empty while":         {[]string{"bulk-invite", good, "--in="}, "is empty"},
		"an empty id":            {[]string{"invite", ada, "--id", " "}, "is empty"},
		"an empty address":       {[]string{"invite", ""}, "is empty"},
		"an empty flag of two":   {[]string{"revoke", "--email", ada, "--campaign", ""}, "is empty"},
		"an empty task":          {[]string{"status", ""}, "is empty"},
		"an empty name":          {[]string{"campaign", "status", ""}, "is empty"},
		"an empty status":        {[]string{"invitations", "--status", ""}, "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			const stdin = "email\nnot-an-address\n"
			got := s.run(t.Context(), strings.NewReader(stdin), c.args...)
			if got.exit != 2 || !strings.Contains(got.stderr, c.says) || got.stdout != "" {
				t.Errorf("%+v, want exit 2 and %q in the message", got, c.says)
			}
			if strings.Contains(got.stderr, "hunter2") {
				t.Errorf("the message holds a secret: %s", got.stderr)
			}
			asJSON := s.run(t.Context(), strings.NewReader(stdin), append(c.args, "--json")...)
			var failure struct {
				Code, Message string
				Rows          []badRow
			}
			err := json.Unmarshal([]byte(asJSON.stderr), &failure)
			whole := failure.Code != "" && failure.Message != "" && failure.Rows != nil
			if err != nil || asJSON.exit != 2 || asJSON.stdout != "" || !whole {
				t.Errorf("with --json: %+v, %v", asJSON, err)
			}
			lines := []int{}
			for _, row := range failure.Rows {
				lines = append(lines, row.Line)
			}
			if name == "bad rows" && !slices.Equal(lines, []int{3, 4}) {
				t.Errorf("rows: %+v", failure.Rows)
			}
		})
	}
	if left := s.keys(); len(left) != 0 {
		t.Errorf("bad input left keys in Redis: %v", left)
	}
}

// TestAnUnknownTimeZoneIsNotTakenForAnother changes the environment, so that it does not run beside others.
func TestAnUnknownTimeZoneIsNotTakenForAnother(t *testing.T) {
	s := setup(t)
	t.Setenv("TZ", "Nowhere/Foo")
	got := s.enqueue("invite", "ada@example.com", "--at", "2099-01-01 09:00")
	if got.exit != 2 || !strings.Contains(got.stderr, "Nowhere/Foo") {
		t.Errorf("%+v", got)
	}
	t.Setenv("TZ", ":Europe/Berlin")
	scheduled := s.ok("invite", "ada@example.com", "--at", "2099-01-01 09:00")
	want(t, scheduled, map[string]any{"scheduled_at": "2099-01-01T08:00:00Z"})
}

// TestSettingsComeFromTheEnvironmentToo changes it, so that it does not run beside others.
func TestSettingsComeFromTheEnvironmentToo(t *testing.T) {
	s := setup(t)
	t.Setenv("REDIS_URL_FILE", s.write("url", s.url+"\n"))
	t.Setenv("USHER_NAMESPACE", "other")
	var stdout, stderr strings.Builder
	args := []string{"invite", "ada@example.com"}
	if exit := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); exit != 0 {
		t.Fatalf("exit %d: %s", exit, stderr.String())
	}
	if !s.mini.Exists("asynq:{other:interactive}:pending") {
		t.Errorf("keys: %v", s.keys())
	}
}

func TestTheRestOfAFileIsInvited(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("people.csv", "email,plan\nada@example.com,a\nbad,b\nADA@example.com,c\n")
	got := s.ok("bulk-invite", file, "--skip-invalid", "--ignore-columns")
	want(t, got, map[string]any{"added": 1, "invalid": 1, "duplicates": 1, "state": "pending"})
	aside, err := os.ReadFile(file + ".invalid.csv")
	if err != nil || !strings.Contains(string(aside), "bad") || strings.Contains(string(aside), "ada@") {
		t.Errorf("%v: %s", err, aside)
	}
	dry := s.ok("bulk-invite", file, "--dry-run", "--skip-invalid", "--ignore-columns")
	want(t, dry, map[string]any{"recipients": 1, "dry_run": true})
	if campaigns := s.list("campaign", "list"); len(campaigns) != 1 {
		t.Errorf("a dry run enqueued: %v", campaigns)
	}
}

// TestAFileThatWasNotEnqueuedCanBeGivenAgain: nothing is left that is in the way.
func TestAFileThatWasNotEnqueuedCanBeGivenAgain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("people.csv", "email\nada@example.com\nbad\n")
	s.mini.SetError("LOADING Redis is loading")
	if a := s.enqueue("bulk-invite", file, "--skip-invalid"); a.exit != 1 {
		t.Fatalf("%+v", a)
	}
	s.mini.SetError("")
	want(t, s.ok("bulk-invite", file, "--skip-invalid"), map[string]any{"added": 1, "invalid": 1})
	want(t, s.ok("bulk-invite", file, "--skip-invalid"), map[string]any{"added": 0, "known": 1, "invalid": 1}) // repeated
	s.write("people.csv.invalid.csv", "something else\n")
	a := s.enqueue("bulk-invite", file, "--skip-invalid")
	if a.exit != 2 || !strings.Contains(a.stderr, "is not overwritten") {
		t.Errorf("another file of that name: %+v", a)
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if a := s.enqueue("--version"); a.exit != 0 || a.stdout == "" || a.stderr != "" {
		t.Errorf("%+v", a)
	}
	help := s.enqueue("--help")
	if help.exit != 0 || !strings.Contains(help.stdout, "130 interrupted") {
		t.Errorf("%+v", help)
	}
	if invite := s.enqueue("invite", "--help"); invite.exit != 0 || strings.Contains(invite.stdout, "clerk") {
		t.Errorf("invite knows of Clerk's key: %s", invite.stdout)
	}
}

// TestARedisThatCannotBeUsedIsTold: in one line, without its password.
func TestARedisThatCannotBeUsedIsTold(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.mini.RequireAuth("sesame")
	for url, says := range map[string]string{
		s.url: "refuses the user or the password",
		"redis://:hunter2@" + s.mini.Addr() + "/0": "refuses the user or the password",
		"redis://:hunter2@127.0.0.1:1/0":           "cannot be reached",
	} {
		a := s.enqueue("status", "--redis-url", url)
		if a.exit != 1 || !strings.Contains(a.stderr, says) || strings.Count(a.stderr, "\n") != 1 {
			t.Errorf("%+v, want one line that says %q", a, says)
		}
		if strings.Contains(a.stderr, "hunter2") {
			t.Errorf("the message holds a password: %s", a.stderr)
		}
		asJSON := s.enqueue("status", "--redis-url", url, "--json")
		if asJSON.exit != 1 || !strings.Contains(asJSON.stderr, `"code":"redis_unavailable"`) {
			t.Errorf("%+v", asJSON)
		}
	}
}

// TestAnAnswerThatCannotBeWrittenIsAFailure: a script that reads it from a full disk would else go on.
func TestAnAnswerThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, format := range []string{"", "--json"} {
		args := append([]string{"--redis-url", s.url, "status"}, strings.Fields(format)...)
		var stderr strings.Builder
		exit := run(t.Context(), args, strings.NewReader(""), full{}, &stderr)
		if exit != 1 || !strings.Contains(stderr.String(), "no space") {
			t.Errorf("%q: exit %d, %s", format, exit, stderr.String())
		}
	}
	got := s.run(t.Context(), iotest.ErrReader(errors.New("the pipe broke")), "bulk-invite", "-")
	if got.exit != 2 || !strings.Contains(got.stderr, "the pipe broke") {
		t.Errorf("%+v", got)
	}
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on the disk") }

func TestNothingIsWrittenForACampaignThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := setup(t)
	path := filepath.Join(s.dir, "out.csv")
	if a := s.enqueue("campaign", "export", "nobody", "-o", path); a.exit != 1 {
		t.Errorf("%+v", a)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

// asked runs the command as if a person sat at the terminal and typed something; an empty text is a person who says
// nothing.
func (s *stage) asked(ctx context.Context, typed string, args ...string) answer {
	var in person
	if in.Reader = strings.NewReader(typed); typed == "" {
		reader, writer, err := os.Pipe()
		testkit.NoError(s.t, err)
		s.t.Cleanup(func() { writer.Close(); reader.Close() })
		in.Reader = reader
	}
	return s.run(ctx, in, args...)
}

// pendingOf is an invitation of ada@example.com.
func pendingOf(id, status string) clerkclient.Invitation {
	return clerkclient.Invitation{ID: id, EmailAddress: "ada@example.com", Status: status, CreatedAt: time.Now()}
}

// TestWhatCannotBeUndoneIsAskedFor of a person at a terminal.
func TestWhatCannotBeUndoneIsAskedFor(t *testing.T) {
	t.Parallel()
	const goesOn = " The campaign is running and goes on with 3 recipients: " +
		"cancel or pause it first if they shall not be invited."
	const everywhere = "campaigns, queues, results, dead letters and the directory"
	const revoke = "Revoke every pending invitation of "
	for command, question := range map[string]string{
		"campaign cancel spring":         "Cancel campaign spring with 3 recipients to go?",
		"dead-letter delete --all":       "Delete 1 dead letter for good?",
		"forget ada@example.com":         "Remove 1 address, ada@example.com, from " + everywhere + " for good?",
		"revoke --campaign spring":       revoke + "campaign spring, which has sent 0?" + goesOn,
		"revoke --email ada@example.com": revoke + "ada@example.com: 2 invitations as synced at TIME?",
		"delete --email ada@example.com": "Delete every invitation of ada@example.com, in any status: 3 invitations as " +
			"synced at TIME, at Clerk for good?",
		"delete inv_1": "Delete 1 invitation, inv_1, at Clerk for good?",
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			s, args := setup(t), strings.Fields(command)
			s.ok("bulk-invite", s.write("p.csv", people("bulk", 3)), "--campaign", "spring")
			s.ok("invite", "dead@example.com", "--id", "dead")
			s.dies("dead", "dead@example.com", s.queued("usher:interactive", "dead"))
			s.synced(pendingOf("inv_1", "pending"), pendingOf("inv_2", "pending"), pendingOf("inv_3", "revoked"))
			ended, end := context.WithCancel(t.Context())
			end()
			before := len(s.keys())
			clock := regexp.MustCompile(`(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d`)
			for _, typed := range []string{"n\n", "\n", "yes please\n"} {
				a := s.asked(t.Context(), typed, args...)
				a.stderr = clock.ReplaceAllString(a.stderr, "TIME")
				if want := (answer{1, "", question + " [y/N] enqueue: not confirmed; nothing was done\n"}); a != want {
					t.Errorf("%q: %+v, want %+v", typed, a, want)
				}
			}
			if a := s.asked(ended, "", args...); a.exit != 130 {
				t.Errorf("interrupted: %+v", a)
			}
			asJSON := s.asked(t.Context(), "y\n", append(args, "--json")...)
			if asJSON.exit != 2 || !strings.Contains(asJSON.stderr, "--yes") {
				t.Errorf("a program is asked: %+v", asJSON)
			}
			if after := len(s.keys()); after != before {
				t.Errorf("something was done: %v", s.keys())
			}
			yes := "Y\n"
			if strings.Contains(command, "--") {
				yes = "yes\n"
			}
			if a := s.asked(t.Context(), yes, args...); a.exit != 0 {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestAnIDBelongsToOneTask(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first := s.ok("invite", "ada@example.com", "--id", "signup-1")
	want(t, first, map[string]any{"task_id": "signup-1", "exists": false, "state": "pending"})
	again := s.ok("invite", "ada@example.com", "--id", "signup-1")
	want(t, again, map[string]any{"exists": true, "task_id": "signup-1"})
	file := s.write("p.csv", "email\nada@example.com\n")
	for _, other := range [][]string{{"invite", "bob@example.com"}, {"sync-list"}, {"bulk-invite", file}} {
		if a := s.enqueue(append(other, "--id", "signup-1")...); a.exit != 2 {
			t.Errorf("%v with a used id: %+v", other, a)
		}
	}
	s.ended("signup-1", record.Record{State: record.Done, InvitationID: "inv_1"})
	done := s.ok("invite", "ada@example.com", "--id", "signup-1", "--wait")
	want(t, done, map[string]any{"exists": true, "state": "done", "invitation_id": "inv_1"})
}

// TestARevocationWithoutAKeyIsRehearsedFromTheDirectory: enqueue need not have the key.
func TestARevocationWithoutAKeyIsRehearsedFromTheDirectory(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("bulk", 5)), "--campaign", "load")
	s.sent("load", 5)
	s.finish("load")
	past, soon := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	var rows []clerkclient.Invitation
	for i, sent := range s.list("campaign", "export", "load") {
		row := clerkclient.Invitation{
			ID: fmt.Sprint(sent["invitation_id"]), EmailAddress: fmt.Sprint(sent["email_address"]), Status: "pending",
			PublicMetadata: json.RawMessage("{}"), CreatedAt: time.Now(), ExpiresAt: soon,
		}
		switch i {
		case 0:
			row.Status = "accepted"
		case 1:
			row.ExpiresAt = past
		}
		rows = append(rows, row)
	}
	other := rows[4] // of a recipient of the campaign, by somebody else
	other.ID = "inv_other"
	alike := rows[4]
	alike.ID, alike.EmailAddress = "inv_alike", rows[4].EmailAddress+"2.example.com"
	s.synced(append(rows, other, alike)...)
	campaign := s.ok("revoke", "--campaign", "load", "--dry-run")
	want(t, campaign, map[string]any{"would_revoke": 3, "source": "directory", "campaign_state": "finished"})
	address := s.ok("revoke", "--email", strings.ToUpper(rows[4].EmailAddress), "--dry-run")
	want(t, address, map[string]any{"would_revoke": 2, "campaign_state": nil})
	for i, status := range []string{"accepted", "pending"} {
		for _, exported := range s.list("campaign", "export", "load") {
			if exported["invitation_id"] == rows[i].ID {
				want(t, exported, map[string]any{"invitation_status": status})
			}
		}
	}
}

// TestFaultsAreToldInPlainWords: what is wrong with which input, and what to do.
func TestFaultsAreToldInPlainWords(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, test := range []struct {
		says string
		exit int
		args []string
	}{
		{`--in: got "-5m", want a duration such as 90m`, 2, []string{"invite", "a@example.com", "--in", "-5m"}},
		{"--limit -1 shows nothing: give 1 or more, or --all", 2, []string{"campaign", "list", "--limit", "-1"}},
		{`--limit: got "x", want a whole number`, 2, []string{"campaign", "list", "--limit", "x"}},
		{"expires_in_days: -3 is not between 1 and 365", 2, []string{"invite", "a@example.com", "--expires-in-days", "-3"}},
		{"--older-than needs a value: none follows it", 2, []string{"task", "list", "--older-than"}},
		{`--code needs a value, and "-x" is taken for a flag: if it is the value, write --code="-x"`, 2,
			[]string{"dead-letter", "list", "--code", "-x"}},
		{"@ is no e-mail address, and no id or name of anything that is known", 2, []string{"find", "@"}},
		{"dead letter GONE: no such dead letter", 1, []string{"dead-letter", "delete", "GONE"}},
		{"enqueue: campaign nosuch: no such campaign\n", 1, []string{"dead-letter", "list", "--campaign", "nosuch"}},
		{"enqueue: campaign nosuch: no such campaign\n", 1, []string{"dead-letter", "retry", "--campaign", "nosuch"}},
		{"- is no file: give a path (without -o", 2, []string{"dead-letter", "export", "-o", "-"}},
		{"- is no file: give a path (without -o", 2, []string{"campaign", "list", "-o", "-"}},
		{"", 0, []string{"dead-letter", "delete", "--code", "nosuch"}},
	} {
		a := s.enqueue(test.args...)
		if a.exit != test.exit || !strings.Contains(a.stderr, test.says) || strings.Contains(a.stderr, "--yes") {
			t.Errorf("%q: exit %d, want %d\n%s\nwant %s", test.args, a.exit, test.exit, a.stderr, test.says)
		}
	}
	for _, command := range []string{
		"status nosuch", "watch nosuch", "pause nosuch", "resume nosuch", "cancel nosuch --yes", "export nosuch",
		"delete nosuch --yes",
	} {
		a := s.enqueue(append([]string{"campaign"}, strings.Fields(command)...)...)
		if a.exit != 1 || a.stderr != "enqueue: campaign nosuch: no such campaign\n" {
			t.Errorf("campaign %s: exit %d\n%s", command, a.exit, a.stderr)
		}
	}
}
