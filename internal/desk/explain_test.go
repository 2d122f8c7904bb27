package desk_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/usher/clerkclient"
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

// TestAClerkThatDoesNotAnswerIsNotTakenForRedis, whether nobody listens or the connection breaks.
func TestAClerkThatDoesNotAnswerIsNotTakenForRedis(t *testing.T) {
	t.Parallel()
	breaks := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(breaks.Close)
	for url, says := range map[string]string{
		"http://127.0.0.1:1": "Clerk cannot be reached (is CLERK_API_URL right?): clerk: GET /users: dial",
		breaks.URL:           "clerk: GET /users: connection_closed",
	} {
		clerk, err := clerkclient.New(clerkclient.Config{Key: "sk_test_x", BaseURL: url})
		testkit.NoError(t, err)
		t.Cleanup(clerk.Close)
		_, _, err = clerk.UsersByEmail(t.Context(), []string{"ada@example.com"})
		kind, words := desk.Explain(err)
		if kind != desk.Failed || !strings.HasPrefix(words, says) {
			t.Errorf("%s: %s: %s", url, kind, words)
		}
	}
}
