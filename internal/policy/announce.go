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

// announced is what workers tell of their policy to programs that reckon with it.
type announced struct {
	Create  string        `json:"create"`
	Bulk    string        `json:"bulk"`
	Overall string        `json:"overall"`
	Reserve int           `json:"reserve"`
	Timeout time.Duration `json:"timeout"`
}

// maxAnnounced bounds what is read of it, in bytes.
const maxAnnounced = 4 << 10

// Announce tells programs that have no settings of their own by which limits the workers send. The worker that was
// started last is believed.
func (p Policy) Announce(ctx context.Context, rdb redis.UniversalClient, namespace string) error {
	data, err := json.Marshal(announced{
		Create: p.Create.String(), Bulk: p.Bulk.String(), Overall: p.Overall.String(),
		Reserve: p.Reserve, Timeout: p.Timeout,
	})
	if err != nil {
		return fmt.Errorf("encoding the policy: %w", err)
	}
	if err := rdb.Set(ctx, store.Keys(namespace).Policy(), data, 0).Err(); err != nil {
		return fmt.Errorf("announcing the policy: %w", err)
	}
	return nil
}

// Announced gives the limits, the reserve and the timeout by which the workers send, and nothing else of their
// policy; false if no worker was ever started.
func Announced(ctx context.Context, rdb redis.UniversalClient, namespace string) (Policy, bool, error) {
	data, err := rdb.GetRange(ctx, store.Keys(namespace).Policy(), 0, maxAnnounced).Bytes()
	if len(data) == 0 && (err == nil || errors.Is(err, redis.Nil)) {
		return Policy{}, false, nil
	}
	if err != nil {
		return Policy{}, false, fmt.Errorf("reading the workers' policy: %w", err)
	}
	var a announced
	if err := json.Unmarshal(data, &a); err != nil || a.Reserve < 0 || a.Timeout <= 0 {
		const garbage = "what Redis holds of the workers' policy (%s) is garbage; it is written anew when a worker starts"
		return Policy{}, false, fmt.Errorf(garbage, store.Keys(namespace).Policy())
	}
	var p Policy
	var errs [3]error
	p.Create, errs[0] = settings.ParseRate("create", a.Create)
	p.Bulk, errs[1] = settings.ParseRate("bulk", a.Bulk)
	p.Overall, errs[2] = settings.ParseRate("overall", a.Overall)
	p.Reserve, p.Timeout = a.Reserve, a.Timeout
	if err := errors.Join(errs[:]...); err != nil {
		return Policy{}, false, fmt.Errorf("what Redis holds of the workers' policy: %w", err)
	}
	return p, true, nil
}
