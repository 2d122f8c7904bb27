#!/bin/sh
# goccy/go-yaml 1.19.2 decodes a time that it cannot read into year 1, and returns no error.
#
# Expected: text that is no time is an error, as for a number or a duration in the same struct, and as encoding/json and
# go.yaml.in/yaml/v4 4.0.0 have it.
# Seen: a time.Time becomes the zero time and err is nil, also with yaml.Strict(). That meets valid timestamps of YAML
# too, "2026-11-29T10:00:00" without a zone and "2026-11-29 10:00:00 +01:00" among them, since only four layouts
# are tried. A time whose zero value means "not given" is silently not given.
#
# Output seen with Go 1.26.8:
#   2026-11-29T10:00:00Z: 2026-11-29T10:00:00Z <nil>
#   2026-11-29 10:00:00: 2026-11-29T10:00:00Z <nil>
#   2026-11-29T10:00:00: 0001-01-01T00:00:00Z <nil>
#   2026-11-29 10:00:00 +01:00: 0001-01-01T00:00:00Z <nil>
#   29.11.2026: 0001-01-01T00:00:00Z <nil>
#   in a week: 0001-01-01T00:00:00Z <nil>
#   a duration of "in a week": an error
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.24
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

func main() {
	var document struct {
		At time.Time
		In time.Duration
	}
	decode := func(text string) error {
		return yaml.NewDecoder(strings.NewReader(text+"\n"), yaml.Strict()).Decode(&document)
	}
	for _, text := range []string{
		"2026-11-29T10:00:00Z", "2026-11-29 10:00:00", "2026-11-29T10:00:00", "2026-11-29 10:00:00 +01:00",
		"29.11.2026", "in a week",
	} {
		document.At = time.Now()
		err := decode("at: " + text)
		fmt.Printf("%s: %s %v\n", text, document.At.Format(time.RFC3339), err)
	}
	if decode("in: in a week") != nil {
		fmt.Println(`a duration of "in a week": an error`)
	}
}
GO
go get github.com/goccy/go-yaml@v1.19.2 >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
2026-11-29T10:00:00Z: 2026-11-29T10:00:00Z <nil>
2026-11-29 10:00:00: 2026-11-29T10:00:00Z <nil>
2026-11-29T10:00:00: 0001-01-01T00:00:00Z <nil>
2026-11-29 10:00:00 +01:00: 0001-01-01T00:00:00Z <nil>
29.11.2026: 0001-01-01T00:00:00Z <nil>
in a week: 0001-01-01T00:00:00Z <nil>
a duration of "in a week": an error
TEXT
cmp seen wanted
