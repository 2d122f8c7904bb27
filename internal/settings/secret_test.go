package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct{ name, value, path, want, fault string }{
		{name: "neither"},
		{name: "value", value: "hunter2", want: "hunter2"},
		{name: "file", path: file("plain", "hunter2"), want: "hunter2"},
		{name: "line break", path: file("lf", "hunter2\n"), want: "hunter2"},
		{name: "CRLF", path: file("crlf", "hunter2\r\n"), want: "hunter2"},
		{name: "largest", path: file("largest", strings.Repeat("x", MaxSecretBytes)),
			want: strings.Repeat("x", MaxSecretBytes)},
		{name: "both", value: "hunter2", path: file("other", "hunter2"),
			fault: `CLERK_SECRET_KEY: got both CLERK_SECRET_KEY and CLERK_SECRET_KEY_FILE, want only one of them`},
		{name: "too large", path: file("large", strings.Repeat("x", MaxSecretBytes+1)),
			fault: `FILE, want a file of at most 65536 bytes`},
		{name: "empty", path: file("empty", ""), fault: `FILE, want a file that is not empty`},
		{name: "blank", path: file("blank", " \r\n\n"), fault: `FILE, want a file that is not empty`},
		{name: "two lines", path: file("two", "hunter2\nhunter2\n"), fault: `FILE, want a file of one line`},
		{name: "missing", path: "/nowhere/key",
			fault: `FILE, want a file that can be read (no such file or directory)`},
		{name: "directory", path: "/", fault: `FILE, want a file that can be read (is a directory)`},
		{name: "key as path", path: "sk_live_hunter2",
			fault: `CLERK_SECRET_KEY_FILE: got "sk_live_…", want a file that can be read (no such file or directory)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Secret("CLERK_SECRET_KEY", test.value, test.path)
			if rest, found := strings.CutPrefix(test.fault, "FILE, want"); found {
				test.fault = "CLERK_SECRET_KEY_FILE: got " + Show(test.path) + ", want" + rest
			}
			wantFault(t, err, test.fault)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestClerkKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ key, kind, fault string }{
		{key: "sk_test_abc", kind: KindTest},
		{key: "sk_live_a.b~c-d", kind: KindLive},
		{key: "", fault: `CLERK_SECRET_KEY: got nothing, want a Clerk secret key, sk_test_… or sk_live_…`},
		{key: "hunter2", fault: `CLERK_SECRET_KEY: got "…", want a Clerk secret key, sk_test_… or sk_live_…`},
		{key: "pk_test_hunter2",
			fault: `CLERK_SECRET_KEY: got "pk_test_…", want a Clerk secret key, sk_test_… or sk_live_…`},
		{key: " sk_live_hunter2", fault: `CLERK_SECRET_KEY: got "…", want a Clerk secret key, sk_test_… or sk_live_…`},
		{key: "sk_live_hunter2\n",
			fault: `CLERK_SECRET_KEY: got "sk_live_…" with spaces or characters outside ASCII, want a Clerk secret ` +
				`key, sk_test_… or sk_live_…`},
		{key: "sk_live_hunter2 x",
			fault: `CLERK_SECRET_KEY: got "sk_live_…" with spaces or characters outside ASCII, want a Clerk secret ` +
				`key, sk_test_… or sk_live_…`},
		{key: "sk_live_hünter2",
			fault: `CLERK_SECRET_KEY: got "sk_live_…" with spaces or characters outside ASCII, want a Clerk secret ` +
				`key, sk_test_… or sk_live_…`},
		{key: "sk_test_",
			fault: `CLERK_SECRET_KEY: got "sk_test_" and nothing after it, want a Clerk secret key, sk_test_… or ` +
				`sk_live_…`},
		{key: "sk_live_" + strings.Repeat("x", MaxSecretBytes),
			fault: `CLERK_SECRET_KEY: got "sk_live_…" of impossible length, want a Clerk secret key, sk_test_… or ` +
				`sk_live_…`},
	} {
		kind, err := ClerkKey("CLERK_SECRET_KEY", test.key)
		wantFault(t, err, test.fault)
		if kind != test.kind {
			t.Errorf("ClerkKey(%q) = %q, want %q", test.key, kind, test.kind)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{
		"sk_test_hunter2": "sk_test_…", "sk_live_hunter2": "sk_live_…", "pk_live_hunter2": "pk_live_…", "hunter2": "…",
		"": "…", "sk_hunter2": "…",
		"xsk_live_hunter2": "…",
	} {
		if got := Mask(secret); got != want {
			t.Errorf("Mask(%q) = %q, want %q", secret, got, want)
		}
	}
}

func TestMaskURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://127.0.0.1:6379/0":    "redis://127.0.0.1:6379/0",
		"redis://[::1]:6379/0":        "redis://[::1]:6379/0",
		"redis://:hunter2@h:1/0":      "redis://:…@h:1/0",
		"rediss://user:hunter2@h:1/0": "rediss://user:…@h:1/0",
		"redis://hunter2@h:1/0":       "redis://…@h:1/0",
		// a user name with an empty password
		"redis://hunter2:@h":                                  "redis://hunter2:…@h",
		"unix:///run/redis.sock?db=1":                         "unix:///run/redis.sock?db=…",
		"unix://u:hunter2@/run/redis.sock":                    "unix://u:…@/run/redis.sock",
		"redis+sentinel://u:hunter2@a:1,b:2/m/0":              "redis+sentinel://u:…@a:1,b:2/m/0",
		"redis+sentinel://a/m?sentinel_password=hunter2&db=1": "redis+sentinel://a/m?sentinel_password=…&db=…",
		"redis://h/0?hunter2":                                 "redis://h/0?…",
		"redis://h/0?hunter2;x=1":                             "redis://h/0?…",
		"redis://h/0#hunter2":                                 "redis://h/0#…",
		"redis://u:p@hunter2@h":                               "redis://u:…@h",
		"redis://u:%zzhunter2@h":                              "redis://u:…@h",
		"redis://u:hunter2,x@h":                               "redis://u:…@h",
		"redis://hunter2 x:y@h":                               "redis://…:…@h",
		// the / ends the authority: nothing can be told apart
		"redis://u:hunter2/x@h":   "redis://…",
		"redis://u:1/hunter2@h":   "redis://…",
		"redis://u:1?hunter2@h":   "redis://…",
		"redis://u:1#hunter2@h":   "redis://…",
		"redis://u:a@b/hunter2@h": "redis://…",
		"redis://u:hunter2":       "redis://…",
		"redis://:hunter2":        "redis://…",
		"redis://h:hunter2/0":     "redis://…",
		"redis://h\nhunter2/0":    "redis://…",
		"redis://h/hunter 2":      "redis://h/…",
		"redis:hunter2@h":         "…",
		"redis:/u:hunter2@h":      "…",
		"u:hunter2@h":             "…",
		"hunter2 ://h":            "…",
		"://hunter2@h":            "…",
		"hunter2":                 "…",
		"":                        "…",
	} {
		if got := MaskURL(url); got != want {
			t.Errorf("MaskURL(%q) = %q, want %q", url, got, want)
		}
	}
}

// FuzzMaskURL puts a password into the middle of anything: whatever net/url or a person takes for one must not be
// shown.
func FuzzMaskURL(f *testing.F) {
	f.Add("redis://user:", "@host:6379/0")
	f.Add("redis://:", "/x@host")
	f.Add("redis+sentinel://a:1/m?sentinel_password=", "&db=1")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		const password = "h%nter2~!"
		if masked := MaskURL(before + ":" + password + after); strings.Contains(masked, password) ||
			strings.ContainsAny(masked, "\r\n") {
			t.Errorf("MaskURL(%q) = %q", before+":"+password+after, masked)
		}
	})
}
