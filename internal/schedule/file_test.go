package schedule

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"example.com/usher/tasks"
)

// folder is one with a good list and a bad one.
func folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"people.csv": "email,notify\nada@example.com,no\ngrace@example.com,\n",
		"bad.csv":    "email,notify\nada@example.com,no\nx,maybe\n",
		"both.csv":   "email\nada@example.com;bob@example.com\n",
		"odd.csv":    "who,wish\nada@example.com,none\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAFileIsRead(t *testing.T) {
	t.Parallel()
	schedules, err := parse([]byte("\xEF\xBB\xBF"+`# everything that there is
schedules:
  - name: weekly
    cron: "0 9 * * 1"
    timezone: Europe/Berlin
    task: bulk-invite
    file: people.csv
    email_column: email
    ignore_columns: false
    skip_invalid: true
    options: {redirect_url: /welcome, public_metadata: {plan: pro, `+
		`seats: 9007199254740993, tags: [a, null]}, expires_in_days: 7}
  - name: hello
    cron: '@every 2s'
    task: invite
    email_address: " ada@example.com "
    options:
      no_notify: true
      ignore_existing: true
      template_slug: waitlist_invitation
  - {name: sync, cron: 30 0 9 * * 1-5, task: sync-list}
`), "schedules.yaml", folder(t))
	if err != nil || len(schedules) != 3 {
		t.Fatalf("%d schedules, %v", len(schedules), err)
	}
	weekly, hello, directory := schedules[0], schedules[1], schedules[2]
	if weekly.list.campaign != "weekly" || !weekly.list.skipInvalid || weekly.TimeZone != "Europe/Berlin" ||
		weekly.recipient.EmailAddress != "" {
		t.Errorf("%+v", weekly)
	}
	if got := fmt.Sprint(weekly.recipient.PublicMetadata); got != "map[plan:pro seats:9007199254740993 "+
		"tags:[a <nil>]]" {
		t.Errorf("metadata %s", got)
	}
	list, err := weekly.list.read(weekly.recipient)
	if err != nil || len(list) != 2 || !list[0].NoNotify || list[1].NoNotify || list[1].ExpiresInDays != 7 ||
		list[0].RedirectURL != "/welcome" {
		t.Errorf("%+v, %v", list, err)
	}
	want := tasks.Recipient{EmailAddress: "ada@example.com", NoNotify: true, IgnoreExisting: true,
		TemplateSlug: "waitlist_invitation"}
	if fmt.Sprint(hello.recipient) != fmt.Sprint(want) || hello.TimeZone != "UTC" {
		t.Errorf("%+v", hello)
	}
	if directory.Cron != "30 0 9 * * 1-5" || directory.Task != tasks.TypeSyncList {
		t.Errorf("%+v", directory)
	}
}

func TestTheExampleIsRead(t *testing.T) {
	t.Parallel()
	if schedules, err := Read("../../examples/schedules.yaml"); err != nil || len(schedules) != 2 {
		t.Errorf("%+v, %v", schedules, err)
	}
}

func TestAFileMayBeEmptyOfSchedules(t *testing.T) {
	t.Parallel()
	if schedules, err := parse([]byte("schedules: []\n"), "s.yaml", "."); err != nil || len(schedules) != 0 {
		t.Errorf("%v, %v", schedules, err)
	}
}

// faults are files by what is wrong with them: the text, and what must be told of it, in this order.
type faults map[string]struct {
	text string
	want []string
}

// good is a file without a fault; those with faults begin with it.
const good = "schedules:\n  - name: a\n    cron: 0 9 * * 1\n    task: sync-list\n"

// instead is that file with something else in place of a part.
func instead(part, with string) string { return strings.Replace(good, part, with, 1) }

func (f faults) check(t *testing.T) {
	t.Helper()
	dir := folder(t)
	for name, c := range f {
		_, err := parse([]byte(c.text), "s.yaml", dir)
		if err == nil {
			t.Errorf("%s: no fault", name)
			continue
		}
		rest := err.Error()
		for _, want := range c.want {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Errorf("%s: got\n%v\nwithout, or not in this order, %q", name, err, want)
				break
			}
			rest = after
		}
		if told := strings.Count(err.Error(), "s.yaml"); told != strings.Count(strings.Join(c.want, "\n"), "s.yaml") {
			t.Errorf("%s: %d faults:\n%v", name, told, err)
		}
	}
}

func TestFaultsOfTheFileAreTold(t *testing.T) {
	t.Parallel()
	faults{
		"nothing":       {"", []string{"s.yaml: has 0 documents"}},
		"two documents": {good + "---\na: 1\n", []string{"s.yaml: has 2 documents"}},
		"no YAML":       {"schedules:\n  - name: a\n\tcron: x\n", []string{"s.yaml:3: is not YAML: found character"}},
		"a star": {"schedules:\n  - name: a\n    cron: * * * * *\n",
			[]string{`s.yaml:3: is not YAML`, `needs quotes`}},
		"a descriptor": {"schedules:\n  - name: a\n    cron: @daily\n",
			[]string{`s.yaml:3: is not YAML`, `cron: "@daily"`}},
		"a key twice": {good + "    task: invite\n",
			[]string{"s.yaml:5: is not YAML: mapping key \"task\" already defined"}},
		"no key":     {"{}\n", []string{"s.yaml: has no key schedules"}},
		"other keys": {"plans: []\n", []string{`s.yaml:1: has an unknown key "plans"`}},
		"a list":     {"- a\n", []string{"s.yaml:1: is a list, not the key schedules"}},
		"no list":    {"schedules: 7\n", []string{"s.yaml:1: schedules: is a number, not a list"}},
		"null":       {"schedules:\n", []string{"s.yaml:1: schedules: is nothing, not a list"}},
		"no mapping": {"schedules:\n  - x\n", []string{"s.yaml:2: schedule 1: is text, not a mapping"}},
		"an alias": {"schedules:\n  - name: &n a\n    cron: \"* * * * *\"\n    task: *n\n",
			[]string{"s.yaml:2: has an anchor", "s.yaml:4: has an anchor"}},
		"no UTF-8":  {good + "#\xff\n", []string{"s.yaml: is not UTF-8"}},
		"too large": {good + strings.Repeat("#\n", maxBytes), []string{"s.yaml: is larger than 65536 bytes"}},
		"too many": {"schedules:\n" + strings.Repeat("  - {}\n", 101),
			[]string{"s.yaml:102: has 101 schedules, at most 100"}},
	}.check(t)
}

func TestFaultsOfASchedulesKeysAreTold(t *testing.T) {
	t.Parallel()
	faults{
		"missing keys": {"schedules:\n  - {}\n",
			[]string{"s.yaml:2: schedule 1: name: is missing", "s.yaml:2: schedule 1: cron: is missing",
				"s.yaml:2: schedule 1: task: is missing"}},
		"a bad name": {"schedules:\n  - task: sync-list\n    cron: '@daily'\n    name: a b\n",
			[]string{`s.yaml:4: schedule 1: name: "a b" is not 1 to 64`}},
		"a name of numbers": {"schedules:\n  - name: 7\n    task: sync-list\n    cron: '@daily'\n",
			[]string{"s.yaml:2: schedule 1: name: is a number, not text; put it in quotes"}},
		"a name twice": {good + "  - name: a\n    cron: '@daily'\n    task: sync-list\n",
			[]string{`s.yaml:5: schedule "a": name: is that of the schedule in line 2`}},
		"an unknown key": {good + "    tasks: x\n    time_zone: UTC\n    colour: red\n",
			[]string{`s.yaml:5: schedule "a": tasks: is no key of a schedule; do you mean task?`,
				`s.yaml:6: schedule "a": time_zone: is no key of a schedule; do you mean timezone?`,
				`s.yaml:7: schedule "a": colour: is no key of a schedule`}},
		"a foreign key": {good + "    email_address: ada@example.com\n    options: {}\n",
			[]string{`s.yaml:5: schedule "a": email_address: is no key of sync-list`,
				`s.yaml:6: schedule "a": options: is no key of sync-list`}},
		"a bad cron": {instead("0 9 * * 1", "0 9 * * 8"),
			[]string{`s.yaml:3: schedule "a": cron: "0 9 * * 8": end of range (8) above maximum (6)`}},
		"too few fields": {instead("0 9 * * 1", "0 9 * *"),
			[]string{`s.yaml:3: schedule "a": cron: "0 9 * *": expected 5 to 6 fields`}},
		"a zone in cron": {instead("0 9 * * 1", "TZ=UTC"),
			[]string{`s.yaml:3: schedule "a": cron: "TZ=UTC": names a time zone`}},
		"never": {instead("0 9 * * 1", "0 0 30 2 *"),
			[]string{`s.yaml:3: schedule "a": cron: "0 0 30 2 *": never comes`}},
		"an empty field": {instead("0 9 * * 1", "\", 9 * * 1\""),
			[]string{`s.yaml:3: schedule "a": cron: ", 9 * * 1": has an empty field`}},
		"half a second": {instead("0 9 * * 1", "'@every 500ms'"),
			[]string{`s.yaml:3: schedule "a": cron: "@every 500ms": must be @every and whole seconds`}},
		"a negative delay": {instead("0 9 * * 1", "'@every -5s'"),
			[]string{`s.yaml:3: schedule "a": cron: "@every -5s": must be @every`}},
		"a bad zone": {good + "    timezone: Berlin\n",
			[]string{`s.yaml:5: schedule "a": timezone: "Berlin" is no time zone`}},
		"the own zone": {good + "    timezone: Local\n",
			[]string{`s.yaml:5: schedule "a": timezone: "Local" is no time zone`}},
		"an unknown task": {instead("sync-list", "revoke"),
			[]string{`s.yaml:4: schedule "a": task: "revoke" is no task that repeats`}},
	}.check(t)
}

func TestFaultsOfATasksKeysAreTold(t *testing.T) {
	t.Parallel()
	faults{
		"no address": {instead("sync-list", "invite"),
			[]string{`s.yaml:2: schedule "a": email_address: is missing, and invite needs it`}},
		"a bad address": {instead("sync-list", "invite") + "    email_address: ada\n",
			[]string{`s.yaml:5: schedule "a": email_address: is not an e-mail address`}},
		"bad options": {instead("sync-list", "invite") +
			"    email_address: ada@example.com\n    options:\n      expires_in_days: 0\n      no_notify: please\n" +
			"      wish: 1\n      REDIRECT_URL: /x\n      email_address: x\n      redirect_url: x\n      " +
			"template_slug: nice\n      public_metadata: [1]\n      redirecturl: /x\n", []string{
			`s.yaml:7: schedule "a": options.expires_in_days: 0 is not between 1 and 365`,
			`s.yaml:8: schedule "a": options.no_notify: is string, not bool`,
			`s.yaml:9: schedule "a": options.wish: is no option`,
			`s.yaml:10: schedule "a": options.REDIRECT_URL: is no option`,
			`s.yaml:11: schedule "a": options.email_address: is no option`,
			`s.yaml:12: schedule "a": redirect_url: is neither`,
			`s.yaml:13: schedule "a": template_slug: "nice" is not one of`,
			`s.yaml:14: schedule "a": options.public_metadata: is array, not map`,
			`s.yaml:15: schedule "a": options.redirecturl: is no option of an invitation; do you mean redirect_url?`,
		}},
		"numbers that are read as others": {instead("sync-list", "invite") + "    email_address: ada@example.com\n" +
			"    options:\n      expires_in_days: 012\n      public_metadata:\n        postcode: 01067\n" +
			"        text: \"01067\"\n        plain: [0, -1.50, 12]\n        phone: +49123\n" +
			"        deep: {terms: [2026_11, .5]}\n        0x1F: true\n", []string{
			`s.yaml:7: schedule "a": options.expires_in_days: 012 is read as the number 10; write 10, or "012" if it`,
			`s.yaml:9: schedule "a": options.public_metadata: 01067 is read as the number 567`,
			`s.yaml:12: schedule "a": options.public_metadata: +49123 is read as the number 49123`,
			`s.yaml:13: schedule "a": options.public_metadata: 2026_11 is read as the number 202611`,
			`s.yaml:13: schedule "a": options.public_metadata: .5 is read as the number 0.5`,
			`s.yaml:14: schedule "a": options.public_metadata: 0x1F is read as the number 31`,
		}},
		"no options": {instead("sync-list", "invite") + "    email_address: ada@example.com\n    options: x\n",
			[]string{`s.yaml:6: schedule "a": options: is text, not a mapping`}},
		"no file": {instead("sync-list", "bulk-invite") + "    file: none.csv\n",
			[]string{`s.yaml:5: schedule "a": file: `, "no such file"}},
		"a folder": {instead("sync-list", "bulk-invite") + "    file: .\n",
			[]string{`s.yaml:5: schedule "a": file: . is not a regular file`}},
		"bad rows": {instead("sync-list", "bulk-invite") + "    file: bad.csv\n",
			[]string{`s.yaml:5: schedule "a": file: bad.csv has bad rows (1), the first at line 3: notify`}},
		"bad column": {instead("sync-list", "bulk-invite") + "    file: odd.csv\n    email_column: who\n",
			[]string{`s.yaml:5: schedule "a": file: odd.csv: has unknown columns: "wish"`}},
		"a bad list": {instead("sync-list", "bulk-invite") +
			"    file: 7\n    campaign: a b\n    skip_invalid: maybe\n    options: {expires_in_days: 999}\n",
			[]string{
				`s.yaml:5: schedule "a": file: is a number`, `s.yaml:6: schedule "a": campaign: "a b" is not a name`,
				`s.yaml:7: schedule "a": skip_invalid: is text, not true or false`,
				`s.yaml:8: schedule "a": expires_in_days: 999 is not between`,
			}},
	}.check(t)
}

func TestDigestsTellSchedulesApart(t *testing.T) {
	t.Parallel()
	const text = "schedules: [{name: a, cron: '@daily', task: invite, email_address: ada@example.com, options: {" +
		"no_notify: true}}]"
	seen := map[string]string{}
	for _, change := range [][2]string{{"", ""}, {"name: a", "name: b"}, {"@daily", "@hourly"},
		{"task:", "timezone: Asia/Tokyo, task:"}, {"ada@", "bob@"}, {"true", "false"}} {
		schedules, err := parse([]byte(strings.Replace(text, change[0], change[1], 1)), "s.yaml", ".")
		if err != nil {
			t.Fatal(err)
		}
		digest := schedules[0].digest
		if other, found := seen[digest]; found != (change[0] == "name: a") {
			t.Errorf("%q has the digest of %q", change[1], other)
		}
		seen[digest] = change[1]
	}
}

// FuzzParse: whatever is in a file, it gives schedules that can be digested and enqueued, or faults of one line each.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"schedules:\n  - name: a\n    cron: 0 9 * * 1\n    task: sync-list\n",
		"schedules: [{name: a, cron: '@every 2s', task: invite, email_address: a@example.com, options: {" +
			"public_metadata: {a: [1, .inf]}}}]",
		"schedules:\n- name: b\n  timezone: Europe/Berlin\n  cron: \"0 0 29 2 *\"\n  task: bulk-invite\n  file: " +
			"people.csv\n  skip_invalid: yes\n",
		"a: &x [*x]\n<<: !!binary x\n", "? {a: 1}\n: |\n  b\n", "schedules:\n  - cron: TZ=\n", "- - -\n", "{a: [",
		"schedules:\n - options:\n    : 1\n",
	} {
		f.Add([]byte(seed))
	}
	dir := folder(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8<<10 {
			t.Skip("the parser takes long for deep nesting")
		}
		schedules, err := parse(data, "s.yaml", dir)
		if err != nil {
			checkFaults(t, err)
			return
		}
		for _, s := range schedules {
			if _, err := tasks.Resolve(tasks.ID(s.taskID(s.times.after(fixed)))); err != nil || s.digest == "" {
				t.Fatalf("%+v: %v", s, err)
			}
			if s.Task == tasks.TypeInvite && s.recipient.Validate() != nil {
				t.Fatalf("%+v", s)
			}
			if tick, following := s.times.latest(fixed, fixed.Add(1)); following.Before(fixed) ||
				tick.After(fixed.Add(1)) {
				t.Fatalf("%s: after %s comes %s, and then %s", s.Cron, fixed, tick, following)
			}
		}
	})
}

func checkFaults(t *testing.T, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) > maxFaults+1 {
		t.Fatalf("%v is not joined, or of too many", err)
	}
	for _, one := range joined.Unwrap() {
		if _, ok := errors.AsType[*Fault](one); !ok || len(one.Error()) > 4<<10 ||
			strings.ContainsFunc(one.Error(), unicode.IsControl) {
			t.Fatalf("%q of type %T", one, one)
		}
	}
}

// TestListsAreNeverGuessed: nobody is there to be asked, at the start and at a tick.
func TestListsAreNeverGuessed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("list.csv", "1,ada@example.com,a\n2,bob@example.com; cy@example.com,b\n")
	write("soft.csv", "email\nda\u00ADvid@example.com\n")
	text := instead("sync-list", "bulk-invite") + "    file: list.csv\n"
	_, err := parse([]byte(text), "s.yaml", dir)
	if err == nil || !strings.Contains(err.Error(),
		"bad rows (1), the first at line 2: email_address: holds 2 addresses (split makes a recipient of each)") {
		t.Errorf("%v", err)
	}
	text += "    split: true\n"
	_, err = parse([]byte(text), "s.yaml", dir)
	if err == nil || !strings.Contains(err.Error(), `set no_header: true, email_column: "2"`) {
		t.Errorf("%v", err)
	}
	_, err = parse([]byte(strings.Replace(text, "list.csv", "soft.csv", 1)), "s.yaml", dir)
	if err == nil || !strings.Contains(err.Error(), "in line 2 a soft hyphen") {
		t.Errorf("%v", err)
	}
	text += "    no_header: true\n    email_column: \"2\"\n    map: {public_metadata.team: \"3\"}\n"
	schedules, err := parse([]byte(text), "s.yaml", dir)
	if err != nil {
		t.Fatal(err)
	}
	s := schedules[0]
	recipients, err := s.list.read(s.recipient)
	if err != nil || len(recipients) != 3 || recipients[2].PublicMetadata["team"] != "b" {
		t.Errorf("%+v, %v", recipients, err)
	}
	write("colour.csv", "email,colour\nada@example.com,red\n")
	coloured := list{path: filepath.Join(dir, "colour.csv"), file: "colour.csv"}
	_, err = coloured.read(s.recipient)
	if said := fmt.Sprint(err); !strings.Contains(said, "; ignore_columns passes over") || strings.Contains(said, "--") {
		t.Errorf("%v", err)
	}
	guessed := list{path: filepath.Join(dir, "soft.csv"), file: "soft.csv"} // as a tick may find it
	if recipients, err := guessed.read(s.recipient); err == nil {
		t.Errorf("%+v", recipients)
	}
}

func TestKeysAboutAListAreChecked(t *testing.T) {
	t.Parallel()
	bulk := instead("sync-list", "bulk-invite") + "    file: people.csv\n"
	faults{
		"no mapping": {bulk + "    map: x\n", []string{`s.yaml:6: schedule "a": map: is text, not a mapping`}},
		"no field": {bulk + "    map: {shoe: x}\n",
			[]string{`s.yaml:6: schedule "a": map.shoe: "shoe" is no field`}},
		"no such column": {bulk + "    map: {notify: x}\n",
			[]string{`s.yaml:5: schedule "a": file: people.csv, line 1: has no column "x", as map asks`}},
		"two in a cell": {strings.ReplaceAll(bulk, "people", "both"),
			[]string{`s.yaml:5: schedule "a": file: both.csv has bad rows (1), the first at line 2: email_address: ` +
				`holds 2 addresses (split makes a recipient of each); correct them, or set skip_invalid: true`}},
		"no workbook": {bulk + "    sheet: x\n",
			[]string{`s.yaml:5: schedule "a": file: people.csv: is no workbook`}},
		"encoding": {bulk + "    encoding: x\n",
			[]string{`s.yaml:5: schedule "a": file: people.csv: cannot be read`}},
	}.check(t)
}

// TestKeysThatEarlierVersionsKnowKeepTheirDigest: else a schedule would begin anew with each change of versions.
func TestKeysThatEarlierVersionsKnowKeepTheirDigest(t *testing.T) {
	t.Parallel()
	schedules, err := parse([]byte(instead("sync-list", "bulk-invite")+"    file: people.csv\n"), "s.yaml", folder(t))
	if err != nil || schedules[0].digest != "2973310d10634c8db146e7b8003acd7f" {
		t.Errorf("%s, %v", schedules[0].digest, err)
	}
}
