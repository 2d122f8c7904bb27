package store_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// answer is an error that Redis has answered.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}

// TestRefused: in the words of Redis 7.0.15, and of Redis 8.0.2 and Valkey 8.0.1, which say the same.
func TestRefused(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		answer("NOPERM this user has no permissions to run the 'lset' command"):                                   true,
		answer("NOPERM User app has no permissions to run the 'lset' command"):                                    true,
		answer("ERR The user executing the script can't run this command or subcommand script: c23c, on @user:1"): true,
		answer("ERR ACL failure in script: User app has no permissions to run the 'lset' command script: c23c"):   true,
		answer("ERR unknown command 'BLMOVE', with args beginning with: "):                                        true,
		answer("OOM command not allowed when used memory > 'maxmemory'."):                                         true,
		answer("WRONGTYPE Operation against a key holding the wrong kind of value"):                               false,
		answer("ERR no such key"):           false,
		redis.Nil:                           false,
		errors.New("NOPERM says a network"): false,
	} {
		if got := store.Refused(err); got != want {
			t.Errorf("%v: %t, want %t", err, got, want)
		}
	}
}
