package clerktest_test

import (
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// setupWild is for answers that Clerk's document does not have.
func setupWild(t *testing.T, cfg clerktest.Config) *sandbox {
	s := setup(t, cfg)
	s.wild = true
	return s
}

func TestDeleteRemovesAnInvitationOfAnyStatus(t *testing.T) {
	t.Parallel()
	s := setupWild(t, clerktest.Config{})
	pending, accepted := s.AddInvitation("ada@example.com"), s.AddInvitation("bob@example.com")
	revoked, expired := s.AddInvitation("cy@example.com"), s.AddInvitation("dee@example.com")
	if err := s.Accept(accepted.ID); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, s.do("POST", "/invitations/"+revoked.ID+"/revoke", ""), 200)
	if err := s.Expire(expired.ID); err != nil {
		t.Fatal(err)
	}
	for _, inv := range []clerktest.Invitation{pending, accepted, revoked, expired} {
		gone := decode[map[string]any](t, s.do("DELETE", "/invitations/"+inv.ID, ""))
		if gone["id"] != inv.ID || gone["deleted"] != true || gone["object"] != "invitation" {
			t.Errorf("%v", gone)
		}
		wantError(t, s.do("DELETE", "/invitations/"+inv.ID, ""), 404, "resource_not_found")
	}
	wantAddresses(t, s.list(""))
	wantAddresses(t, s.list("?status=revoked"))
	wantStatus(t, s.create("ada@example.com"), 200) // nothing stands in the way
	if users := s.Stats().Users; users != 1 {
		t.Errorf("%d users, want 1: the user stays", users)
	}
}

func TestDeleteAsItMayBe(t *testing.T) {
	t.Parallel()
	none := setupWild(t, clerktest.Config{NoDelete: true})
	inv := none.AddInvitation("ada@example.com")
	wantStatus(t, none.do("DELETE", "/invitations/"+inv.ID, ""), 404)
	wantAddresses(t, none.list(""), "ada@example.com")
	again := setupWild(t, clerktest.Config{DeletedAgain: true})
	inv = again.AddInvitation("ada@example.com")
	wantStatus(t, again.do("DELETE", "/invitations/"+inv.ID, ""), 200)
	wantStatus(t, again.do("DELETE", "/invitations/"+inv.ID, ""), 200)
	wantError(t, again.do("DELETE", "/invitations/inv_unknown", ""), 404, "resource_not_found")
}

func TestUsersAreCounted(t *testing.T) {
	t.Parallel()
	s := setupWild(t, clerktest.Config{})
	for _, address := range []string{"ada@example.com", "bob@example.com", "cy@example.com"} {
		s.AddUser(address)
	}
	for query, want := range map[string]float64{
		"": 3, "?email_address=ada@example.com&email_address=x@example.com": 1,
	} {
		count := decode[map[string]any](t, s.do("GET", "/users/count"+query, ""))
		if count["object"] != "total_count" || count["total_count"] != want {
			t.Errorf("%s: %v, want %v", query, count, want)
		}
	}
}

// TestMaintenanceRefusesWrites: in both forms, with and without a Retry-After.
func TestMaintenanceRefusesWrites(t *testing.T) {
	t.Parallel()
	for _, inErrors := range []bool{false, true} {
		s := setupWild(t, clerktest.Config{})
		inv := s.AddInvitation("ada@example.com")
		s.Inject(clerktest.Fault{Kind: clerktest.FaultMaintenance, InErrors: inErrors, RetryIn: 30 * time.Minute})
		for path, method := range map[string]string{
			"/invitations": "POST", "/invitations/bulk": "POST", "/invitations/" + inv.ID + "/revoke": "POST",
			"/invitations/" + inv.ID: "DELETE",
		} {
			r := wantStatus(t, s.do(method, path, `{}`), 503)
			if r.header.Get("Retry-After") != "1800" {
				t.Errorf("%s: Retry-After %q", path, r.header.Get("Retry-After"))
			}
			if inErrors {
				wantError(t, r, 503, "maintenance_mode")
				continue
			}
			r.status = 200
			if body := decode[map[string]string](t, r); body["code"] != "maintenance_mode" ||
				body["shortMessage"] == "" {
				t.Errorf("%s: %v", path, body)
			}
		}
		wantAddresses(t, s.list(""), "ada@example.com")
	}
}

// TestAFailureMayBeCarriedOutLater: the answer says that it failed, and the invitation comes all the same.
func TestAFailureMayBeCarriedOutLater(t *testing.T) {
	t.Parallel()
	s := setupWild(t, clerktest.Config{})
	s.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, LateCommit: 20 * time.Second, Times: 1})
	wantStatus(t, s.create("ada@example.com"), 503)
	s.clock.advance(19 * time.Second)
	wantAddresses(t, s.list(""))
	s.clock.advance(time.Second)
	wantAddresses(t, s.list(""), "ada@example.com")
	if sent := s.Ledger(); len(sent) != 1 || !sent[0].Late {
		t.Errorf("%+v", sent)
	}
}

func TestAFaultMayBeAboutATemplate(t *testing.T) {
	t.Parallel()
	s := setupWild(t, clerktest.Config{})
	const code = "unsupported_subscription_plan_features"
	s.Inject(
		clerktest.Fault{Kind: clerktest.FaultStatus, Status: 402, Code: code, TemplateSlug: "waitlist_invitation"},
	)
	wantStatus(t, s.create("ada@example.com"), 200)
	body := `{"email_address":"bob@example.com","template_slug":"waitlist_invitation"}`
	wantError(t, s.do("POST", "/invitations", body), 402, code)
	wantError(t, s.do("POST", "/invitations/bulk", "["+body+"]"), 402, code)
}

func TestANewInvitationMayCountAsADuplicateLater(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{DuplicateLag: 2 * time.Second})
	wantStatus(t, s.create("ada@example.com"), 200)
	wantStatus(t, s.create("ada@example.com"), 200)
	s.clock.advance(2 * time.Second)
	wantError(t, s.create("ada@example.com"), 400, "duplicate_record")
}

func TestASubaddressIsRefusedWithoutAName(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{RefuseSubaddresses: true})
	if meta := wantError(t, s.bulk("ada@example.com", "ada+x@example.com"), 403, "not_allowed_access"); meta != nil {
		t.Errorf("it names %v", meta)
	}
	wantStatus(t, s.create("ada@example.com"), 200)
}

func TestAThrottlingMaySayWhenItEndsInItsBody(t *testing.T) {
	t.Parallel()
	one := clerktest.Limit{N: 1, Window: time.Minute}
	s := setup(t, clerktest.Config{Create: one, ThrottleResetsIn: true})
	wantStatus(t, s.create("ada@example.com"), 200)
	if meta := wantError(t, s.create("bob@example.com"), 429, "too_many_requests"); meta["resets_in"] != 60.0 {
		t.Errorf("%v", meta)
	}
}
