// Package tokens reads the file that says who may use the HTTP API and the worker's pages.
package tokens

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/usher/internal/settings"
)

// Setting is the variable that names the file.
const Setting = "USHER_API_TOKENS_FILE"

// Scope is what a token may do.
type Scope string

// The scopes. A token that may Operate may Read too. None of them lets a token Enqueue but that scope itself.
const (
	Enqueue Scope = "enqueue" // create tasks, and see those of the same name
	Read    Scope = "read"    // see everything, with addresses redacted
	Operate Scope = "operate" // see addresses, export, revoke, delete, retry, cancel
)

// Identity is who a token stands for.
type Identity struct {
	Name   string
	Scopes []Scope
	// Hash tells the token from others of the same name.
	Hash [sha256.Size]byte
}

// May tells whether the token may do what needs a scope.
func (i Identity) May(scope Scope) bool {
	return slices.Contains(i.Scopes, scope) || scope == Read && slices.Contains(i.Scopes, Operate)
}

const (
	// leastToken is the length of the shortest token.
	leastToken = 32
	// mostBytes bounds the file.
	mostBytes = 1 << 20
	// lookAgain is how often the file is read at most.
	lookAgain = time.Second
)

// File is a file of tokens. It is read again when it has changed. It is safe for concurrent use.
type File struct {
	path string
	warn func(error)

	mu      sync.Mutex
	read    time.Time // when the file was read last
	content []byte
	known   []Identity
	fault   error // why the tokens are those of an earlier reading
}

// Open reads a file of tokens. Each line is
//
//	name: token [scope,…]
//
// A token has at least 32 visible ASCII characters, or is sha256: and the 64 hexadecimal digits of its SHA-256. Two
// lines may have one name, so that a token can be replaced while the old one is still in use. Empty lines and those
// that begin with # say nothing.
//
// Later changes are taken over within a second of their use. While the changed file cannot be used, the tokens stay as
// they were, and warn is told why, once for each fault; it may be nil.
func Open(path string, warn func(error)) (*File, error) {
	f := &File{path: path, warn: warn}
	content, err := readFile(path)
	if err == nil {
		f.known, err = parse(content)
	}
	if err != nil {
		return nil, settings.Fault(Setting, path, "%v", err)
	}
	f.content, f.read = content, time.Now()
	return f, nil
}

// Lookup tells who a token stands for, and whether it is one. How long it takes says nothing about the tokens.
func (f *File) Lookup(token string) (Identity, bool) {
	return f.find(sha256.Sum256([]byte(token)))
}

// Still tells whether the token of an identity is still in the file, and what it stands for now.
func (f *File) Still(i Identity) (Identity, bool) { return f.find(i.Hash) }

func (f *File) find(hash [sha256.Size]byte) (found Identity, ok bool) {
	for _, one := range f.now() {
		if subtle.ConstantTimeCompare(one.Hash[:], hash[:]) == 1 {
			found, ok = one, true // and look at the others, too
		}
	}
	return found, ok
}

// Fault is why the file cannot be used as it is now; nil if it can.
func (f *File) Fault() error {
	f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault
}

// now gives the tokens as the file has them.
func (f *File) now() []Identity {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.read) < lookAgain {
		return f.known
	}
	f.read = time.Now()
	content, err := readFile(f.path)
	if err == nil && bytes.Equal(content, f.content) {
		f.fault = nil
		return f.known
	}
	var known []Identity
	if err == nil {
		known, err = parse(content)
	}
	if err != nil {
		fault := fmt.Errorf("%s: the tokens stay as they were, because the file now cannot be used: want %w", Setting, err)
		if f.warn != nil && (f.fault == nil || f.fault.Error() != fault.Error()) {
			f.warn(fault)
		}
		f.fault = fault
		return f.known
	}
	f.content, f.known, f.fault = content, known, nil
	return f.known
}

// readFile reads a file that others cannot read, unless it is a mounted secret.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("a file that can be read (%w)", err)
	}
	const (
		readable = fs.FileMode(0o004)
		writable = fs.FileMode(0o022)
	)
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, errors.New("a file, and no directory or device")
	case mode&writable != 0:
		return nil, fmt.Errorf("a file that only its owner can write (its mode is %04o: chmod 600)", mode.Perm())
	case mode&readable != 0 && !mounted(path):
		return nil, fmt.Errorf("a file that others cannot read (its mode is %04o: chmod 600)", mode.Perm())
	}
	content, err := settings.ReadUpTo(path, mostBytes+1)
	switch {
	case err != nil:
		return nil, fmt.Errorf("a file that can be read (%w)", errors.Unwrap(err))
	case len(content) > mostBytes:
		return nil, fmt.Errorf("a file of at most %d bytes", mostBytes)
	}
	return content, nil
}

// mounted tells whether a file is a secret that Docker or Kubernetes has mounted. Those are readable by every user of
// their container by default. Docker mounts them below /run/secrets. Kubernetes makes each of them a symbolic link
// into the directory ..data beside it.
func mounted(path string) bool {
	if link, err := os.Readlink(path); err == nil && strings.HasPrefix(link, "..data/") {
		return true
	}
	whole, err := filepath.Abs(path)
	return err == nil && (strings.HasPrefix(whole, "/run/secrets/") || strings.HasPrefix(whole, "/var/run/secrets/"))
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// parse reads the lines of a file. Errors say what a line should be, and never show a token.
func parse(content []byte) (known []Identity, err error) {
	lines := map[[sha256.Size]byte]int{}
	for i, text := range strings.Split(string(content), "\n") {
		text = strings.TrimSpace(strings.TrimPrefix(text, "\uFEFF"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		one, err := parseLine(text)
		if err == nil && lines[one.Hash] > 0 {
			err = fmt.Errorf("another token than line %d", lines[one.Hash])
		}
		if err != nil {
			return nil, fmt.Errorf("in line %d %w", i+1, err)
		}
		lines[one.Hash] = i + 1
		known = append(known, one)
	}
	if len(known) == 0 {
		return nil, errors.New(`at least one line such as "name: token"`)
	}
	return known, nil
}

func parseLine(text string) (one Identity, err error) {
	name, rest, found := strings.Cut(text, ":")
	fields := strings.Fields(rest)
	if one.Name = strings.TrimSpace(name); !found || len(fields) == 0 {
		return one, errors.New(`"name: token" or "name: token scope,scope"`)
	}
	if !namePattern.MatchString(one.Name) {
		return one, errors.New("a name of 1 to 64 letters, digits, dots, dashes or underscores before the colon")
	}
	if one.Hash, err = hashOf(fields[0]); err != nil {
		return one, err
	}
	scopes := strings.FieldsFunc(strings.Join(fields[1:], ","), func(r rune) bool { return r == ',' })
	for _, text := range scopes {
		scope := Scope(text)
		if !slices.Contains([]Scope{Enqueue, Read, Operate}, scope) {
			return one, fmt.Errorf("scopes of %s, %s and %s behind the token", Enqueue, Read, Operate)
		}
		one.Scopes = append(one.Scopes, scope)
	}
	if len(scopes) == 0 {
		one.Scopes = []Scope{Enqueue}
	}
	return one, nil
}

// hashOf gives the SHA-256 of a token, which may be written instead of it.
func hashOf(token string) (hash [sha256.Size]byte, err error) {
	if digits, is := strings.CutPrefix(token, "sha256:"); is {
		sum, err := hex.DecodeString(digits)
		if err != nil || len(sum) != len(hash) {
			return hash, errors.New("sha256: and 64 hexadecimal digits")
		}
		return [sha256.Size]byte(sum), nil
	}
	unseen := func(r rune) bool { return r <= ' ' || r > '~' }
	if strings.ContainsFunc(token, unseen) || len(token) < leastToken {
		return hash, fmt.Errorf("a token of at least %d visible ASCII characters", leastToken)
	}
	return sha256.Sum256([]byte(token)), nil
}
