package main

import (
	"math"
	"slices"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// creating leaves of the requests those that ask for invitations, by arrival.
func creating(requests []clerktest.Request) []clerktest.Request {
	return slices.DeleteFunc(slices.Clone(requests), func(r clerktest.Request) bool {
		return r.Endpoint != clerktest.Create && r.Endpoint != clerktest.Bulk
	})
}

// succeeded leaves of them those that made what they asked for.
func succeeded(requests []clerktest.Request) []clerktest.Request {
	return slices.DeleteFunc(creating(requests), func(r clerktest.Request) bool {
		return r.Status < 200 || r.Status > 299
	})
}

// span is the time from the first call to the last one that succeeded.
func span(requests []clerktest.Request) time.Duration {
	calls, good := creating(requests), succeeded(requests)
	if len(good) == 0 {
		return 0
	}
	return good[len(good)-1].Arrived.Sub(calls[0].Arrived)
}

// pace is recipients a second in the calls that succeeded, without the first and the last tenth of them: a start and
// an end are no pace. Of too few calls it is not a number.
func pace(requests []clerktest.Request) float64 {
	good := succeeded(requests)
	from, to := len(good)/10, len(good)*9/10
	if to-from < 2 {
		return math.NaN()
	}
	recipients := 0
	for _, call := range good[from:to] {
		recipients += call.Recipients
	}
	return float64(recipients) / good[to].Arrived.Sub(good[from].Arrived).Seconds()
}
