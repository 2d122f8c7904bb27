//go:build race

package main

// buildEnv and buildFlags give the binaries the race detector that this program has.
func buildEnv() []string { return nil }

func buildFlags() []string { return []string{"-race"} }
