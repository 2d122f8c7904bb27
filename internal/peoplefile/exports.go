package peoplefile

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// export is a file that a known program writes. It is recognized by headings that are all there, as the program
// writes them: case, spaces and punctuation aside, and never as a part of a longer heading.
type export struct {
	program string
	seen    string   // the year in which its files were last looked at
	all     []string // folded headings that must be there
	address string   // the one with the primary address
	further []string // those with more addresses of the same person
	refused string   // why nobody in it may be invited

	preamble func(line string) bool // tells a line that the program writes in front of the header
	options  map[string]string      // headings that look like options, by field; only --map takes them

	json       bool // a JSON file; else a table
	sparse     bool // people without an address are usual in it
	ownColumns bool // its columns are the sender's own, so that options are taken from them
	recognized func(s signs) bool
}

// signs are what a file shows besides its headings.
type signs struct {
	checked bool   // a column holds nothing but checked or nothing, as ticked boxes are written
	footer  string // the last lines, folded
}

// exports are the known ones. The first that fits counts.
func exports() []export {
	return []export{
		{program: "Mailchimp, people who unsubscribed", seen: "2026", all: []string{"emailaddress", "unsubtime"},
			refused: "these people have unsubscribed"},
		{program: "Mailchimp, cleaned addresses", seen: "2026", all: []string{"emailaddress", "cleantime"},
			refused: "mail to these addresses came back, so Mailchimp has cleaned them out"},
		{program: "Mailchimp", seen: "2026", all: []string{"emailaddress", "memberrating", "leid", "euid"},
			address: "emailaddress"},
		{program: "Google Contacts", seen: "2024", all: []string{"firstname", "lastname", "email1label",
			"email1value"},
			address: "email1value", further: numbered("email#value"), sparse: true},
		{program: "Google Contacts", seen: "2020", all: []string{"name", "givenname", "familyname", "email1type",
			"email1value"}, address: "email1value", further: numbered("email#value"), sparse: true},
		{program: "LinkedIn connections", seen: "2026", all: []string{"firstname", "lastname", "url", "emailaddress",
			"company", "position", "connectedon"}, address: "emailaddress", sparse: true,
			preamble: func(string) bool { return true }},
		{program: "Outlook contacts", seen: "2026", all: []string{"firstname", "lastname", "emailaddress",
			"email2address"}, address: "emailaddress", further: numbered("email#address"), sparse: true},
		{program: "HubSpot", seen: "2026", all: []string{"recordid", "firstname", "lastname", "email"},
			address: "email", sparse: true},
		{program: "HubSpot unsubscribes and bounces", seen: "2026", all: []string{"email", "portalunsubscribe",
			"portalbounce", "globalbounce"}, address: "email"},
		{program: "Clerk dashboard", seen: "2026", all: []string{"id", "firstname", "lastname", "username",
			"primaryemailaddress", "verifiedemailaddresses", "unverifiedemailaddresses"},
			address: "primaryemailaddress", further: []string{"verifiedemailaddresses", "unverifiedemailaddresses"},
			sparse: true, preamble: func(line string) bool { return strings.HasPrefix(line, "#") }},
		{program: "Supabase", seen: "2026", all: []string{"instanceid", "aud", "role", "email", "encryptedpassword",
			"banneduntil", "deletedat"}, address: "email", sparse: true},
		{program: "Entra bulk invite", seen: "2026", all: []string{entraAddress, entraRedirect},
			address: entraAddress, options: map[string]string{fieldRedirect: entraRedirect, fieldNotify: entraNotify},
			preamble: func(line string) bool { return strings.HasPrefix(strings.ToLower(line), "version:") }},
		{program: "Firebase", seen: "2026", json: true, all: []string{"localid"}, address: "email", sparse: true},
		{program: "Auth0", seen: "2026", json: true, all: []string{"email", "emailverified"}, address: "email",
			sparse: true},
		{program: "Salesforce report", seen: "2026", all: []string{"email"}, address: "email", sparse: true,
			recognized: func(s signs) bool { return salesforceFooter.MatchString(s.footer) }},
		{program: "Airtable", seen: "2026", ownColumns: true, recognized: func(s signs) bool { return s.checked }},
	}
}

// salesforceFooter is the copyright under a report. A name alone may be anybody's, such as that of an address.
var salesforceFooter = regexp.MustCompile(`(?m)copyright.*salesforcecom`)

const (
	entraAddress  = "emailaddresstoinviteinviteeemailrequired"
	entraRedirect = "redirectionurlinviteredirecturlrequired"
	entraNotify   = "sendinvitationmessagetrueorfalsesendemail"
)

// firebaseCSV has no header. The disabled ones could be known from its 27th column.
const (
	firebaseCells    = 29
	firebaseAddress  = 1
	firebaseVerified = 2 // whether the address is: true or false
	firebaseWarning  = "column 27 may say who is disabled, but has no heading to be sure by"
)

// maxHeadings is more than an export has.
const maxHeadings = 2_000

func numbered(pattern string) (names []string) {
	for _, n := range []string{"2", "3", "4", "5", "6", "7", "8", "9"} {
		names = append(names, strings.ReplaceAll(pattern, "#", n))
	}
	return names
}

func (e export) String() string { return e.program + " (" + e.seen + ")" }

// fits tells whether folded headings are those of the export.
func (e export) fits(names []string, s signs) bool {
	for _, name := range e.all {
		if !slices.Contains(names, name) {
			return false
		}
	}
	return e.recognized == nil || e.recognized(s)
}

// exportOf finds the export that a file is, by its headings and other signs.
func exportOf(headings []string, json bool, s signs) *export {
	if len(headings) > maxHeadings {
		return nil
	}
	names := make([]string, len(headings))
	for i, heading := range headings {
		names[i] = foldHeading(heading)
	}
	known := exports()
	for i := range known {
		if known[i].json == json && known[i].fits(names, s) {
			return &known[i]
		}
	}
	return nil
}

// foldHeading drops case, spaces and punctuation.
func foldHeading(heading string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
