package ledger_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

// lastScript remembers the script that was sent last.
type lastScript struct{ args *[]any }

func (lastScript) DialHook(next redis.DialHook) redis.DialHook { return next }

func (lastScript) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l lastScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") && strings.Contains(cmd.String(), " pause") {
			*l.args = cmd.Args()
		}
		return next(ctx, cmd)
	}
}

// TestALateCopyOfAPauseDoesNotUndoAResume: go-redis repeated it, and the first one arrives after both.
func TestALateCopyOfAPauseDoesNotUndoAResume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 1))
	var pause []any
	b.rdb.AddHook(lastScript{&pause})
	_, err := b.Pause(t.Context(), "c")
	testkit.NoError(t, err)
	_, err = b.Resume(t.Context(), "c")
	testkit.NoError(t, err)
	testkit.NoError(t, b.rdb.Do(t.Context(), pause...).Err())
	if c, err := b.Get(t.Context(), "c"); err != nil || c.State != ledger.Running {
		t.Errorf("the campaign is %s, %v", c.State, err)
	}
	if p, err := b.Advance(t.Context(), "c", 1); err != nil || p.Resumes != 1 {
		t.Errorf("it was resumed %d times, %v", p.Resumes, err)
	}
}
