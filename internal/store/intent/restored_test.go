package intent_test

import (
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

// TestNobodyIsClaimedUntilARestorationEnds, and whoever was there before it is asked about then.
func TestNobodyIsClaimedUntilARestorationEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, db := t.Context(), store.Open(b.rdb, "test")
	b.born -= time.Second.Milliseconds() // before the restoration, by Redis's milliseconds
	restored, err := store.BeginRestoration(ctx, db)
	if err != nil || !restored.Stands() {
		t.Fatalf("%+v, %v", restored, err)
	}
	if again, err := store.BeginRestoration(ctx, db); again != restored || err != nil {
		t.Errorf("repeated: %+v, %v, want %+v", again, err, restored)
	}
	_, err = b.Claim(ctx, "1", time.Minute, []intent.Wish{b.wish("a")})
	if !store.IsRestoring(err) {
		t.Fatalf("a claim while work rests: %v", err)
	}
	if err := store.EndRestoration(ctx, db, store.Restoration{At: restored.At.Add(-time.Hour)}); err == nil {
		t.Error("another restoration was ended")
	}
	for range 2 {
		if err := store.EndRestoration(ctx, db, restored); err != nil {
			t.Fatal(err)
		}
	}
	b.want("a", "1", time.Minute, fate.VerdictUnsure)
	young := b
	young.born = time.Now().Add(time.Second).UnixMilli()
	young.want("b", "1", time.Minute, fate.VerdictGranted)
	if r, err := store.ReadRestoration(ctx, db); r.Stands() || !r.MayHaveUndone(time.UnixMilli(b.born)) || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestNobodyIsClaimedFromACopy: the claim itself notices that the copy is older than what the process knows.
func TestNobodyIsClaimedFromACopy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, seen := t.Context(), time.Now()
	b.Memory = store.NewMemory()
	b.Memory.Saw(seen.UnixMilli())
	b.rdb.Set(ctx, store.Keys("test").Seen(), seen.UnixMilli(), 0)
	b.want("a", "1", time.Minute, fate.VerdictGranted)
	b.rdb.Set(ctx, store.Keys("test").Seen(), seen.Add(-time.Hour).UnixMilli(), 0)
	if _, err := b.Claim(ctx, "2", time.Minute, []intent.Wish{b.wish("b")}); !store.IsRestoring(err) {
		t.Errorf("a claim: %v", err)
	}
	if r, err := store.ReadRestoration(ctx, store.Open(b.rdb, "test")); !r.Stands() || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}
