package desk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/tasks"
)

// logged forgets addresses, and lifts the last one, and gives the log.
func (d *Desk) logged(t *testing.T, addresses ...string) (path string) {
	t.Helper()
	d.ErasureLog = filepath.Join(t.TempDir(), "erasures.log")
	for _, address := range addresses {
		_, err := d.Forget(t.Context(), address, func(string) {})
		must(t, err)
	}
	_, err := d.Lift(t.Context(), addresses[len(addresses)-1])
	must(t, err)
	return d.ErasureLog
}

// TestAnErasureLogNamesNobody: it tells nothing without the key, which is in Redis, and is readable to its owner alone.
func TestAnErasureLogNamesNobody(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	path := d.logged(t, address, "grace@example.com")
	text, err := os.ReadFile(path)
	must(t, err)
	id, _ := store.IDOf(address).MarshalText()
	salt := d.rdb.HGet(t.Context(), "usher:{once}:forgotten", "salt").Val()
	for _, secret := range []string{"ada@", "example", string(id), salt} {
		if secret == "" || strings.Contains(string(text), secret) {
			t.Errorf("the log holds %q:\n%s", secret, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if n := strings.Count(string(text), "\n"); n != 3 {
		t.Errorf("%d lines, want 3", n)
	}
}

// TestALineBehindABrokenOneIsWhole: a crash has left a line without its end.
func TestALineBehindABrokenOneIsWhole(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	path := d.logged(t, address)
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(text, `{"at":"20`...), 0o600))
	must(t, appendLine(path, []byte("whole")))
	text, err = os.ReadFile(path)
	must(t, err)
	if !strings.HasSuffix(string(text), `{"at":"20`+"\nwhole\n") {
		t.Errorf("%s", text)
	}
}

// TestAnErasureThatCannotBeLoggedRemovesNothing: it says so, and the address is kept out.
func TestAnErasureThatCannotBeLoggedRemovesNothing(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	d.ErasureLog = filepath.Join(t.TempDir(), "missing", "erasures.log")
	_, err := d.Invite(t.Context(), tasks.Recipient{EmailAddress: address})
	must(t, err)
	r, err := d.Forget(t.Context(), address, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "repeat it") || r.Tasks != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	forgotten, err := d.tombstones.Forgotten(t.Context(), store.IDOf(address))
	if err != nil || !forgotten[0] {
		t.Errorf("forgotten: %v, %v", forgotten, err)
	}
}

// TestListsThatWaitAreGoneWhenErasuresAreRepeated: nobody can look into them.
func TestListsThatWaitAreGoneWhenErasuresAreRepeated(t *testing.T) {
	t.Parallel()
	d, server := setup(t)
	_, err := d.keptLists.Keep(t.Context(), "ops", []byte(address))
	must(t, err)
	_, err = d.ForgetAgain(t.Context(), nil, func(string) {})
	must(t, err)
	if kept := server.Keys(); strings.Contains(strings.Join(kept, " "), "{kept}") {
		t.Errorf("left: %q", kept)
	}
}

// TestErasuresAreRepeatedWhereverAnAddressStands, also where only its id does, or its text in what cannot be read. Who
// was lifted stays.
func TestErasuresAreRepeatedWhereverAnAddressStands(t *testing.T) {
	t.Parallel()
	places := map[string]func(*testing.T, *Desk){
		"a campaign": func(t *testing.T, d *Desk) { d.campaign(t, "spring", 3) },
		"a task": func(t *testing.T, d *Desk) {
			_, err := d.Invite(t.Context(), tasks.Recipient{EmailAddress: "Bulk1@example.com"}, tasks.In(time.Hour))
			must(t, err)
		},
		"an intent": func(t *testing.T, d *Desk) {
			must(t, d.intents.Reopen(t.Context(), intent.Doubt{
				Owned: intent.Owned{Owner: "t:1", Address: store.IDOf("bulk1@example.com")}, Since: 1,
			})[0])
		},
		"garbage": func(t *testing.T, d *Desk) {
			must(t, d.DeadLetters.Put(t.Context(), deadletter.Entry{
				ID: "1", TaskID: "1", Type: tasks.TypeInvite, FailedAt: time.Now(),
				Failure: fate.Failure{Reason: fate.ReasonInvalid, Code: "invalid_payload"},
				Payload: []byte("to: <bulk1@example.com>, bulk2@example.com."),
			}))
		},
	}
	for place, put := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			d, server := setup(t)
			path := d.logged(t, "bulk1@example.com", "bulk0@example.com")
			marks := server.HGet("usher:{once}:forgotten", "salt")
			server.Del("usher:{once}:forgotten") // the copy is older
			server.HSet("usher:{once}:forgotten", "salt", marks)
			put(t, d)
			erasures, err := d.ReadErasures(t.Context(), []string{path})
			must(t, err)
			for held := 1; held >= 0; held-- { // repeating it finds nothing
				r, err := d.ForgetAgain(t.Context(), erasures, func(string) {})
				must(t, err)
				if r.Addresses != 1 || r.Held != held {
					t.Errorf("%+v", r)
				}
			}
			if strings.Contains(strings.ToLower(server.Dump()), "bulk1@") {
				t.Errorf("held still:\n%s", server.Dump())
			}
			forgotten, err := d.tombstones.Forgotten(t.Context(), store.IDOf("bulk1@example.com"),
				store.IDOf("bulk0@example.com"))
			if err != nil || !forgotten[0] || forgotten[1] {
				t.Errorf("forgotten: %v, %v", forgotten, err)
			}
		})
	}
}
