package peoplefile

import (
	"fmt"
	"strings"
	"testing"
)

// Columns that say in other words who must not be written to, in a file whose unknown columns are passed over.
func TestOptOutsAreObeyedInOtherWordsAndLanguages(t *testing.T) {
	t.Parallel()
	for _, heading := range []string{
		"Do not send", "CLEAN_TIME", "Non-subscribed", "Abgemeldet", "Newsletter abbestellt", "Nicht kontaktieren",
		"Gesperrt", "Gelöscht", "Geloescht", "Widerspruch", "Désabonné", "De\u0301sabonne\u0301", "DESINSCRIT",
		"Ne pas contacter", "Bloqué", "Dado de baja", "No contactar", "Eliminado", "Disiscritto", "Non contattare",
		"Descadastrado", "Não contatar", "Afgemeld", "Uitgeschreven", "DNC", "No e-mail",
	} {
		file := read(t, "email,VIP,"+heading+"\nada@example.com,checked,\nbob@example.com,,x\n", Options{})
		want(t, describe(file), `line 2: {"email_address":"ada@example.com"}`,
			fmt.Sprintf(`out line 3: must not be written to, as the column %q says`, heading))
	}
	for heading, value := range map[string]string{
		"Status": "Unsubscribed by admin", "Email status": "bounced (hard)", "State": "unsubscribed",
		"Statut": "désabonné", "Marketing status": "Non-subscribed", "Subscription": "do not email",
		"Email Marketing": "unsubscribed", "User status": "Suspended", "Status ": "deactivated",
		"Newsletter": "no", "Consent": "No",
		"Opt-in": "false", "Subscribed": "0", "Accepts Email Marketing": "no", "Einwilligung": "nein",
		"Consentement": "Non", "Email Marketing Consent": "NEVER_SUBSCRIBED", "accountEnabled": "False",
		"Marketing consent": "withdrawn", "Consent ": "No (by phone)", "Opt in": "not given", "Consent given": "0.0",
		"Marketing opt-in": "none", "Einwilligung ": "nicht erteilt",
	} {
		content := "email," + heading + "\nada@example.com,active\nbob@example.com," + value + "\n"
		file := read(t, content, Options{IgnoreColumns: true})
		want(t, describe(file), `line 2: {"email_address":"ada@example.com"}`,
			fmt.Sprintf(`out line 3: must not be written to, as the column %q says`, heading))
	}
}

// A consent forbids only where it is denied, in a known export, too.
func TestConsentsForbidWhereTheyAreDenied(t *testing.T) {
	t.Parallel()
	content := "Record ID,First Name,Last Name,Email,Marketing consent,Phone no/e-mail\n" +
		"1,A,L,ada@example.com,yes,x\n2,B,B,bob@example.com,no,x\n3,C,C,cy@example.com,,x\n" +
		"4,D,D,di@example.com,2026-01-02,x\n"
	file := read(t, content, Options{})
	want(t, describe(file), `line 2: {"email_address":"ada@example.com"}`, `line 4: {"email_address":"cy@example.com"}`,
		`line 5: {"email_address":"di@example.com"}`,
		`out line 3: must not be written to, as the column "Marketing consent" says`)
	const columns = "[{Email email_address} {Marketing consent who may be written to}]"
	if got := fmt.Sprint(file.Understood.Columns); got != columns {
		t.Errorf("understood: %s", got)
	}
}

// Airtable writes an empty box as nothing.
func TestAnEmptyBoxIsNoConsent(t *testing.T) {
	t.Parallel()
	file := read(t, "Email,Opt-in,Status\nada@example.com,checked,\nbob@example.com,,\n", Options{})
	want(t, describe(file), `line 2: {"email_address":"ada@example.com"}`,
		`out line 3: must not be written to, as the column "Opt-in" says`)
	const columns = "[{Email email_address} {Opt-in who may be written to} " +
		"{Status who must not be written to, if it says so}]"
	if got := fmt.Sprint(file.Understood.Columns); got != columns {
		t.Errorf("understood: %s", got)
	}
}

// An address is no status, whatever words are in it. A column of people who have unsubscribed says so of each.
func TestAnAddressSaysNotThatNobodyMayWriteToIt(t *testing.T) {
	t.Parallel()
	const complaints, never = "complaints@example.com", "never@example.com"
	for heading, lines := range map[string]string{
		"Subscriber email": `line 2: {"email_address":"complaints@example.com"}|` +
			`line 3: {"email_address":"never@example.com"}`,
		"Subscribed email": `line 2: {"email_address":"complaints@example.com"}|` +
			`line 3: {"email_address":"never@example.com"}`,
		"Unsubscribed email": `out line 2: must not be written to, as the column "Unsubscribed email" says|` +
			`out line 3: must not be written to, as the column "Unsubscribed email" says`,
	} {
		file := read(t, heading+"\n"+complaints+"\n"+never+"\n", Options{EmailColumn: heading})
		want(t, describe(file), strings.Split(lines, "|")...)
		text := fmt.Sprintf(`[{%q:%q},{%[1]q:%[3]q}]`, heading, complaints, never)
		if got := read(t, text, Options{EmailColumn: heading}); len(got.Rows) != len(file.Rows) {
			t.Errorf("%s: %d of JSON", heading, len(got.Rows))
		}
	}
}

// The address of a row that must not be written to is known in the other rows, however it is spelled there.
func TestOptOutsCountForAddressesThatAreNotClean(t *testing.T) {
	t.Parallel()
	for _, cell := range []string{
		"bob@exam\u200Bple.com", "b\u200Dob@example.com", "\u202Abob@example.com\u202C", "bob@example.com.",
		"mailto:bob@example.com?subject=x", "Bob\u00A0bob@example.com", "bob\uFF20example.com",
	} {
		file := read(t, "email,unsubscribed\nbob@example.com,\n"+cell+",yes\nada@example.com,\n", Options{})
		want(t, describe(file), `line 4: {"email_address":"ada@example.com"}`,
			`out line 2: is left out, as line 3 says`,
			`out line 3: must not be written to, as the column "unsubscribed" says`)
	}
}

// A row that is refused does not come back corrected if another row says that its person must not be written to.
func TestOptOutsCountForRowsThatAreRefused(t *testing.T) {
	t.Parallel()
	file := read(t, "email,notify,expires_in_days,unsubscribed\nbob@example.com,maybe,x,\nbob@example.com,,,yes\n"+
		"ada@example.com,maybe,,\n", Options{})
	want(t, describe(file), `bad line 4: notify: "maybe" is none of true, 1, yes, false, 0, no`,
		`out line 2: is left out, as line 3 says`,
		`out line 3: must not be written to, as the column "unsubscribed" says`)
}

// Only the copyright under a report makes it one of Salesforce, whose unknown columns are passed over.
func TestAWordAtTheEndMakesNoReport(t *testing.T) {
	t.Parallel()
	for content, fault := range map[string]string{
		"Email,Manager Email\nada@example.com,boss@example.com\nbob@salesforce.com,\n": "f, line 1: has more than one " +
			`column with addresses: "Email" and "Manager Email": say whose are meant, such as --email-column Email ` +
			`--ignore-columns`,
		"Email,Team\nada@example.com,a\n\nvia salesforce.com,\n": `unknown columns: "Team"`,
		"Email,Team\nada@example.com,a\n" + // no blank line
			"Copyright 2026 salesforce.com,\n": `unknown columns: "Team"`,
	} {
		_, err := Read(strings.NewReader(content), Options{Name: "f"})
		if !strings.Contains(fmt.Sprint(err), fault) {
			t.Errorf("%q: %v, want %s", content, err, fault)
		}
	}
}

// The first user of Firebase may have no address. The others' hashes are no headings.
func TestFirebaseUsersAreNoHeadings(t *testing.T) {
	t.Parallel()
	user := func(id, email, other string) string {
		return id + "," + email + ",true,SECRET,SECRET,,,," + other + strings.Repeat(",", 20) + "2\n" // as the flag's number
	}
	content := user("u1", "", "") + user("u2", "ada@example.com", "home@example.org")
	file := read(t, content, Options{})
	want(t, describe(file), `line 2: {"email_address":"ada@example.com"}`, `out line 1: has no address`,
		`guess 1: there is no header, and column 2 is taken for the addresses [--no-header --email-column 2]`)
	want(t, aside(file), "1 have further addresses\nwarning "+firebaseWarning)
	if text := fmt.Sprintf("%+v", file.Understood); strings.Contains(text, "SECRET") {
		t.Error(text)
	}
	certain := read(t, content, Options{NoHeader: true, EmailColumn: "2"})
	want(t, describe(certain), `line 2: {"email_address":"ada@example.com"}`, `out line 1: has no address`)
	want(t, aside(certain), "1 have further addresses\nwarning "+firebaseWarning)
}

func TestAColumnWithoutANameIsNotTakenForTheAddresses(t *testing.T) {
	t.Parallel()
	_, err := Read(strings.NewReader("Name,,\nAda,ada@example.com,x\n"), Options{Name: "f"})
	want(t, fmt.Sprint(err), "f, line 1: has addresses in column 2, which has no name: give it one, such as "+
		"email_address, or say --no-header if the first line is a person")
}

func TestAnEscapedSignIsSeenInJSON(t *testing.T) {
	t.Parallel()
	_, err := Read(strings.NewReader(`[{"email":"ada@example.com","boss":"eve\u0040example.com"}]`),
		Options{IgnoreColumns: true})
	if !strings.Contains(fmt.Sprint(err), `"email" and "boss"`) {
		t.Error(err)
	}
}

func TestWebPagesAreNoLists(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"<html><table>", "\n<!DOCTYPE html>", "<?xml version='1.0'?>", "<TABLE id=1>"} {
		_, err := Read(strings.NewReader(content), Options{Name: "f"})
		want(t, fmt.Sprint(err), "f: is a web page or XML, not a list: "+saveAs)
	}
}

// Read as another encoding, UTF-8 would make another address of josé@example.com.
func TestUTF8IsReadAsNothingElse(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"windows-1252", "ISO 8859-1"} {
		_, err := Read(strings.NewReader("email\njosé@example.com\n"), Options{Name: "f", Encoding: encoding})
		want(t, fmt.Sprint(err), fmt.Sprintf("f, line 2: is UTF-8 and not %q: leave --encoding out", encoding))
		file := read(t, "email\njos\xE9@example.com\n", Options{Encoding: encoding})
		want(t, describe(file), `line 2: {"email_address":"josé@example.com"}`)
		want(t, describe(read(t, "email\na@example.com\n", Options{Encoding: encoding})),
			`line 2: {"email_address":"a@example.com"}`)
	}
}

// A heading that looks like a flag is none, and a long one can be pasted.
func TestFlagsCanBePasted(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 900)
	for heading, flag := range map[string]string{
		"-x": "--email-column=-x", "--a b": "--email-column='--a b'", "a b": "--email-column 'a b'",
		"-\n": `--email-column=$'-\n'`, long: "--email-column " + long,
	} {
		if got := (Flag{"email-column", heading}).String(); got != flag {
			t.Errorf("%q becomes %s", heading, got)
		}
	}
}
