package peoplefile

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The header rows of known programs, as they write them, with the year in which they were last looked at.
func headers() []struct{ program, year, header string } {
	return []struct{ program, year, header string }{
		{"Google Contacts", "2024", "First Name,Middle Name,Last Name,Phonetic First Name,Nickname,Organization " +
			"Name," +
			"Notes,Labels,E-mail 1 - Label,E-mail 1 - Value,E-mail 2 - Label,E-mail 2 - Value,Phone 1 - Label," +
			"Phone 1 - Value"},
		{"Google Contacts", "2020", "Name,Given Name,Family Name,Group Membership,E-mail 1 - Type,E-mail 1 - Value"},
		{"Outlook contacts", "2026", "First Name,Middle Name,Last Name,Title,Suffix,E-mail Address,E-mail 2 Address"},
		{"Mailchimp", "2026", "Email Address,First Name,Last Name,Address,Phone Number,MEMBER_RATING,OPTIN_TIME," +
			"OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,LATITUDE,LONGITUDE,GMTOFF,DSTOFF,TIMEZONE,CC,REGION,LAST_CHANGED,LEID," +
			"EUID,NOTES,TAGS"},
		{"HubSpot", "2026", "Record ID,First Name,Last Name,Email,Lifecycle Stage"},
		{"HubSpot unsubscribes and bounces", "2026", "Email,Portal Bounce,Portal Unsubscribe,Portal Spam Report," +
			"Global Bounce,Marketing Information"},
		{"LinkedIn connections", "2026", "First Name,Last Name,URL,Email Address,Company,Position,Connected On"},
		{"Clerk dashboard", "2026", "id,first_name,last_name,username,primary_email_address,primary_phone_number," +
			"verified_email_addresses,unverified_email_addresses,verified_phone_numbers,unverified_phone_numbers," +
			"totp_secret,password_digest,password_hasher"},
		{"Supabase", "2026", "instance_id,id,aud,role,email,encrypted_password,email_confirmed_at,invited_at," +
			"last_sign_in_at,raw_app_meta_data,raw_user_meta_data,created_at,phone,banned_until," +
			"is_sso_user,deleted_at"},
		{"Entra bulk invite", "2026", "Email address to invite [inviteeEmail] Required," +
			"Redirection url [inviteRedirectURL] Required,Send invitation message (true or false) [sendEmail]," +
			"Customized invitation message [customizedMessageBody]"},
	}
}

func TestExportsAreKnownByTheirHeadings(t *testing.T) {
	t.Parallel()
	for _, h := range headers() {
		names := strings.Split(h.header, ",")
		if e := exportOf(names, false, signs{}); e == nil || e.program != h.program || e.seen != h.year {
			t.Errorf("%s (%s) is taken for %v", h.program, h.year, e)
		}
		loud := strings.Split(strings.ToUpper(strings.NewReplacer("-", " ", "_", " ").Replace(h.header)), ",")
		if e := exportOf(loud, false, signs{}); e == nil || e.program != h.program {
			t.Errorf("%s is not known by %q", h.program, loud)
		}
		for i := range names { // a heading is never a part of a longer one
			longer := append([]string{}, names...)
			for j := range longer {
				longer[j] += " of the manager"
			}
			longer[i] = names[i]
			if e := exportOf(longer, false, signs{}); e != nil {
				t.Errorf("%q is taken for %s", longer, e)
			}
		}
	}
}

// The samples, each with what is understood of it without a flag.
func TestSamples(t *testing.T) {
	t.Parallel()
	const (
		ada = `{"email_address":"ada@example.com"}`
		bob = `{"email_address":"bob@example.com"}`
	)
	for name, want := range map[string]string{
		"airtable.csv": "Airtable (2026)\nline 2: " + ada +
			"\nline 3: {\"email_address\":\"bob@example.com\",\"no_notify\":true}",
		"auth0-users.json": "Auth0 (2026)\nline 2 (element 1): " + ada +
			"\nout line 3 (element 2): has no address",
		"auth0-users.ndjson": "Auth0 (2026)\nline 1: " + ada +
			"\nout line 2: must not be written to, as the column \"blocked\" says",
		"clerk-dashboard-users.csv": "Clerk dashboard (2026)\nline 3: " + ada + "\nline 4: " + bob +
			"\n2 have further addresses\nlines [1] []",
		"cut-off.csv": "\nline 2: {\"email_address\":\"ada@example.com\",\"redirect_url\":\"/welcome\"}\nbad " +
			"line 3: has 1 cells, where the header has 2, and no line end: " +
			"the file may have been cut off here",
		"entra-bulk-invite.csv": "Entra bulk invite (2026)\nline 3: " + ada + "\nline 4: " + bob +
			"\nlines [1] []\n" +
			"not mapped redirect_url, notify",
		"firebase-users.csv": "Firebase (2026)\nline 1: " + ada + "\nline 2: " + bob +
			"\nout line 3: has no address\n" +
			"guess 1: there is no header, and column 2 is taken for the addresses [--no-header --email-column 2]\n" +
			"warning " + firebaseWarning,
		"firebase-users.json": "Firebase (2026)\nline 3 (element 1): " + ada +
			"\nout line 4 (element 2): must not be written to, as the column \"disabled\" says",
		"google-contacts-2024.csv": "Google Contacts (2024)\nline 2: " + ada + "\nline 3: " + bob +
			"\nout line 5: has no address\n1 have further addresses",
		"google-contacts-old.csv": "Google Contacts (2020)\nline 3: " + bob +
			"\nbad line 2: email_address: holds 2 addresses (--split makes a recipient of each)",
		"hubspot-bounces.csv": "HubSpot unsubscribes and bounces (2026)" +
			"\nout line 2: must not be written to, as the column \"Portal Unsubscribe\" says" +
			"\nout line 3: must not be written to, as the column \"Portal Bounce\" says",
		"hubspot.csv": "HubSpot (2026)\nline 2: " + ada +
			"\nout line 3: must not be written to, as the column \"Unsubscribed from all email\" says",
		"invisible.csv": "\nline 2: " + ada + "\nline 4: " + bob +
			"\nline 5: {\"email_address\":\"carol@example.com\"}" +
			"\nline 6: {\"email_address\":\"david@example.com\"}" +
			"\nbad line 7: email_address: has an invisible character in its domain: a zero-width space (U+200B) " +
			"after " +
			"\"eve@exam\"\ntwice line 3: has the address of line 2, once it is cleaned" +
			"\nguess 6: a soft hyphen (U+00AD) after \"da\" is taken out of the address []",
		"linkedin-connections.csv": "LinkedIn connections (2026)\nline 6: " + ada +
			"\nout line 7: has no address\nlines [1 2] []",
		"mailchimp-subscribed.csv": "Mailchimp (2026)\nline 2: " + ada + "\nline 3: " + bob,
		"mailchimp-unsubscribed.csv": "f: is an export of Mailchimp, people who unsubscribed (2026): these " +
			"people have " +
			"unsubscribed, so nobody in it is invited",
		"outlook.csv": "Outlook contacts (2026)\nline 2: " + ada + "\nline 3: " + bob,
		"salesforce-report.csv": "Salesforce report (2026)\nline 2: " + ada +
			"\nout line 3: must not be written to, as the column \"Email Opt Out\" says\nlines [] [6 7 8 9 10]",
		"supabase-users.csv": "Supabase (2026)\nline 2: " + ada +
			"\nout line 3: must not be written to, as the column \"banned_until\" says\nout line 4: has no address",
		"two-address-columns.csv": "f, line 1: has more than one column with addresses: \"Email\" and \"Manager " +
			"Email\": " +
			"say whose are meant, such as --email-column Email --ignore-columns",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, err := ReadFile(filepath.Join("testdata", name), Options{Name: "f"})
			got := fmt.Sprint(err)
			if err == nil {
				got = file.Understood.Export + "\n" + describe(file) + aside(file)
			}
			if strings.TrimSuffix(got, "\n") != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
	samples, err := filepath.Glob("testdata/*.*sv")
	if err != nil || len(samples) < 16 {
		t.Errorf("%d samples, %v", len(samples), err)
	}
}

// aside describes what else was understood.
func aside(f File) string {
	var b strings.Builder
	u := f.Understood
	if u.Further > 0 {
		fmt.Fprintf(&b, "%d have further addresses\n", u.Further)
	}
	if len(u.Preamble)+len(u.Footer) > 0 {
		fmt.Fprintf(&b, "lines %v %v\n", u.Preamble, u.Footer)
	}
	for _, w := range u.Warnings {
		fmt.Fprintf(&b, "warning %s\n", w)
	}
	var fields []string
	for _, o := range u.Options {
		fields = append(fields, o.Field)
	}
	if len(fields) > 0 {
		fmt.Fprintf(&b, "not mapped %s\n", strings.Join(fields, ", "))
	}
	return b.String()
}

// What is passed over of a known export is in nothing that is kept of it.
func TestSecretsOfAnExportAreKeptNowhere(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"table": headers()[8].header + "\n,1,,,nobody,SECRET,,,,,,,,,,\n",
		"json":  `[{"email": "nobody", "emailVerified": true, "passwordHash": "SECRET"}]`,
		"users": `{"users": [{"localId": "SECRET", "email": "nobody", "passwordHash": "SECRET"}]}`,
	} {
		file := read(t, content, Options{})
		if len(file.Invalid) != 1 || file.Understood.Export == "" {
			t.Fatalf("%s: %s", name, describe(file))
		}
		all, err := json.Marshal(file)
		if text := string(all); err != nil || strings.Contains(text, "SECRET") || !strings.Contains(text, "nobody") {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}

func TestWhoMustNotBeWrittenToIsLeftOutOfEveryRow(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{
		"alone":          "BOB@example.com,yes",
		"with a name":    "Bob <bob@example.com>,yes",
		"among several":  "cy@example.com; bob@example.com,yes",
		"in a name":      "bob@example.com <cy@example.com>,yes",
		"not an address": "ask bob@example.com,yes",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const others = "bob@example.com,no\nada@example.com,\nbob@example.com,\n"
			file := read(t, "email,bounced\n"+others+last+"\n", Options{})
			want(t, describe(file), `line 3: {"email_address":"ada@example.com"}`,
				`out line 2: is left out, as line 5 says`, `out line 4: has the address of line 2`,
				`out line 5: must not be written to, as the column "bounced" says`)
		})
	}
}

func TestANameThatHoldsAnotherAddressIsAFault(t *testing.T) {
	t.Parallel()
	const fault = "bad line 2: email_address: has a name in front of the address that holds another address"
	for _, cell := range []string{
		"ada@example.com <bob@example.com>", `"Ada (ada@example.com)" <bob@example.com>`,
		"ada@example.com via list <mailto:bob@example.com>", "ada@example.com bob@example.com <bob@example.com>",
	} {
		file := read(t, "email\tnotify\n\""+strings.ReplaceAll(cell, `"`, `""`)+"\"\tyes\n", Options{})
		want(t, describe(file), fault)
	}
	same := read(t, "email\nBob@example.com <bob@example.com>\n", Options{})
	if len(same.Rows) != 1 {
		t.Errorf("a name that is the same address: %s", describe(same))
	}
}

// TestPeopleWithoutAnAddressAreUsualInSomeExports, and a fault in any other file.
func TestPeopleWithoutAnAddressAreUsualInSomeExports(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"Salesforce report": "First Name,Email\nAda,ada@example.com\nBob,\n\n\"Copyright (c) 2026 salesforce.com, inc.\"\n",
		"ours":              "email,notify\nada@example.com,\n,no\n",
	}
	for _, h := range headers() {
		e := exportOf(strings.Split(h.header, ","), false, signs{})
		var with, without []string
		told := false // something, so that the row is not blank
		for _, name := range strings.Split(h.header, ",") {
			switch {
			case foldHeading(name) == e.address:
				with, without = append(with, "ada@example.com"), append(without, "")
			case !told && forbidsOf(name) != ifAnything:
				with, without, told = append(with, "x"), append(without, "x"), true
			default:
				with, without = append(with, ""), append(without, "")
			}
		}
		files[h.program+h.year] = h.header + "\n" + strings.Join(with, ",") + "\n" + strings.Join(without, ",") + "\n"
	}
	for name, content := range files {
		file := read(t, content, Options{})
		faulty := slices.Contains([]string{"Mailchimp2026", "HubSpot unsubscribes and bounces2026", "Entra bulk invite2026",
			"ours"}, name)
		if len(file.Rows) != 1 || faulty != (file.BadRows() == 1) || !faulty && (len(file.LeftOut) != 1 ||
			file.LeftOut[0].Why != NoAddress) {
			t.Errorf("%s: %s", name, describe(file))
		}
	}
}

// TestSeveralAddressesOfACell, whatever stands between them.
func TestSeveralAddressesOfACell(t *testing.T) {
	t.Parallel()
	for _, between := range []string{" ::: ", ":::", "|", ";", "; ", ",", ", ", "\n", "\r\n", ";\n"} {
		content := "email\tnotify\n\"Ada <ada@example.com>" + between + "bob@example.com\"\tno\n"
		want(t, describe(read(t, content, Options{})),
			"bad line 2: email_address: holds 2 addresses (--split makes a recipient of each)")
		want(t, describe(read(t, content, Options{Split: true})),
			`line 2: {"email_address":"ada@example.com","no_notify":true}`,
			`line 2: {"email_address":"bob@example.com","no_notify":true}`)
	}
}

// A line with an address in the column that counts is never passed over, however it is set apart.
func TestLinesWithAddressesAreNotPassedOver(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"bob@example.com", "for bob@example.com", "<bob@example.com>", "mailto:bob@example.com",
	} {
		_, err := Read(strings.NewReader("a list\n"+line+"\n\nemail\nada@example.com\n"), Options{Name: "f"})
		want(t, fmt.Sprint(err), "f, line 2: stands in front of the header and holds an address; "+
			"the header seems to be in line 4")
		file := read(t, "email\nada@example.com\n\nthe end\n\n"+line+"\n", Options{})
		if len(file.Understood.Footer) > 0 || len(file.Rows)+len(file.Invalid) != 3 {
			t.Errorf("%q at the end: %+v %s", line, file.Understood.Footer, describe(file))
		}
	}
	file := read(t, "a list\n\nemail\nada@example.com\n\nthe end\n", Options{})
	if got := aside(file); got != "lines [1] [6]\n" || len(file.Rows) != 1 {
		t.Errorf("without an address: %s %s", got, describe(file))
	}
}

// TestColumnsThatMayForbidAreObeyed: whatever stands there, but for what says no.
func TestColumnsThatMayForbidAreObeyed(t *testing.T) {
	t.Parallel()
	for _, heading := range []string{
		"Unsubscribed", "UNSUB_TIME", "Opt-out", "Email opted out", "Do not contact", "do_not_email", "Do Not Mail",
		"Don't contact", "Dont email", "Hard bounces", "Cleaned", "Suppressed", "suppression list", "Blocked", "disabled",
		"is banned", "deletedAt", "Blacklisted", "On blocklist", "Spam reports", "Complained",
	} {
		content := "email," + heading + "\n"
		for i, says := range []string{
			"", "false", "FALSE", "0", "no", " No ", "yes", "true", "1", "x", "2026-01-01", "unknown", "never", "-",
		} {
			content += fmt.Sprintf("p%d@example.com,%s\n", i, says)
		}
		object := fmt.Sprintf(`[{"email": "a@example.com", %q: false}, {"email": "b@example.com", %[1]q: "x"}]`, heading)
		for name, opts := range map[string]Options{"": {}, " with columns ignored": {IgnoreColumns: true}} {
			file := read(t, content, opts)
			if len(file.Rows) != 6 || len(file.LeftOut) != 8 || file.LeftOut[0].Line != 8 || len(file.Guesses) > 0 {
				t.Errorf("%s%s: %s", heading, name, describe(file))
			}
			if file := read(t, object, opts); len(file.Rows) != 1 || len(file.LeftOut) != 1 {
				t.Errorf("%s in JSON%s: %s", heading, name, describe(file))
			}
		}
		if file := read(t, content, Options{IncludeOptedOut: true}); len(file.Rows) != 14 {
			t.Errorf("%s, included: %s", heading, describe(file))
		}
		if file := read(t, object, Options{IncludeOptedOut: true}); len(file.Rows) != 2 {
			t.Errorf("%s in JSON, included: %s", heading, describe(file))
		}
	}
	content := "email,Email Status\n"
	for _, state := range []string{
		"Unsubscribed", "opted out", "Opt-Out", "Do not contact", "bounced", "Hard Bounce", "hard-bounced", "CLEANED",
		"suppressed", "blocked", "Disabled", "banned", "deleted", "complained", "subscribed", "active", "",
	} {
		content += foldHeading(state) + "@example.com," + state + "\n"
	}
	file := read(t, strings.Replace(content, "\n@", "\nempty@", 1), Options{IgnoreColumns: true})
	if len(file.Rows) != 3 || file.Rows[0].Line != 16 {
		t.Errorf("states: %s", describe(file))
	}
}

// TestWhatIsPassedOverAroundAListIsShort, and set apart.
func TestWhatIsPassedOverAroundAListIsShort(t *testing.T) {
	t.Parallel()
	const people = "email\nada@example.com\n"
	for n, preamble := range map[int]int{19: 19, 20: 0} { // and a blank line
		file := read(t, strings.Repeat("a list\n", n)+"\n"+people, Options{})
		if len(file.Understood.Preamble) != preamble || (preamble == 0) != (file.BadRows() > 0) {
			t.Errorf("%d lines in front: %+v %s", n, file.Understood, describe(file))
		}
	}
	for n, footer := range map[int]int{20: 20, 21: 0} {
		file := read(t, people+"\n"+strings.Repeat("the end\n", n), Options{})
		if len(file.Understood.Footer) != footer || len(file.Rows) != 1 || len(file.Invalid) != n-footer {
			t.Errorf("%d lines at the end: %+v %s", n, file.Understood, describe(file))
		}
	}
	if file := read(t, "a list\n"+people, Options{}); len(file.Understood.Preamble) > 0 || file.BadRows() != 1 {
		t.Errorf("a line in front that nothing sets apart: %+v %s", file.Understood, describe(file))
	}
	for _, end := range []string{"the end\n", "\nthe end,of it\n"} {
		file := read(t, strings.Replace(people, "email", "email,notify", 1)+end, Options{})
		if len(file.Understood.Footer) > 0 || file.BadRows() != 1 {
			t.Errorf("%q: %+v %s", end, file.Understood, describe(file))
		}
	}
	linked := headers()[6].header + "\nAda,,,ada@example.com,,,\n"
	if file := read(t, "Notes:\n"+linked, Options{}); len(file.Rows) != 1 || len(file.Understood.Preamble) != 1 {
		t.Errorf("a line that the program writes: %+v %s", file.Understood, describe(file))
	}
	if _, err := Read(strings.NewReader("x,Ada\n"+headers()[0].header+"\n"), Options{}); err == nil {
		t.Error("a line in front is passed over that the program does not write")
	}
}

// TestColumnsWithoutHeadingsHaveNumbers.
func TestColumnsWithoutHeadingsHaveNumbers(t *testing.T) {
	t.Parallel()
	opts := Options{NoHeader: true, EmailColumn: "2", Map: map[string]string{fieldRedirect: "3", fieldNotify: "1"}}
	want(t, describe(read(t, "no,ada@example.com,/a\nyes,bob@example.com,\n", opts)),
		`line 1: {"email_address":"ada@example.com","redirect_url":"/a","no_notify":true}`,
		`line 2: {"email_address":"bob@example.com"}`)
	want(t, describe(read(t, "a@example.com,b@example.com\n", Options{NoHeader: true, EmailColumn: "2"})),
		`line 1: {"email_address":"b@example.com"}`)
	want(t, describe(read(t, "a@example.com\nb@example.com\n", Options{})), // one column is certain
		`line 1: {"email_address":"a@example.com"}`, `line 2: {"email_address":"b@example.com"}`)
	for _, column := range []string{"0", "4", "x"} {
		opts.EmailColumn = column
		if _, err := Read(strings.NewReader("no,ada@example.com,/a\n"), opts); err == nil {
			t.Errorf("there is a column %s", column)
		}
	}
}
