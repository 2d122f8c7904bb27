package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// mostPage is how large a page may be, in bytes.
const mostPage = 100_000

// amps is a text that takes five times its length in a page.
func amps(n int) string { return strings.Repeat("&", n) }

// longest is the longest address there can be, and the worst.
func longest(i int) string {
	const rest = "@example.com"
	return amps(tasks.MaxAddressBytes-len(rest)-4) + fmt.Sprintf("%04d", i) + rest
}

// TestNoPageIsLarge: whatever others have written, in whatever number.
func TestNoPageIsLarge(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.fillToTheBrim()
	w := b.browser()
	var full, more []string
	names := append(fieldsOf(tasks.Recipient{})[1:], readingFields()...)
	for _, f := range names {
		full = append(full, f.Name, amps(mostField/len(names)))
		more = append(more, f.Name, amps(2*mostField/len(names)))
	}
	list := strings.Repeat(amps(200)+",", 60) + "email_address\n"
	for i := range 300 {
		list += strings.Repeat(amps(20)+",", 60) + amps(300) + fmt.Sprint(i) + "\n"
	}
	letters := url.Values{"code": {amps(150)}, "campaign": {longName(1)}, "do": {"retry"}}.Encode()
	for name, look := range map[string]func() page{
		"now":         func() page { return w.get("/") },
		"campaigns":   func() page { return w.get("/campaigns") },
		"campaign":    func() page { return w.get("/campaigns/" + longName(0)) },
		"letters":     func() page { return w.get("/dead-letters") },
		"filtered":    func() page { return w.get("/dead-letters?campaign=" + longName(0)) },
		"letter":      func() page { return w.get("/dead-letters/one?id=large") },
		"confirm":     func() page { return w.get("/dead-letters/confirm?" + letters) },
		"invitations": func() page { return w.get("/invitations") },
		"search":      func() page { return w.post("/invitations", "query", "&&&") },
		"schedules":   func() page { return w.get("/schedules") },
		"actions":     func() page { return w.get("/actions") },
		"find":        func() page { return w.post("/find", "what", longest(0)) },
		"not found":   func() page { return w.post("/find", "what", amps(mostAsked)) },
		"too long":    func() page { return w.post("/find", "what", amps(mostAsked+1)) },
		"refused":     func() page { return w.upload("email\nx\n", full...) },
		"overfull":    func() page { return w.upload("email\nx\n", more...) },
		"list": func() page {
			return w.upload(list, "campaign", longName(0), "ignore-columns", "yes", "email-column", "email_address")
		},
		"no page":  func() page { return w.get("/" + amps(mostAddress-1)) },
		"far away": func() page { return w.get("/" + amps(20_000)) },
	} {
		p := look()
		t.Logf("%s: %d, %d bytes", name, p.status, len(p.body))
		if len(p.body) > mostPage {
			t.Errorf("%s has %d bytes", name, len(p.body))
		}
		want := map[string]int{
			"not found": http.StatusNotFound, "no page": http.StatusNotFound,
			"too long": http.StatusUnprocessableEntity, "refused": http.StatusUnprocessableEntity,
			"overfull": http.StatusRequestEntityTooLarge, "far away": http.StatusRequestURITooLong,
		}[name]
		if want == 0 {
			want = http.StatusOK
		}
		if p.status != want {
			t.Errorf("%s: status %d: %.2000s", name, p.status, p.body)
		}
	}
}

func longName(i int) string { return strings.Repeat("n", 60) + fmt.Sprintf("%04d", i) }

// fillToTheBrim writes as much as there can be of all that pages show, and as long texts.
func (b *bundle) fillToTheBrim() {
	b.t.Helper()
	ctx, keys, now := b.t.Context(), store.Keys(tasks.DefaultNamespace), time.Now().UTC()
	cause := func(i int) fate.Failure {
		code := fmt.Sprintf("%s%04d", amps(60), i)
		return fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Code: code, Message: amps(300)}
	}
	put := func(id string, e deadletter.Entry) {
		e.ID, e.TaskID, e.Type, e.FailedAt = id, id, tasks.TypeInvite, now.Add(-72*time.Hour)
		testkit.NoError(b.t, b.desk.DeadLetters.Put(ctx, e))
	}
	var rows []clerkclient.Invitation
	for i := range 2 * pageRows {
		name := longName(i)
		request := tasks.BulkRequest{Campaign: name, Recipients: []tasks.Recipient{{EmailAddress: longest(i)}}}
		for j := 1; i == 0 && j < 2*pageRows; j++ {
			request.Recipients = append(request.Recipients, tasks.Recipient{EmailAddress: longest(j)})
		}
		_, err := b.desk.BulkInvite(ctx, request)
		testkit.NoError(b.t, err)
		row := invitation(i, longest(i))
		row.CreatedAt = now.Add(-72 * time.Hour)
		row.ExpiresAt = now.Add(72 * time.Hour)
		rows = append(rows, row)
		put(name+longName(i), deadletter.Entry{Campaign: longName(0), EmailAddress: longest(i), Failure: cause(i)})
		testkit.NoError(b.t, b.rdb.HSet(ctx, keys.Schedule(name), "digest", "d", "cron", "0 4 1 1 *", "timezone",
			"America/Argentina/Buenos_Aires", "task", tasks.TypeSyncList, "next", now.Add(time.Hour).UnixMilli(), "last",
			now.Add(-time.Hour).UnixMilli(), "last_error", amps(400), "error", amps(400)).Err())
		testkit.NoError(b.t, b.rdb.ZAdd(ctx, keys.Schedules(), redis.Z{Score: float64(now.UnixMilli()), Member: name}).Err())
		worker := fmt.Sprintf(`%d|{"host":%q,"version":%q,"key_kind":"test"}`, now.UnixMilli(), amps(255), amps(255))
		testkit.NoError(b.t, b.rdb.HSet(ctx, keys.Workers(), name, worker).Err())
		for range 2 {
			action := store.Action{At: time.Now(), Who: amps(64), What: amps(300), N: 1_000_000}
			testkit.NoError(b.t, b.server.audit.Note(ctx, action))
		}
	}
	for i := range int64(store.TallyDays) {
		day := fmt.Sprint(now.Unix()/(24*60*60) - i)
		busy := strings.TrimSuffix(strings.Repeat("1000000,", 24*3), ",")
		testkit.NoError(b.t, b.rdb.HSet(ctx, keys.Tally(), day, busy).Err())
	}
	b.publish(rows...)
	b.killAll(longName(0), cause)
	large := tasks.Recipient{
		EmailAddress: longest(0), RedirectURL: "https://example.com/" + amps(tasks.MaxURLBytes-20),
		PublicMetadata: map[string]any{"a": amps(tasks.MaxMetadataBytes - 8)},
	}
	payload, err := json.Marshal(tasks.NewInvitePayload(large, now.UnixMilli()))
	testkit.NoError(b.t, err)
	var history []fate.Attempt
	for i := range 40 {
		history = append(history, fate.Attempt{At: now.Add(-time.Duration(i+1) * time.Minute), Failure: cause(i)})
	}
	for _, id := range []string{"large", "large2", "large3", "large4", "large5"} {
		put(id, deadletter.Entry{EmailAddress: longest(0), Failure: cause(0), Payload: payload, History: history})
	}
}

// killAll lets all recipients of a campaign die.
func (b *bundle) killAll(campaign string, cause func(i int) fate.Failure) {
	b.t.Helper()
	ctx, ledgers := b.t.Context(), ledger.New(b.rdb, tasks.DefaultNamespace)
	_, err := ledgers.Start(ctx, campaign)
	testkit.NoError(b.t, err)
	batch, err := ledgers.TakeToAsk(ctx, campaign, 1000, time.Hour, ledger.Waiting)
	testkit.NoError(b.t, err)
	var outcomes []ledger.Outcome
	for i, row := range batch.Rows {
		failure := cause(i)
		var r tasks.Recipient
		testkit.NoError(b.t, json.Unmarshal(row.Recipient, &r))
		outcomes = append(outcomes, ledger.Outcome{
			Row: row, At: batch.Now,
			Decision: fate.Decision{State: row.State, Next: fate.Dead, Intent: fate.IntentRefused, Cause: &failure},
			Letter: &deadletter.Entry{
				ID: deadletter.RecipientID(campaign, row.ID), TaskID: ledger.TaskID(campaign, 1), Type: tasks.TypeBulkInvite,
				Campaign: campaign, Recipient: &row.ID, EmailAddress: r.EmailAddress, Failure: failure, FailedAt: batch.Now,
				Payload: row.Recipient,
			},
		})
	}
	_, err = ledgers.Settle(ctx, campaign, outcomes)
	testkit.NoError(b.t, err)
}
