package clerktest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

func TestInvitationObject(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	r := s.do("POST", "/invitations",
		`{"email_address":"Ann@Example.com","public_metadata":{"plan":"pro"},"expires_in_days":7}`)
	v := decode[clerktest.Invitation](t, r)
	now := s.clock.Now()
	if !regexp.MustCompile(`^inv_[0-9A-Za-z]{27}$`).MatchString(v.ID) {
		t.Errorf("id %q", v.ID)
	}
	if v.CreatedAt != now.UnixMilli() || v.UpdatedAt != v.CreatedAt ||
		v.ExpiresAt != now.AddDate(0, 0, 7).UnixMilli() {
		t.Errorf("times %+v", v)
	}
	if v.EmailAddress != "Ann@Example.com" || v.Status != "pending" || string(v.PublicMetadata) != `{"plan":"pro"}` {
		t.Errorf("got %+v", v)
	}
	if !regexp.MustCompile(`^https://.+/v1/tickets/accept\?ticket=[\w-]+\.[\w-]+\.[\w-]+$`).MatchString(v.URL) {
		t.Errorf("url %q", v.URL)
	}
	if strings.Contains(string(r.body), `"revoked"`) {
		t.Errorf("revoked is shown: %s", r.body)
	}
	if date := r.header.Get("Date"); date != now.Format("Mon, 02 Jan 2006 15:04:05 GMT") {
		t.Errorf("Date %q", date)
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	s.AddInvitation("seeded@example.com") // not in the ledger
	v := decode[clerktest.Invitation](t,
		s.do("POST", "/invitations", `{"email_address":"Ann@Example.com","notify":false,"ignore_existing":true,
		"redirect_url":"/in","template_slug":"invitation","expires_in_days":3,"public_metadata":{"a":1}}`))
	s.clock.advance(time.Minute)
	s.bulk("b@example.com", "c@example.com")
	ledger := s.Ledger()
	if len(ledger) != 3 {
		t.Fatalf("%d entries", len(ledger))
	}
	first := ledger[0]
	want := clerktest.Sent{InvitationID: v.ID, Address: "Ann@Example.com", Folded: "ann@example.com",
		At: s.clock.Now().Add(-time.Minute), Request: 1,
		IgnoreExisting: true, RedirectURL: "/in", TemplateSlug: "invitation", ExpiresInDays: 3,
		PublicMetadata: first.PublicMetadata}
	if fmt.Sprintf("%+v", first) != fmt.Sprintf("%+v", want) || string(first.PublicMetadata) != `{"a":1}` {
		t.Errorf("got  %+v\nwant %+v", first, want)
	}
	if b := ledger[1]; !b.Bulk || b.Request != 2 || !b.Notify || !b.Emailed || b.ExpiresInDays != 30 ||
		b.Address != "b@example.com" {
		t.Errorf("got %+v", b)
	}
	requests := s.Requests()
	if len(requests) != 2 || requests[1].Recipients != 2 || requests[1].Endpoint != clerktest.Bulk ||
		requests[1].Status != 200 || requests[1].Number != 2 {
		t.Errorf("requests %+v", requests)
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	wantStatus(t, s.create("ann@example.com"), 200)
	meta := wantError(t, s.create("ANN@example.com"), 400, "duplicate_record")
	if got := fmt.Sprint(meta["email_addresses"]); got != "[ANN@example.com]" {
		t.Errorf("offenders %s", got)
	}
	wantStatus(t, s.do("POST", "/invitations", `{"email_address":"ann@example.com","ignore_existing":true}`), 200)
	if n := len(s.Ledger()); n != 2 {
		t.Errorf("%d sent, want 2: ignore_existing makes a second", n)
	}

	s.Configure(func(c *clerktest.Config) { c.CaseSensitive = true })
	wantStatus(t, s.create("ANN@example.com"), 200)
	s.Configure(func(c *clerktest.Config) { c.FoldAddresses = true })
	if v := decode[clerktest.Invitation](t, s.create("BOB@example.com")); v.EmailAddress != "bob@example.com" {
		t.Errorf("not folded: %s", v.EmailAddress)
	}
}

func TestDuplicatesNamed(t *testing.T) {
	t.Parallel()
	for naming, want := range map[clerktest.Naming]string{
		clerktest.NameAll: "[a@example.com b@example.com]", clerktest.NameFirst: "[a@example.com]",
		clerktest.NameNone: "<nil>",
	} {
		s := setup(t, clerktest.Config{DuplicatesNamed: naming})
		s.AddInvitation("a@example.com")
		s.AddInvitation("b@example.com")
		meta := wantError(t, s.bulk("x@example.com", "a@example.com", "b@example.com"), 400, "duplicate_record")
		if got := fmt.Sprint(meta["email_addresses"]); got != want {
			t.Errorf("%q: %s, want %s", naming, got, want)
		}
	}
}

func TestWhatStandsInTheWay(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	revoked := s.AddInvitation("revoked@example.com").ID
	wantStatus(t, s.do("POST", "/invitations/"+revoked+"/revoke", ""), 200)
	s.Configure(func(c *clerktest.Config) { c.RevokedCountsAsDuplicate = true })
	wantError(t, s.create("revoked@example.com"), 400, "duplicate_record")
	s.Configure(func(c *clerktest.Config) { c.RevokedCountsAsDuplicate = false })
	wantStatus(t, s.create("revoked@example.com"), 200)

	if err := s.Expire(s.AddInvitation("expired@example.com").ID); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, s.create("expired@example.com"), 200)
}

func TestUsersInTheWay(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	s.AddUser("ann@example.com")
	meta := wantError(t, s.create("Ann@example.com"), 422, "form_identifier_exists")
	if meta["param_name"] != "email_address" || meta["email_addresses"] != nil {
		t.Errorf("meta %v", meta)
	}
	s.Configure(func(c *clerktest.Config) { c.UserErrorNamesAddresses = true })
	meta = wantError(t, s.bulk("x@example.com", "ann@example.com"), 422, "form_identifier_exists")
	if fmt.Sprint(meta["email_addresses"]) != "[ann@example.com]" {
		t.Errorf("meta %v", meta)
	}

	ignoring := `{"email_address":"ann@example.com","ignore_existing":true}`
	for _, single := range []bool{false, true} {
		for _, bulk := range []bool{false, true} {
			s.Configure(func(c *clerktest.Config) {
				c.IgnoreExistingCoversUsers, c.BulkIgnoreExistingCoversUsers = single, bulk
			})
			status := map[bool]int{true: 200, false: 422}
			wantStatus(t, s.do("POST", "/invitations", ignoring), status[single])
			wantStatus(t, s.do("POST", "/invitations/bulk", "["+ignoring+"]"), status[bulk])
		}
	}
}

func TestBulk(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	addresses := manyAddresses(4)
	made := decode[[]clerktest.Invitation](t, s.bulk(addresses...))
	got := make([]string, len(made))
	for i, v := range made {
		got[i] = v.EmailAddress
	}
	if slices.Equal(got, addresses) {
		t.Error("the answer is in the order of the request")
	}
	slices.Sort(got)
	if !slices.Equal(got, addresses) {
		t.Errorf("got %v", got)
	}

	// All or nothing, whatever is wrong with one.
	s.AddUser("user@example.com")
	s.BlockAddress("blocked@example.com")
	s.RejectAddress("odd@example.com", 0, "")
	for _, c := range []struct {
		bad    string
		status int
		code   string
	}{
		{addresses[0], 400, "duplicate_record"}, {"user@example.com", 422, "form_identifier_exists"},
		{"blocked@example.com", 403, "not_allowed_access"},
		{"odd@example.com", 422, "form_param_format_invalid"}, {"nonsense", 422, "form_param_format_invalid"},
		{"TWIN@example.com", 400, "duplicate_record"},
	} {
		wantError(t, s.bulk("twin@example.com", c.bad), c.status, c.code)
	}
	if n := len(s.Ledger()); n != 4 {
		t.Fatalf("%d were made, want 4", n)
	}
	twins := `[{"email_address":"twin@example.com"},{"email_address":"TWIN@example.com","ignore_existing":true}]`
	wantStatus(t, s.do("POST", "/invitations/bulk", twins), 200)
}

func TestBulkPartial(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{BulkPartial: true})
	s.AddInvitation("old@example.com")
	wantError(t, s.bulk("a@example.com", "old@example.com", "b@example.com"), 400, "duplicate_record")
	wantAddresses(t, s.list("?order_by=email_address"), "a@example.com", "b@example.com", "old@example.com")
}

func TestBlocksAndRejections(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	s.BlockDomain("Blocked.example")
	s.BlockAddress("One@example.com")
	for _, address := range []string{"x@blocked.EXAMPLE", "one@example.com"} {
		meta := wantError(t, s.create(address), 403, "not_allowed_access")
		if fmt.Sprint(meta["identifiers"]) != "["+address+"]" {
			t.Errorf("identifiers %v", meta["identifiers"])
		}
	}
	wantStatus(t, s.create("x@sub.blocked.example"), 200)
	s.RejectAddress("odd@example.com", 409, "resource_locked")
	wantError(t, s.create("Odd@example.com"), 409, "resource_locked")
}

func TestQuota(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	s.SetQuota(3)
	wantStatus(t, s.create("a@example.com"), 200)
	wantError(t, s.bulk(manyAddresses(3)...), 403, "quota_exceeded")
	wantStatus(t, s.bulk(manyAddresses(2)...), 200)
	wantError(t, s.create("b@example.com"), 403, "quota_exceeded")
	s.SetQuota(-1)
	wantStatus(t, s.create("b@example.com"), 200)
}

func TestDevelopmentCap(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{DevMonthlyCap: 2})
	wantStatus(t, s.bulk("a@example.com", "b@example.com"), 200)
	wantError(t, s.create("c@example.com"), 400, "dev_monthly_email_limit_exceeded")
	wantStatus(t, s.create("c+clerk_test@example.com"), 200)
	wantStatus(t, s.do("POST", "/invitations", `{"email_address":"quiet@example.com","notify":false}`), 200)

	s.Configure(func(c *clerktest.Config) { c.DevCapSilent = true })
	wantStatus(t, s.create("d@example.com"), 200)
	emailed := map[string]bool{}
	for _, e := range s.Ledger() {
		emailed[e.Address] = e.Emailed
	}
	want := map[string]bool{"a@example.com": true, "b@example.com": true, "c+clerk_test@example.com": true,
		"quiet@example.com": false, "d@example.com": false}
	if fmt.Sprint(emailed) != fmt.Sprint(want) {
		t.Errorf("emailed %v, want %v", emailed, want)
	}
	s.clock.advance(31 * 24 * time.Hour) // the next month
	wantStatus(t, s.create("e@example.com"), 200)
	if e := s.Ledger()[5]; !e.Emailed {
		t.Error("the new month has a cap of its own")
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	revoke := func(id string) reply { return s.do("POST", "/invitations/"+id+"/revoke", "") }
	id := s.AddInvitation("a@example.com").ID
	s.clock.advance(time.Second)
	v := decode[clerktest.Invitation](t, revoke(id))
	if v.Status != "revoked" || !v.Revoked || v.UpdatedAt != v.CreatedAt+1000 {
		t.Errorf("got %+v", v)
	}
	wantError(t, revoke(id), 400, "invitation_already_revoked")
	wantError(t, revoke("inv_none"), 404, "resource_not_found")

	accepted := s.AddInvitation("b@example.com").ID
	if err := s.Accept(accepted); err != nil {
		t.Fatal(err)
	}
	wantError(t, revoke(accepted), 400, "invitation_already_accepted")
	if err := s.Accept(accepted); err == nil || s.Accept("inv_none") == nil || s.Expire(id) == nil {
		t.Error("only a pending one can be accepted or expire")
	}

	expired := s.AddInvitation("c@example.com").ID
	s.clock.advance(31 * 24 * time.Hour)
	wantError(t, revoke(expired), 400, "invitation_not_pending")
	s.Configure(func(c *clerktest.Config) { c.ExpiredRevocable = true })
	wantStatus(t, revoke(expired), 200)
}

func TestAcceptMakesAUser(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{BulkDropsMetadata: true})
	item := `{"email_address":"%s","public_metadata":{"plan":"pro"}}`
	single := decode[clerktest.Invitation](t, s.do("POST", "/invitations", fmt.Sprintf(item, "single@example.com")))
	bulk := decode[[]clerktest.Invitation](t,
		s.do("POST", "/invitations/bulk", "["+fmt.Sprintf(item, "bulk@example.com")+"]"))[0]
	for _, v := range []clerktest.Invitation{single, bulk} {
		if string(v.PublicMetadata) != `{"plan":"pro"}` {
			t.Errorf("metadata of the invitation: %s", v.PublicMetadata)
		}
		if err := s.Accept(v.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantAddresses(t, s.list("?status=accepted"), "bulk@example.com", "single@example.com")
	wantError(t, s.create("single@example.com"), 422, "form_identifier_exists")
	for address, want := range map[string]string{"single@example.com": `{"plan":"pro"}`, "bulk@example.com": `{}`} {
		if got := s.lookup(address)[0]; string(got.PublicMetadata) != want {
			t.Errorf("%s: metadata %s, want %s", address, got.PublicMetadata, want)
		}
	}
}

// TestRestore: what was restored is listed, stands in the way and can be revoked as in the sandbox that made it.
func TestRestore(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	made := s.clock.Now().Add(-time.Hour)
	s.Restore(
		clerktest.Invitation{
			ID: "inv_1", EmailAddress: "Ann@example.com", Status: "pending", CreatedAt: made.UnixMilli(),
			PublicMetadata: []byte(`{"plan":"pro"}`), ExpiresAt: made.Add(2 * time.Hour).UnixMilli(),
		},
		clerktest.Invitation{
			ID: "inv_2", EmailAddress: "bob@example.com", Status: "revoked",
			CreatedAt: made.UnixMilli(), UpdatedAt: s.clock.Now().UnixMilli(),
		},
	)
	wantAddresses(t, s.list(""), "Ann@example.com")
	ann, known := s.Invitation("inv_1")
	if !known || ann.UpdatedAt != ann.CreatedAt || string(ann.PublicMetadata) != `{"plan":"pro"}` {
		t.Errorf("got %+v, %t", ann, known)
	}
	if bob, _ := s.Invitation("inv_2"); !bob.Revoked || bob.UpdatedAt == bob.CreatedAt || bob.ExpiresAt == 0 {
		t.Errorf("got %+v", bob)
	}
	if r := s.do("POST", "/invitations", `{"email_address":"ann@example.com"}`); r.status != 400 {
		t.Errorf("inviting Ann again: %d", r.status)
	}
	s.clock.advance(time.Hour)
	if ann, _ := s.Invitation("inv_1"); ann.Status != "expired" {
		t.Errorf("after its time it is %s", ann.Status)
	}
	if n := len(s.Ledger()); n != 0 {
		t.Errorf("%d entries in the ledger", n)
	}
}
