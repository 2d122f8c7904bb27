//go:build !long

package testkit

// Long tells whether tests that take minutes run too: .ci/test -tags long.
const Long = false
