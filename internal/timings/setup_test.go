package timings

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/redis/go-redis/v9"
)

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// countingHook counts pipelines and sends none.
type countingHook struct{ n *int }

func (h countingHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h countingHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error {
		*h.n++
		return nil
	}
}
