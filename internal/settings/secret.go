package settings

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// MaxSecretBytes bounds the file of a secret.
const MaxSecretBytes = 64 << 10

// Secret gives the value, or the content of the file without the line break at its end. Neither gives "", both is an
// error.
func Secret(name, value, filePath string) (string, error) {
	fileName := name + "_FILE"
	switch {
	case value != "" && filePath != "":
		return "", &Error{Name: name, Got: "both " + name + " and " + fileName, Want: "only one of them"}
	case filePath == "":
		return value, nil
	}
	content, err := File(fileName, filePath, MaxSecretBytes)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(content), "\r\n")
	switch {
	case strings.TrimSpace(secret) == "":
		return "", Fault(fileName, filePath, "a file that is not empty")
	case strings.ContainsAny(secret, "\r\n"):
		return "", Fault(fileName, filePath, "a file of one line")
	}
	return secret, nil
}

// File reads a file that a setting names, of at most maxBytes.
func File(name, path string, maxBytes int) ([]byte, error) {
	content, err := ReadUpTo(path, maxBytes+1)
	switch {
	case err != nil:
		// The path is shown once, by fault, which masks a secret put there by mistake.
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		return nil, Fault(name, path, "a file that can be read (%v)", err)
	case len(content) > maxBytes:
		return nil, Fault(name, path, "a file of at most %d bytes", maxBytes)
	}
	return content, nil
}

// ReadUpTo reads at most the first maxBytes of a file.
func ReadUpTo(path string, maxBytes int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, int64(maxBytes)))
}

// The kinds of a Clerk key: of a development instance and of a production instance.
const (
	KindTest = "test"
	KindLive = "live"
)

// ClerkKey checks a secret key as Clerk documents it, sk_test_… or sk_live_…, and gives its kind. Errors never show
// the key.
func ClerkKey(name, key string) (kind string, err error) {
	switch prefix, _ := strings.CutSuffix(Mask(key), hidden); prefix {
	case "sk_test_":
		kind = KindTest
	case "sk_live_":
		kind = KindLive
	}
	unprintable := strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
	got := `"` + Mask(key) + `"`
	switch {
	case key == "":
		got = "nothing"
	case kind == "":
	case unprintable:
		got += " with spaces or characters outside ASCII"
	case len(key) == len("sk_test_"):
		got = `"` + key + `" and nothing after it`
	case len(key) > MaxSecretBytes:
		got += " of impossible length"
	default:
		return kind, nil
	}
	return "", &Error{Name: name, Got: got, Want: "a Clerk secret key, sk_test_… or sk_live_…"}
}

// hidden stands for what is not shown.
const hidden = "…"

var keyPattern = regexp.MustCompile(`^[sp]k_(?:test|live)_`)

// Mask shows of a secret only the prefix by which Clerk marks the kind of a key, such as sk_test_…, and of any other
// nothing.
func Mask(secret string) string { return keyPattern.FindString(secret) + hidden }

// hosts is a regular expression for a list of hosts with or without ports.
const hosts = host + `(?:,` + host + `)*`
const host = `(?:\[[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]*)(?::[0-9]{1,5})?`

var (
	schemePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]{0,30}$`)
	// restPattern takes apart what follows the scheme: user, hosts, path, query and fragment. An @ behind the hosts
	// belongs to a password with an unescaped / ? or #.
	restPattern  = regexp.MustCompile(`^([^/?#]*@)?(` + hosts + `)(/[^?#@]*)?(\?[^#@]*)?(#[^@]*)?$`)
	userPattern  = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)
	pathPattern  = regexp.MustCompile(`^[A-Za-z0-9._/-]*$`)
	queryPattern = regexp.MustCompile(`([?&])([A-Za-z0-9._-]{1,64}=)?[^&]*`)
)

// MaskURL hides what may be secret in a URL: the password, a user name without one (it often is one), and the values
// of the query. A URL that cannot be told apart shows its scheme only. It goes by the text and not by net/url,
// because the URLs that need masking most are those that do not parse, and because ours may list several hosts.
func MaskURL(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	parts := restPattern.FindStringSubmatch(rest)
	switch {
	case !found || !schemePattern.MatchString(scheme):
		return hidden
	case parts == nil:
		return scheme + "://" + hidden
	}
	user, path, query, fragment := parts[1], parts[3], parts[4], parts[5]
	if user != "" {
		name, _, withPassword := strings.Cut(user, ":")
		if !withPassword || !userPattern.MatchString(name) {
			name = hidden
		}
		if withPassword {
			name += ":" + hidden
		}
		user = name + "@"
	}
	if !pathPattern.MatchString(path) {
		path = "/" + hidden
	}
	if fragment != "" {
		fragment = "#" + hidden
	}
	return scheme + "://" + user + parts[2] + path + queryPattern.ReplaceAllString(query, "${1}${2}"+hidden) + fragment
}
