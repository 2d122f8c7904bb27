package desk_test

import (
	"strings"
	"testing"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
)

// TestARedisThatFillsUpMidwaySaysWhatWasDone, and not that nothing was.
func TestARedisThatFillsUpMidwaySaysWhatWasDone(t *testing.T) {
	t.Parallel()
	d, rdb := withLetters(t, 103)
	var plan desk.MendPlan
	_, err := d.ReadLetters(t.Context(), desk.Letters{}, func(e deadletter.Entry) error {
		plan.Retry = append(plan.Retry, desk.Mend{Letter: e})
		return nil
	})
	testkit.NoError(t, err)
	retried, err := d.CarryOut(t.Context(), plan, func(r desk.Retried) {
		if r.Letter.ID == "t99" {
			testkit.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
		}
	})
	if err == nil || len(retried) != 100 {
		t.Fatalf("%d were retried, %v", len(retried), err)
	}
	kind, words := desk.Explain(err)
	if kind != desk.FullRedis || !strings.Contains(words, "it was done for 100, and not for the others") {
		t.Errorf("%s: %s", kind, words)
	}
	_, err = d.CarryOut(t.Context(), desk.MendPlan{Retry: plan.Retry[100:]}, func(desk.Retried) {})
	if _, words := desk.Explain(err); !strings.Contains(words, "nothing was changed") {
		t.Error(words)
	}
}

// TestARedisThatWantsALoginIsExplained, whatever it says to a command of many arguments.
func TestARedisThatWantsALoginIsExplained(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t, "--requirepass", "secret").Addr)
	many := make([]any, 12)
	many[0] = "del"
	for i := range many[1:] {
		many[i+1] = "key"
	}
	for name, err := range map[string]error{
		"few": rdb.Ping(t.Context()).Err(), "many": rdb.Do(t.Context(), many...).Err(),
	} {
		if !settings.RefusedLogin(err) {
			t.Errorf("%s: %v", name, err)
		}
		if kind, words := desk.Explain(err); kind != desk.NoRedis || !strings.Contains(words, "refuses the user") {
			t.Errorf("%s: %s: %s", name, kind, words)
		}
	}
}
