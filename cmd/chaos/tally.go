package main

import (
	"cmp"
	"net/http"

	"example.com/usher/clerkclient/clerktest"
)

// tally counts what was survived.
type tally struct {
	Faults        map[string]int `json:"faults"` // struck, by name
	Kills         int            `json:"kills"`
	KillsAtIntent int            `json:"kills_at_open_intent"` // strikes while a call may have been under way
	KillsCut      int            `json:"kills_that_cut_a_call"`
	RedisRestarts int            `json:"redis_restarts"`
	Stops         int            `json:"stops"`
	LateCommits   int            `json:"late_commits"`
	Throttled     int            `json:"throttled"`    // 429 by limits
	Unauthorized  int            `json:"unauthorized"` // 401
	Abandoned     int            `json:"abandoned"`    // calls whose client left before their answer
	Creates       int            `json:"create_calls"`
	Bulks         int            `json:"bulk_calls"`
	Lookups       int            `json:"look_ups"`
}

// sawRequests counts what the sandbox saw; faults are their names by id.
func (t *tally) sawRequests(requests []clerktest.Request, faults map[int]string) {
	if t.Faults == nil {
		t.Faults = map[string]int{}
	}
	for _, r := range requests {
		switch r.Endpoint {
		case clerktest.Create:
			t.Creates++
		case clerktest.Bulk:
			t.Bulks++
		case clerktest.List, clerktest.Users:
			t.Lookups++
		}
		if r.FaultID != 0 {
			t.Faults[cmp.Or(faults[r.FaultID], string(r.Fault))]++
		}
		t.Throttled += oneIf(r.Throttled)
		t.Unauthorized += oneIf(r.Status == http.StatusUnauthorized)
		t.Abandoned += oneIf(r.Abandoned)
	}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// add adds what another run survived.
func (t *tally) add(other tally) {
	if t.Faults == nil {
		t.Faults = map[string]int{}
	}
	for name, n := range other.Faults {
		t.Faults[name] += n
	}
	for _, sum := range []struct {
		to   *int
		from int
	}{
		{&t.Kills, other.Kills}, {&t.KillsAtIntent, other.KillsAtIntent}, {&t.KillsCut, other.KillsCut},
		{&t.RedisRestarts, other.RedisRestarts}, {&t.Stops, other.Stops},
		{&t.LateCommits, other.LateCommits}, {&t.Throttled, other.Throttled}, {&t.Unauthorized, other.Unauthorized},
		{&t.Abandoned, other.Abandoned}, {&t.Creates, other.Creates}, {&t.Bulks, other.Bulks},
		{&t.Lookups, other.Lookups},
	} {
		*sum.to += sum.from
	}
}
