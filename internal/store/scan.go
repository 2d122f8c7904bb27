package store

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many keys are asked for at a time.
const scanCount = 500

// ScanKeys returns the keys that match a pattern, each once, on every master of a cluster. Keys that come or go
// meanwhile may be missing.
func ScanKeys(ctx context.Context, rdb redis.UniversalClient, pattern string) ([]string, error) {
	var mu sync.Mutex
	var keys []string
	scan := func(ctx context.Context, rdb redis.Cmdable) error {
		cursor := rdb.Scan(ctx, 0, pattern, scanCount).Iterator()
		for cursor.Next(ctx) {
			mu.Lock()
			keys = append(keys, cursor.Val())
			mu.Unlock()
		}
		return cursor.Err()
	}
	var err error
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			return scan(ctx, master)
		})
	} else {
		err = scan(ctx, rdb)
	}
	if err != nil {
		return nil, fmt.Errorf("scanning keys: %w", err)
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}
