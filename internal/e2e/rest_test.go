package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestNobodyIsADeadLetterWhileClerkServesNobody: in maintenance mode, in both forms of its answer, with a key that
// lacks the right, on an instance that takes no invitations, and when every call fails. Calls rest in all workers
// but for probes, no attempt is spent, and status says what is wrong.
func TestNobodyIsADeadLetterWhileClerkServesNobody(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]clerktest.Fault{
		"maintenance_mode":          {{Kind: clerktest.FaultMaintenance}},
		"maintenance_mode too":      {{Kind: clerktest.FaultMaintenance, InErrors: true}},
		"authorization_invalid":     refusing(403, "authorization_invalid"),
		"invitations_not_supported": refusing(400, "invitations_not_supported"),
		"internal_clerk_error":      refusing(500, "internal_clerk_error"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{MinLatency: 100 * time.Millisecond, MaxLatency: 100 * time.Millisecond},
				"USHER_MAX_ATTEMPTS=3", "USHER_LIMIT_OVERALL=0",
				"USHER_LIMIT_CREATE=1000/1h") // failed calls count, and a campaign may spend 80 of 100
			var ids []int
			for _, fault := range faults {
				ids = append(ids, s.clerk.Inject(fault))
			}
			s.worker()
			s.worker()
			s.ok("bulk-invite", s.write("people.csv", csv("p", 40)), "--campaign", "load")
			s.ok("invite", "ada@example.com", "--id", "ada")
			begun, seen := time.Second, 4*time.Second
			if name == "internal_clerk_error" { // a failure of each says nothing yet
				begun, seen = 5*time.Second, 9*time.Second
			}
			var first, last time.Time
			testkit.Eventually(t, "some seconds of it have passed", func() bool {
				for _, r := range s.clerk.Requests() {
					if r.Status >= 400 {
						last = r.Arrived
						if first.IsZero() {
							first = r.Arrived
						}
					}
				}
				return last.Sub(first) > seen
			})
			if n := len(s.clerk.Requests()); name != "internal_clerk_error" && n > 30 {
				t.Errorf("%d requests were made for 41 recipients", n)
			}
			probes := 0
			for _, r := range s.clerk.Requests() {
				creates := r.Endpoint == clerktest.Create || r.Endpoint == clerktest.Bulk
				if creates && r.Arrived.Sub(first) > begun {
					probes++
				}
			}
			if probes > 5 {
				t.Errorf("%d calls went through the rest", probes)
			}
			code := strings.Fields(name)[0]
			if status := fmt.Sprint(s.ok("status")["resting"]); !strings.Contains(status, code) {
				t.Errorf("status says %s", status)
			}
			if c := s.campaign("load"); c.Standstill == nil ||
				c.Standstill.Reason != "endpoint" || !strings.Contains(c.Standstill.Message, code) ||
				!c.ETA.IsZero() || c.Dead != 0 {
				t.Errorf("%+v", c)
			}
			for _, id := range ids {
				s.clerk.ClearFault(id)
			}
			s.ok("resume-calls")
			testkit.Eventually(t, "all are sent", func() bool { return len(s.clerk.Ledger()) == 41 })
			if name != "internal_clerk_error" { // its failures before the rest were attempts
				want(t, s.ok("status", "ada"), map[string]any{"attempts": 1})
			}
			if dead := s.list("dead-letter", "list"); len(dead) > 0 || s.state("ada") != tasks.StateDone {
				t.Errorf("%v", dead)
			}
		})
	}
}

// refusing refuses creates and bulks to everybody.
func refusing(status int, code string) (faults []clerktest.Fault) {
	for _, endpoint := range []clerktest.Endpoint{clerktest.Create, clerktest.Bulk} {
		faults = append(faults, clerktest.Fault{
			Kind: clerktest.FaultStatus, Status: status, Code: code, Endpoint: endpoint,
		})
	}
	return faults
}

// TestOnesOptionsDoNotStopTheOthers: a refusal that may be about the instance is about one request's template. Nobody
// rests, and only that recipient is a dead letter.
func TestOnesOptionsDoNotStopTheOthers(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0", "USHER_LIMIT_CREATE=0", "USHER_LIMIT_BULK=0")
	s.clerk.Inject(clerktest.Fault{
		Kind: clerktest.FaultStatus, Status: 402, Code: "unsupported_subscription_plan_features",
		TemplateSlug: "waitlist_invitation",
	})
	w := s.worker()
	list := "email_address,template_slug\n"
	for i := range 60 {
		template := ""
		if i == 30 {
			template = "waitlist_invitation"
		}
		list += fmt.Sprintf("p%d@example.com,%s\n", i, template)
	}
	s.ok("bulk-invite", s.write("people.csv", list), "--campaign", "load", "--wait")
	dead := s.list("dead-letter", "list")
	if len(s.clerk.Ledger()) != 59 || len(dead) != 1 || dead[0]["email_address"] != "p30@example.com" {
		t.Errorf("%d are invited; dead letters: %v", len(s.clerk.Ledger()), dead)
	}
	if log := w.Log(); strings.Contains(log, "calls rest") {
		t.Errorf("calls rested: %s", log)
	}
}
