package store

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	secretBytes = 32
	// secretKept is for how long a process believes that Redis has the secret still.
	secretKept = time.Minute
)

// Secret is the secret of a namespace: what leaves Usher under a key that derives from it tells nobody else what it
// stands for. The first who needs it makes it.
type Secret struct {
	db DB

	mu    sync.Mutex
	value string
	until time.Time
}

// NewSecret gives the secret of a namespace.
func NewSecret(db DB) *Secret { return &Secret{db: db} }

// absence is what is done where there is no secret.
type absence string

const (
	leave      absence = ""       // nothing
	makeOne    absence = "make"   // one is made if Redis has memory for it
	makeAnyway absence = "anyway" // one is made although Redis is full
)

// Derive gives the key of one purpose, 32 bytes. It makes the secret if there is none, although Redis may be full.
func (s *Secret) Derive(ctx context.Context, purpose string) ([]byte, error) {
	return s.derive(ctx, purpose, makeAnyway)
}

// DeriveToWrite is Derive for who is about to write. Where Redis is full it makes no secret, and fails as that write
// would.
func (s *Secret) DeriveToWrite(ctx context.Context, purpose string) ([]byte, error) {
	return s.derive(ctx, purpose, makeOne)
}

// Known is Derive that writes nothing. The key is nil if there is no secret.
func (s *Secret) Known(ctx context.Context, purpose string) ([]byte, error) {
	return s.derive(ctx, purpose, leave)
}

func (s *Secret) derive(ctx context.Context, purpose string, absent absence) ([]byte, error) {
	value, err := s.read(ctx, absent)
	if err != nil || value == "" {
		return nil, err
	}
	mac := hmac.New(sha256.New, []byte(value))
	mac.Write([]byte(purpose))
	return mac.Sum(nil), nil
}

// secretScript makes the secret, unless there is one. If that shall work although Redis is full, it begins with a write
// that needs no memory: then Redis takes the other too.
//
// KEYS[1] -> usher:secret
// --
// ARGV[1] -> the secret to use if there is none yet
// ARGV[2] -> anyway: although Redis is full
// --
// Returns the secret that counts.
var secretScript = redis.NewScript(`
if ARGV[2] == 'anyway' then redis.call('PERSIST', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
`)

// read gives the secret; nothing if there is none and none is made. Where Redis has lost it, the one that was known is
// put back, so that ids stay what they were.
func (s *Secret) read(ctx context.Context, absent absence) (value string, err error) {
	defer Wrap(&err, "reading the secret of ids and names")
	known, fresh := s.known()
	if fresh {
		return known, nil
	}
	key := s.db.Key.Secret()
	value, err = s.db.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		if absent == leave {
			return "", nil
		}
		if known == "" {
			random := make([]byte, secretBytes)
			_, _ = rand.Read(random) // it never fails
			known = string(random)
		}
		value, err = secretScript.Run(ctx, s.db, []string{key}, known, string(absent)).Text()
	}
	switch {
	case err != nil:
		return "", err
	case len(value) != secretBytes:
		return "", fmt.Errorf("%s is not %d bytes: delete it, and a new one is made", key, secretBytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.until = value, time.Now().Add(secretKept)
	return value, nil
}

// known gives the secret as it was read last, and tells whether that was lately.
func (s *Secret) known() (value string, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value, time.Now().Before(s.until)
}
