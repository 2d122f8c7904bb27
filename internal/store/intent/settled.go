package intent

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// Settled gives the invitations for an address that have settled an intent since an instant, as far back as that is kept (see tidy): a list
// of Clerk's may not show them yet.
func Settled(ctx context.Context, rdb redis.UniversalClient, namespace string, address store.AddressID, since time.Time) ([]string, error) {
	fields, err := rdb.HGetAll(ctx, store.Keys(namespace).Intents(string(address[:]))).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the intents of an address: %w", err)
	}
	var ids []string
	for field, value := range fields {
		id, settled := strings.CutPrefix(field, "=")
		at, err := strconv.ParseInt(value, 10, 64)
		if settled && err == nil && at >= since.UnixMilli() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
