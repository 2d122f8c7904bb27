package directory

import (
	"context"
	"encoding/json"
	"strings"

	"example.com/usher/internal/redisconn"
)

func (d *Directory) Erase(ctx context.Context, folded string) (int, error) {
	copies, err := redisconn.ScanKeys(ctx, d.rdb, d.copyKey("*"))
	n := 0
	for _, key := range copies {
		all, err := d.rdb.HGetAll(ctx, key).Result()
		if err != nil {
			return n, err
		}
		for id, text := range all {
			var inv Invitation
			if json.Unmarshal([]byte(text), &inv) == nil && strings.ToLower(inv.EmailAddress) == folded {
				d.rdb.HDel(ctx, key, id)
				n++
			}
		}
	}
	return n, err
}
