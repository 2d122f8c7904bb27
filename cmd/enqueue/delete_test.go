package main

import (
	"strings"
	"testing"
)

// TestAPersonIsAskedBeforeACampaignIsDeleted: first whether, then what is to become of its dead letters.
func TestAPersonIsAskedBeforeACampaignIsDeleted(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]struct {
		exit, letters, invites int
	}{
		"n\n": {1, 1, 0}, "": {1, 1, 0}, "y\n": {1, 1, 0}, "y\nn\n": {1, 1, 0}, "y\nd\n": {0, 0, 0}, "Y\nR\n": {0, 0, 1},
	} {
		t.Run(strings.ReplaceAll(typed, "\n", "."), func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.ok("bulk-invite", s.write("people.csv", people("p", 3)), "--campaign", "spring")
			s.sent("spring", 2)
			s.dead("spring", 1, "duplicate_record")
			s.finish("spring")
			a := s.run(t.Context(), person{strings.NewReader(typed)}, "campaign", "delete", "spring")
			letters, err := s.letters.Count(t.Context())
			invites := s.rdb.LLen(t.Context(), "asynq:{usher:interactive}:pending").Val()
			if a.exit != want.exit || err != nil || letters != want.letters || int(invites) != want.invites ||
				!strings.Contains(a.stderr, "Delete campaign spring with 3 recipients and 1 dead letter for good?") {
				t.Errorf("%+v, %d letters, %d invites, %v; want %+v", a, letters, invites, err, want)
			}
			if head, err := s.ledgers.Get(t.Context(), "spring"); (err == nil) != (want.exit == 1) {
				t.Errorf("%+v, %v", head, err)
			}
		})
	}
}
