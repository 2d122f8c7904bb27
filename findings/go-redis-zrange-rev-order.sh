#!/bin/sh
# go-redis changed what Start and Stop of ZRangeArgs mean with Rev and ByScore (or ByLex), within version 9.
#
# Expected: a program that lists scores from high to low by ZRangeArgs{Start: "-inf", Stop: "+inf", ByScore: true,
# Rev: true} goes on to do so after an update within v9.
# Seen: 9.18.0 swaps the two before it sends them, and the list is whole. 9.23.0 sends them as they are, so Start must be
# the higher score now: the same program gets an empty list, and no error. Written for 9.23.0 it is empty with 9.18.0.
#
# Output seen with Go 1.26.8:
#   9.18.0: low to high [b a], high to low []
#   9.23.0: low to high [], high to low [b a]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func main() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	if err := rdb.ZAdd(ctx, "z", redis.Z{Score: 1, Member: "a"}, redis.Z{Score: 2, Member: "b"}).Err(); err != nil {
		panic(err)
	}
	list := func(start, stop string) []string {
		members, err := rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: "z", Start: start, Stop: stop, ByScore: true, Rev: true,
		}).Result()
		if err != nil {
			panic(err)
		}
		return members
	}
	fmt.Printf("low to high %v, high to low %v\n", list("-inf", "+inf"), list("+inf", "-inf"))
}
GO
for version in 9.18.0 9.23.0; do
    cat >go.mod <<MOD
module finding

go 1.24

require (
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/redis/go-redis/v9 v$version
)
MOD
    rm -f go.sum
    go mod tidy >/dev/null 2>&1
    printf '%s: ' "$version"
    go run .
done >seen
cat seen
cat >expected <<'OUT'
9.18.0: low to high [b a], high to low []
9.23.0: low to high [], high to low [b a]
OUT
diff expected seen
