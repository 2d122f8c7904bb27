package tokens_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/usher/internal/tokens"
)

const (
	signup = "signup-0123456789-0123456789-012"
	fresh  = "signup-next-9876543210-987654321"
	people = "people-0123456789-0123456789-012"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, content string) (*tokens.File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, path, content)
	return tokens.Open(path, nil)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(people))
	file, err := open(t, "\uFEFF# who may do what\r\n\nsignup: "+signup+"\r\n signup : "+fresh+" enqueue, read\n"+
		"people: sha256:"+hex.EncodeToString(sum[:])+" operate\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, name            string
		enqueue, read, operate bool
	}{
		{signup, "signup", true, false, false},
		{fresh, "signup", true, true, false},
		{people, "people", false, true, true},
		{"", "", false, false, false},
		{signup[1:], "", false, false, false},
		{hex.EncodeToString(sum[:]), "", false, false, false},
		{"sha256:" + hex.EncodeToString(sum[:]), "", false, false, false},
	} {
		who, ok := file.Lookup(c.token)
		if ok != (c.name != "") || who.Name != c.name || who.May(tokens.Enqueue) != c.enqueue ||
			who.May(tokens.Read) != c.read || who.May(tokens.Operate) != c.operate {
			t.Errorf("%q stands for %q with %q, found %v", c.token, who.Name, who.Scopes, ok)
		}
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ content, want string }{
		"empty":         {"# nobody\n", "at least one line"},
		"short":         {"a: " + signup[1:], "in line 1 a token of at least 32 visible ASCII characters"},
		"unseen":        {"a: " + signup + "\u200b", "visible ASCII"},
		"no name":       {": " + signup, "a name of 1 to 64"},
		"odd name":      {"a b: " + signup, "a name of 1 to 64"},
		"no colon":      {signup, `"name: token"`},
		"no token":      {"\na:", `in line 2 "name: token"`},
		"scope":         {"a: " + signup + " admin", "scopes of enqueue, read and operate"},
		"short hash":    {"a: sha256:00ff", "sha256: and 64 hexadecimal digits"},
		"twice":         {"a: " + signup + "\nb: " + signup, "in line 2 another token than line 1"},
		"a pass phrase": {"a: " + signup + " and more words", "scopes of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := open(t, c.content)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %s", err, c.want)
			}
			if strings.Contains(err.Error(), signup[1:10]) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestWhoCanReadTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..data"), 0o755); err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(dir, "..data", "tokens")
	write(t, real, "a: "+signup)
	link := filepath.Join(dir, "tokens") // as Kubernetes mounts it
	if err := os.Symlink("..data/tokens", link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode     os.FileMode
		path, as string
	}{
		{0o600, real, ""}, {0o640, real, ""}, {0o400, real, ""},
		{0o644, real, "others cannot read (its mode is 0644: chmod 600)"},
		{0o644, link, ""},
		{0o646, link, "only its owner can write"}, {0o620, real, "only its owner can write"},
	} {
		if err := os.Chmod(real, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := tokens.Open(c.path, nil)
		if (err == nil) != (c.as == "") || err != nil && !strings.Contains(err.Error(), c.as) {
			t.Errorf("mode %04o of %s: got %v, want %q", c.mode, filepath.Base(filepath.Dir(c.path)), err, c.as)
		}
	}
	if _, err := tokens.Open(dir, nil); err == nil {
		t.Error("a directory was taken for a file")
	}
	if _, err := tokens.Open(filepath.Join(dir, "none"), nil); err == nil {
		t.Error("a file that does not exist was taken")
	}
}

// A token that is replaced in the file is taken, and the old one is not, within a second.
func TestRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, path, "signup: "+signup)
	synctest.Test(t, func(t *testing.T) {
		var warned []error
		file, err := tokens.Open(path, func(err error) { warned = append(warned, err) })
		if err != nil {
			t.Fatal(err)
		}
		before, ok := file.Lookup(signup)
		if _, still := file.Still(before); !ok || !still {
			t.Fatal("the token was not found")
		}

		write(t, path, "signup: "+signup+" operate\nsignup: "+fresh)
		time.Sleep(time.Second)
		if now, still := file.Still(before); !still || !now.May(tokens.Operate) {
			t.Errorf("the token stands for %v, found %v", now, still)
		}
		if who, ok := file.Lookup(fresh); !ok || who.Name != "signup" {
			t.Errorf("the second token stands for %v, found %v", who, ok)
		}

		write(t, path, "signup: too short")
		for range 2 {
			time.Sleep(time.Second)
			if _, ok := file.Lookup(fresh); !ok {
				t.Error("a bad file took the tokens away")
			}
		}
		if len(warned) != 1 || file.Fault() == nil {
			t.Errorf("warned of %v; the fault is %v", warned, file.Fault())
		}

		write(t, path, "signup: "+fresh)
		time.Sleep(time.Second)
		if _, still := file.Still(before); still {
			t.Error("the token is gone from the file, and still found")
		}
		if _, ok := file.Lookup(fresh); !ok || file.Fault() != nil {
			t.Errorf("the new token was found: %v; the fault is %v", ok, file.Fault())
		}
	})
}
