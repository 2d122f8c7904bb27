package peoplefile

import (
	"encoding/json"
	"slices"
	"strings"
)

// optOutWords are parts of folded headings whose columns say that a person must not be written to.
var optOutWords = []string{
	"unsub", "optout", "optedout", "donotcontact", "donotemail", "donotmail", "dontcontact", "dontemail", "bounce",
	"cleaned", "suppress", "blocked", "disabled", "banned", "deleted", "blacklist", "blocklist", "spamreport",
	"complain",
}

// optOutStates are what a column about a status may say of such a person.
var optOutStates = []string{
	"unsubscribed", "optedout", "optout", "donotcontact", "bounced", "hardbounced", "hardbounce", "cleaned",
	"suppressed",
	"blocked", "disabled", "banned", "deleted", "complained",
}

// forbids says how a column may forbid to write to somebody.
type forbids int

const (
	never      forbids = iota
	ifAnything         // a value other than empty, false, 0 or no
	ifState            // a status such as unsubscribed
)

func forbidsOf(heading string) forbids {
	folded := foldHeading(heading)
	switch {
	case slices.ContainsFunc(optOutWords, func(word string) bool { return strings.Contains(folded, word) }):
		return ifAnything
	case strings.Contains(folded, "status"), strings.Contains(folded, "subscri"):
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
		return slices.Contains(optOutStates, foldHeading(cell))
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
