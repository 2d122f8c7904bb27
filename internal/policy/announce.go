package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
)

// ErrNamespace means that the namespace is for keys of the other kind.
var ErrNamespace = errors.New("the namespace belongs to the other kind of key")

// OtherKind is the error of a key that is not of the kind that a namespace is bound to. It is an ErrNamespace.
func OtherKind(namespace, bound, kind string) error {
	return fmt.Errorf("%w: namespace %q was first used with a %s key, and this is a %s key; "+
		"set USHER_NAMESPACE to another name", ErrNamespace, namespace, bound, kind)
}

// announced is the part of a policy that workers publish.
type announced struct {
	Create  string        `json:"create"`
	Bulk    string        `json:"bulk"`
	Overall string        `json:"overall"`
	Reserve int           `json:"reserve"`
	Timeout time.Duration `json:"timeout"`
	Settle  time.Duration `json:"settle"` // 0 if a worker of an earlier version started last
}

// maxAnnounced is the most bytes of it that are read.
const maxAnnounced = 4 << 10

// Announce publishes the limits by which the workers send, for programs without such settings. The worker that started
// last counts.
func (p Policy) Announce(ctx context.Context, rdb redis.UniversalClient, namespace string) (err error) {
	defer store.Wrap(&err, "announcing the policy")
	data, err := json.Marshal(announced{
		Create: p.Create.String(), Bulk: p.Bulk.String(), Overall: p.Overall.String(),
		Reserve: p.Reserve, Timeout: p.Timeout, Settle: p.SettlingTime,
	})
	if err != nil {
		return err
	}
	return rdb.Set(ctx, store.Keys(namespace).Policy(), data, 0).Err()
}

// Announced returns the limits, the reserve, the timeout and the settling time by which the workers send, and nothing
// else of their policy. It reports false if no worker has run yet.
func Announced(ctx context.Context, rdb redis.UniversalClient, namespace string) (Policy, bool, error) {
	key := store.Keys(namespace).Policy()
	data, err := rdb.GetRange(ctx, key, 0, maxAnnounced).Bytes()
	if len(data) == 0 && (err == nil || errors.Is(err, redis.Nil)) {
		return Policy{}, false, nil
	}
	if err != nil {
		return Policy{}, false, fmt.Errorf("reading the workers' policy: %w", err)
	}
	var a announced
	ok := json.Unmarshal(data, &a) == nil && a.Reserve >= 0 && a.Timeout > 0
	rate := func(text string) settings.Rate {
		rate, err := settings.ParseRate("", text)
		ok = ok && err == nil
		return rate
	}
	p := Policy{
		Create: rate(a.Create), Bulk: rate(a.Bulk), Overall: rate(a.Overall), Reserve: a.Reserve, Timeout: a.Timeout,
		SettlingTime: max(0, a.Settle),
	}
	if !ok {
		return Policy{}, false, fmt.Errorf("the workers' policy: %w: start a worker, which writes %s again",
			store.ErrGarbage, key)
	}
	return p, true, nil
}
