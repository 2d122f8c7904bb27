//go:build !race

package main

func buildEnv() []string { return []string{"CGO_ENABLED=0"} }

func buildFlags() []string { return nil }
