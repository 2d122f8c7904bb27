package worker

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

// TestASubscriptionOfAsynqIsConfirmedWithoutRedis: and it outlives the pings by which go-redis looks after it.
func TestASubscriptionOfAsynqIsConfirmedWithoutRedis(t *testing.T) {
	t.Parallel()
	nowhere := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer nowhere.Close()
	subscription := unheard{nowhere}.Subscribe(t.Context(), "asynq:cancel")
	defer subscription.Close()
	got, err := subscription.Receive(t.Context())
	testkit.NoError(t, err)
	if s, ok := got.(*redis.Subscription); !ok || s.Kind != "subscribe" || s.Channel != "asynq:cancel" {
		t.Errorf("confirmed is %v", got)
	}
	for range 2 {
		testkit.NoError(t, subscription.Ping(t.Context()))
		if got, err := subscription.Receive(t.Context()); err != nil || got.(*redis.Pong) == nil {
			t.Errorf("after a ping: %v, %v", got, err)
		}
	}
}
