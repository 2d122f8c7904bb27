package desk

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/usher/tasks"
)

// TestARepeatedRestoreWaitsForTheSameList, however often it is broken off. A list that is to be copied later is none.
func TestARepeatedRestoreWaitsForTheSameList(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	_, err := d.SyncList(t.Context(), tasks.In(time.Hour), tasks.ID("later"))
	must(t, err)
	restored, err := d.BeginRestore(t.Context())
	must(t, err)
	waited := map[string]bool{}
	for range 3 {
		ctx, broken := context.WithCancel(t.Context())
		_, err := d.SyncOnce(ctx, restored, func(task string) {
			waited[task] = true
			broken()
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if len(waited) != 1 || waited["later"] {
		t.Errorf("it has waited for %v", waited)
	}
}
