package main

import (
	"math/rand/v2"
	"time"
)

// How often a condition is looked at.
const (
	pollOften  = 2 * time.Millisecond   // for an instant that must not be missed
	pollSoon   = 20 * time.Millisecond  // for one that is close
	pollSeldom = 250 * time.Millisecond // for the end of the work; it leaves the processors to it
)

// between draws a duration.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}
