//go:build race

package main

// race gives the binaries the race detector that this program has.
const race = true
