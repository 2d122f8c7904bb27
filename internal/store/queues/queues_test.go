package queues

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestNoTaskRunsBeforeItsTime: asynq knows whole seconds only, and cuts off the rest.
func TestNoTaskRunsBeforeItsTime(t *testing.T) {
	t.Parallel()
	second := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	for at, want := range map[time.Time]time.Time{
		second: second, second.Add(time.Nanosecond): second.Add(time.Second),
		second.Add(999 * time.Millisecond): second.Add(time.Second),
	} {
		for _, option := range TaskOptions("q", "id", at) {
			if option.Type() == asynq.ProcessAtOpt && !option.Value().(time.Time).Equal(want) {
				t.Errorf("at %s it is to run at %s, want %s", at, option.Value(), want)
			}
		}
	}
	for _, option := range TaskOptions("q", "id", time.Time{}) {
		if option.Type() == asynq.ProcessAtOpt {
			t.Errorf("a task that shall run now is to run at %s", option.Value())
		}
	}
}
