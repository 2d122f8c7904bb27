// Package settings reads settings from text, as flags, the environment and files give it. Every fault is one
// sentence that names the setting, what it got (secrets masked) and what it wants.
package settings

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Error says why a setting cannot be used.
type Error struct {
	Name string // the setting, such as USHER_LIMIT_CREATE
	Got  string // as it is shown: text in quotes, secrets already masked
	Want string // what would have been right
}

func (e *Error) Error() string { return e.Name + ": got " + e.Got + ", want " + e.Want }

// Fault gives an *Error that quotes what was got.
func Fault(name, got, want string, args ...any) *Error {
	return &Error{Name: name, Got: Show(got), Want: fmt.Sprintf(want, args...)}
}

// maxShown bounds how much of a wrong value is repeated, in bytes.
const maxShown = 80

// Show quotes a value for a message, on one line and of bounded length. A Clerk key or a URL that was put into the
// wrong setting is masked.
func Show(value string) string {
	switch {
	case value == "":
		return "nothing"
	case Mask(value) != hidden:
		value = Mask(value)
	case strings.Contains(value, "://"):
		value = MaskURL(value)
	}
	if len(value) > maxShown {
		value = strings.ToValidUTF8(value[:maxShown], "") + hidden
	}
	return strconv.Quote(value)
}

// Int reads a whole number between least and most.
func Int(name, text string, least, most int) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < least || n > most {
		return 0, Fault(name, text, "a whole number from %d to %d", least, most)
	}
	return n, nil
}

// OneOf reads one of the choices. Case does not matter.
func OneOf(name, text string, choices ...string) (string, error) {
	for _, choice := range choices {
		if strings.EqualFold(strings.TrimSpace(text), choice) {
			return choice, nil
		}
	}
	return "", Fault(name, text, "one of %s", strings.Join(choices, ", "))
}

var namespacePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

// Namespace checks the prefix of queues and keys.
func Namespace(name, text string) error {
	if !namespacePattern.MatchString(text) {
		return Fault(name, text, "1 to 32 letters, digits, dots, dashes or underscores")
	}
	return nil
}

// HTTPURL reads the base of an HTTP API; it comes back without a slash at its end.
func HTTPURL(name, text string) (string, error) {
	text = strings.TrimSpace(text)
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "https" && parsed.Scheme != "http" || parsed.Hostname() == "" ||
		parsed.User != nil || strings.ContainsAny(text, "?#") {
		const want = "an address such as https://api.clerk.com/v1, without user name, query or fragment"
		return "", Fault(name, text, want)
	}
	return strings.TrimRight(text, "/"), nil
}

// Hosts are the names, without a port, under which a server that listens on an address may be asked: those of this
// machine, the one it listens on, and others. KnownHost checks one.
func Hosts(addr string, others []string) []string {
	hosts := append([]string{"localhost", "127.0.0.1", "::1"}, others...)
	host, _, _ := net.SplitHostPort(addr)
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		hosts = append(hosts, host)
	}
	return hosts
}

// KnownHost tells whether the Host of a request is one of Hosts: a name that leads here by somebody else's DNS would
// make their pages ours.
func KnownHost(hosts []string, host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return slices.ContainsFunc(hosts, func(known string) bool { return strings.EqualFold(known, host) })
}

// ListenAddr reads where to listen; "off" gives "". loopback tells that only this machine can reach it.
func ListenAddr(name, text string) (addr string, loopback bool, err error) {
	text = strings.TrimSpace(text)
	if strings.EqualFold(text, "off") {
		return "", false, nil
	}
	host, port, err := net.SplitHostPort(text)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || strings.ContainsAny(host, " /@") {
		return "", false, Fault(name, text, "host:port such as 127.0.0.1:8080, or off")
	}
	ip, err := netip.ParseAddr(host)
	return text, strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback(), nil
}

// flagInText is a flag of a command in a text that was written for its users.
var flagInText = regexp.MustCompile(`--([a-z][a-z-]*)`)

// ReplaceFlags gives a text that was written for users of a command with something else instead of each flag, whose
// name comes without its dashes.
func ReplaceFlags(text string, with func(flag string) string) string {
	return flagInText.ReplaceAllStringFunc(text, func(flag string) string { return with(flag[2:]) })
}

// FlagsAsKeys gives such a text with keys such as skip_invalid, as files and requests have them, instead of flags.
func FlagsAsKeys(text string) string {
	return ReplaceFlags(text, func(flag string) string { return strings.ReplaceAll(flag, "-", "_") })
}
