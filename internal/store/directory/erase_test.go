package directory_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
)

// traces gives the keys of hashes that hold a text.
func (b bundle) traces(t *testing.T, text string) (keys []string) {
	t.Helper()
	for _, key := range b.rdb.Keys(t.Context(), "*").Val() {
		if b.rdb.Type(t.Context(), key).Val() == "hash" &&
			strings.Contains(fmt.Sprint(b.rdb.HGetAll(t.Context(), key).Val()), text) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (b bundle) bury(t *testing.T, address string) {
	t.Helper()
	if _, err := store.NewTombstones(b.rdb, "test").Set(t.Context(), store.IDOf(address)); err != nil {
		t.Fatal(err)
	}
}

func TestAnAddressIsErasedFromAllCopiesAndStaysOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, b.draft(t, rows(0, 20)))
	list := rows(0, 20)
	list[1].EmailAddress, list[1].PublicMetadata = " P1@Example.com ", []byte(`{"contact":"p1@example.com"}`)
	draft := b.draft(t, list)
	b.bury(t, "p1@example.com")
	for _, times := range []int{2, 0} {
		if n, err := b.Erase(t.Context(), "p1@example.com"); err != nil || n != times {
			t.Errorf("erased %d rows, %v, want %d", n, err, times)
		}
	}
	if err := draft.Add(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	b.publish(t, draft)
	if found := append(b.traces(t, "p1@"), b.traces(t, "P1@")...); len(found) > 0 {
		t.Errorf("it is in %v", found)
	}
	if ids := b.listed(t, directory.Filter{}); len(ids) != 19 {
		t.Errorf("%d are listed, want 19: p10 to p19 are others", len(ids))
	}
}

// beforeScript does something before the first script runs.
type beforeScript struct {
	once sync.Once
	do   func()
}

func (*beforeScript) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*beforeScript) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *beforeScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" {
			h.once.Do(h.do)
		}
		return next(ctx, cmd)
	}
}

// TestAnAddressThatIsForgottenDuringAWriteStaysOut: whoever forgets looks just before the row is written.
func TestAnAddressThatIsForgottenDuringAWriteStaysOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writing := redis.NewClient(b.rdb.Options())
	t.Cleanup(func() { _ = writing.Close() })
	draft, err := directory.New(writing, "test").Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	writing.AddHook(&beforeScript{do: func() {
		b.bury(t, "p3@example.com")
		if n, err := b.Erase(t.Context(), "p3@example.com"); err != nil || n != 0 {
			t.Errorf("erased %d rows, %v: nothing is written yet", n, err)
		}
	}})
	if err := draft.Add(t.Context(), rows(0, 5)); err != nil {
		t.Fatal(err)
	}
	if found := b.traces(t, "p3@"); len(found) > 0 {
		t.Errorf("it is in %v", found)
	}
}
