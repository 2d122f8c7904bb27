//go:build !race

package testkit

// Race tells whether this program has the race detector.
const Race = false
