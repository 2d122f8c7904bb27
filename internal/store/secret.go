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

// Derive gives the key of one purpose, 32 bytes.
func (s *Secret) Derive(ctx context.Context, purpose string) ([]byte, error) {
	value, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, []byte(value))
	mac.Write([]byte(purpose))
	return mac.Sum(nil), nil
}

// secretScript makes the secret, unless there is one. It begins with a write that needs no memory: then Redis takes
// the other too when it is full.
//
// KEYS[1] -> usher:secret
// --
// ARGV[1] -> the secret to use if there is none yet
// --
// Returns the secret that counts.
var secretScript = redis.NewScript(`
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
`)

// read gives the secret. Where Redis has lost it, the one that was known is put back, so that ids stay what they were.
func (s *Secret) read(ctx context.Context) (value string, err error) {
	defer Wrap(&err, "reading the secret of ids")
	known, fresh := s.known()
	if fresh {
		return known, nil
	}
	key := s.db.Key.Secret()
	value, err = s.db.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		if known == "" {
			random := make([]byte, secretBytes)
			_, _ = rand.Read(random) // it never fails
			known = string(random)
		}
		value, err = secretScript.Run(ctx, s.db, []string{key}, known).Text()
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
