//go:build race

package e2e

// buildFlags gives the binaries under test the race detector that the tests have.
func buildFlags() []string { return []string{"-race"} }
