package peoplefile

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// optOutWords are parts of folded words that say that a person must not be written to. A list kept in German, French,
// Spanish, Italian, Portuguese or Dutch says so in its own words, and nobody could see that one was passed over.
var optOutWords = []string{
	"unsub", "nonsubscri", "neversubscri", "notsubscri", "optout", "optedout", "donotcontact", "donotemail",
	"donotmail", "donotsend",
	"dontcontact", "dontemail", "bounce", "cleaned", "cleantime", "suppress", "blocked", "disabled", "banned",
	"deleted", "blacklist", "blocklist", "spamreport", "complain", "suspended", "deactivated", "deprovisioned",
	"unconfirmed", "undeliverable",
	"abgemeldet", "abmeld", "abbestell", "widerspr", "widerruf", "nichtkontaktieren", "nichtanschreiben", "gesperrt",
	"sperrliste", "gelosch", "geloesch", "deaktiviert", "unzustellbar",
	"desabonn", "desinscri", "nepascontacter", "bloque", "supprime", "desactiv", "nonsollicit",
	"desuscri", "debaja", "nocontactar", "noparticip", "rebotad", "eliminad", "suscripcioncancelad",
	"disiscri", "disattivat", "noncontattare", "bloccat", "eliminat",
	"descadastr", "naocontatar", "naocontactar", "desativad", "excluid", "inscricaocancelad",
	"afgemeld", "uitgeschreven", "nietcontacteren", "nietmailen", "geblokkeerd", "verwijderd",
}

// stateWords are parts of folded headings whose columns may say it in words, such as a status (state, statut).
var stateWords = []string{"stat", "subscri", "marketing", "mailing", "permission"}

// optOutHeadings are whole folded headings that say it, and are too short to be looked for in others.
var optOutHeadings = []string{"dnc", "noemail", "noemails", "nomail", "nomailing"}

// consentWords are parts of folded headings whose columns say who may be written to, and so may say that somebody
// may not.
var consentWords = []string{
	"optin", "optedin", "consen", "subscribed", "acceptsmarketing", "acceptsemail", "einwilligung", "zustimmung",
	"toestemming", "accountenabled", "newsletter",
}

// denials are how such a column begins to say that somebody may not. One that says nothing denies nothing.
var denials = []string{
	"false", "0", "no", "n", "not", "none", "nein", "nicht", "kein", "keine", "non", "nao", "nee", "niet", "falsch",
	"faux", "falso", "never", "off", "denied", "declined", "refused", "rejected", "withdrawn", "revoked", "expired",
}

// denies tells whether a text begins with one of the words, accents aside.
func denies(text string) bool {
	outside := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.Mn, r) }
	words := strings.FieldsFunc(norm.NFD.String(text), outside)
	return len(words) > 0 && slices.Contains(denials, foldHeading(words[0]))
}

// forbidding tells whether a text has one of the words, accents aside.
func forbidding(text string) bool {
	folded := foldHeading(norm.NFD.String(text))
	return slices.ContainsFunc(optOutWords, func(word string) bool { return strings.Contains(folded, word) })
}

// forbids says how a column may forbid to write to somebody.
type forbids int

const (
	never      forbids = iota
	ifAnything         // a value other than empty, false, 0 or no
	ifState            // a status such as unsubscribed
	ifDenied           // a consent that is refused, or such a status
)

// String says what such a column is.
func (f forbids) String() string {
	switch f {
	case ifState:
		return "who must not be written to, if it says so"
	case ifDenied:
		return "who may be written to"
	}
	return "who must not be written to"
}

func forbidsOf(heading string) forbids {
	folded := foldHeading(heading)
	switch {
	case forbidding(heading), slices.Contains(optOutHeadings, folded):
		return ifAnything
	case slices.ContainsFunc(consentWords, func(word string) bool { return strings.Contains(folded, word) }):
		return ifDenied
	case slices.ContainsFunc(stateWords, func(word string) bool { return strings.Contains(folded, word) }):
		return ifState
	}
	return never
}

// by tells whether a cell forbids to write to the person.
func (f forbids) by(cell string) bool {
	switch f {
	case ifAnything:
		switch strings.ToLower(strings.TrimSpace(cell)) {
		case "", "false", "0", "no":
			return false
		}
		return true
	case ifState:
		return forbidding(cell)
	case ifDenied:
		return forbidding(cell) || denies(cell)
	}
	return false
}

// byJSON is by for a value of JSON.
func (f forbids) byJSON(value json.RawMessage) bool {
	switch text := string(value); text {
	case "null", "[]", "{}":
		return false
	default:
		var said string
		if json.Unmarshal(value, &said) == nil {
			text = said
		}
		return f.by(text)
	}
}
