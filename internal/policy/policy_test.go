package policy

import (
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
)

func standard() Policy {
	return Policy{
		Create: settings.Rate{N: 100, Window: time.Hour}, Bulk: settings.Rate{N: 25, Window: time.Hour},
		Overall: settings.Rate{N: 50, Window: 10 * time.Second},
		Reserve: 20, Timeout: 30 * time.Second, MaxAttempts: 20, BackoffMin: time.Second, BackoffMax: 30 * time.Minute,
	}
}

func TestBackoffDoublesWithFullJitter(t *testing.T) {
	t.Parallel()
	p := standard()
	for attempts, ceiling := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second,
		12: 30 * time.Minute, 10_000: 30 * time.Minute} {
		highest := time.Duration(0)
		for range 2000 {
			d := p.Backoff(attempts)
			if d < 0 || d > ceiling {
				t.Fatalf("after %d attempts: %s, want at most %s", attempts, d, ceiling)
			}
			highest = max(highest, d)
		}
		if highest < ceiling/2 {
			t.Errorf("after %d attempts: at most %s of %s in 2000 draws", attempts, highest, ceiling)
		}
	}
}

func TestCampaignsLeaveTheReserve(t *testing.T) {
	t.Parallel()
	p := standard()
	wants, own := p.Wants(CreateCampaign, "k")
	if own != "create" || wants[0].Share != "campaign" || wants[0].Max != 80 {
		t.Errorf("%+v, %s", wants, own)
	}
	if wants, _ := p.Wants(Create, "k"); wants[0].Share != "" {
		t.Errorf("an invite has a share: %+v", wants)
	}
	if wants, own := p.Wants(Read, "k"); own != "overall" || wants[0].Max != 25 {
		t.Errorf("reads: %+v, %s", wants, own)
	}
	p.Create.N = 0
	if wants, _ := p.Wants(CreateCampaign, "k"); wants[0].Share != "" {
		t.Errorf("without a limit there is no share: %+v", wants)
	}
}

func TestRestAfter429(t *testing.T) {
	t.Parallel()
	p := standard()
	p.Bulk.Window = 6 * time.Second
	for _, c := range []struct {
		own         string
		says, rests time.Duration
	}{{"create", 7 * time.Second, 7 * time.Second}, {"create", 0, retryAfterUnknown}, {"bulk", 0, 6 * time.Second}} {
		if got := p.RestAfter429(c.own, c.says); got != c.rests {
			t.Errorf("%s, which says %s: rests %s, want %s", c.own, c.says, got, c.rests)
		}
	}
}

func TestAnnouncedPolicyIsReadBack(t *testing.T) {
	t.Parallel()
	rdb := testkit.MiniRedis(t)
	if _, known, err := Announced(t.Context(), rdb, "test"); known || err != nil {
		t.Errorf("before any worker: %v, %v", known, err)
	}
	p := standard()
	p.Bulk = settings.Rate{}
	if err := p.Announce(t.Context(), rdb, "test"); err != nil {
		t.Fatal(err)
	}
	got, known, err := Announced(t.Context(), rdb, "test")
	want := Policy{Create: p.Create, Overall: p.Overall, Reserve: p.Reserve, Timeout: p.Timeout}
	if !known || err != nil || got != want {
		t.Errorf("%+v, %v, %v, want %+v", got, known, err, want)
	}
	for _, garbage := range []string{"{", `{"create":"x","timeout":1}`,
		`{"create":"0","bulk":"0","overall":"0","reserve":-1,"timeout":1}`} {
		rdb.Set(t.Context(), "test:policy", garbage, 0)
		if _, known, err := Announced(t.Context(), rdb, "test"); known || err == nil {
			t.Errorf("%s was taken", garbage)
		}
	}
}

// TestAsManyAreLookedUpAheadAsAWindowCarries: so that none of its calls waits for a look-up when it opens.
func TestAsManyAreLookedUpAheadAsAWindowCarries(t *testing.T) {
	t.Parallel()
	for limits, want := range map[[2]int]int{{100, 25}: 350, {20, 1}: LookupSize, {1000, 250}: 500} {
		p := Policy{Create: settings.Rate{N: limits[0]}, Bulk: settings.Rate{N: limits[1]}}
		if got := p.Ahead(); got != want {
			t.Errorf("with %d single and %d bulk calls %d are looked up ahead, want %d", limits[0], limits[1], got, want)
		}
	}
}

func TestALookUpIsOneCallForUsers(t *testing.T) {
	t.Parallel()
	if LookupSize != clerkclient.MaxUserAddresses {
		t.Errorf("%d are looked up together, and one call takes %d", LookupSize, clerkclient.MaxUserAddresses)
	}
}

// TestAClerkThatIsNotReachedIsToldFromOneThatServesNobody by its code, which this package writes again.
func TestAClerkThatIsNotReachedIsToldFromOneThatServesNobody(t *testing.T) {
	t.Parallel()
	for why, want := range map[string]string{
		clerkclient.CodeDial:                  "Clerk cannot be reached",
		"503 maintenance_mode (trace id abc)": "Clerk serves nobody: 503 maintenance_mode",
		"403 authorization_missing_scopes":    "Clerk serves nobody: 403 authorization_missing_scopes",
		"403 not Clerk's API":                 "something else than Clerk's API answers",
	} {
		if got := (Standstill{Calls: "create", Why: why}).Says(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", why, got, want)
		}
	}
}
