package api_test

import (
	"net/http"
	"strings"
	"testing"

	"example.com/usher/internal/testkit"
)

// TestWhatCannotBeReadHidesNothing: the others are answered, and it is named.
func TestWhatCannotBeReadHidesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"order-1", "order-2"} {
		s.die(id, object{"email_address": "ada@example.com"})
	}
	for _, campaign := range []string{"spring", "autumn"} {
		s.call(people, "POST", "/v1/campaigns/"+campaign+"/recipients", csvBody("email_address\nbob@example.com\n")).is(202)
	}
	ctx := t.Context()
	testkit.NoError(t, s.rdb.HSet(ctx, "usher:{once}:d:e:order-1", "entry", "garbage").Err())
	testkit.NoError(t, s.rdb.HSet(ctx, "usher:{once}:c:spring:meta", "sent", "garbage").Err())
	for path, c := range map[string]struct{ list, names string }{
		"/v1/dead-letters": {"dead_letters", "order-1"},
		"/v1/campaigns":    {"campaigns", "spring"},
		"/v1/status":       {"campaigns", "spring"},
	} {
		got := s.call(people, "GET", path, nil).is(http.StatusOK).object()
		left, _ := got["unreadable"].([]any)
		if list, _ := got[c.list].([]any); len(list) != 1 || len(left) != 1 || !strings.Contains(left[0].(string), c.names) {
			t.Errorf("%s answers %v", path, got)
		}
	}
	got := s.call(people, "POST", "/v1/find", object{"what": "ada@example.com"}).is(http.StatusOK).object()
	if events, _ := got["events"].([]any); len(events) == 0 || got["unreadable"] == nil {
		t.Errorf("find answers %v", got)
	}
}

// TestTheCursorOfACampaignThatIsGone is refused: an empty page would end the list.
func TestTheCursorOfACampaignThatIsGone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, campaign := range []string{"one", "two", "three"} {
		s.call(people, "POST", "/v1/campaigns/"+campaign+"/recipients", csvBody("email_address\nbob@example.com\n")).is(202)
	}
	page := s.call(people, "GET", "/v1/campaigns?limit=1", nil).is(200).object()
	gone := page["campaigns"].([]any)[0].(object)["campaign"].(string)
	next := "/v1/campaigns?limit=1&cursor=" + page["next_cursor"].(string)
	if rest := s.call(people, "GET", next, nil).is(200).object(); len(rest["campaigns"].([]any)) != 1 {
		t.Fatalf("the next page is %v", rest)
	}
	testkit.NoError(t, s.rdb.ZRem(t.Context(), "usher:campaigns", gone).Err())
	s.call(people, "GET", next, nil).is(http.StatusUnprocessableEntity, "validation")
}
