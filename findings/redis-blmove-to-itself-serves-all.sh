#!/bin/sh
# BLMOVE from a list to itself: one push answers every client that waits, each with the same element.
#
# Expected: one element serves one of the blocked clients, as with BLPOP; the others wait on.
# Seen: the element that the first client has moved is back in the list, which counts as a push of its own and serves
# the next one, and so on. All ten are answered by one RPUSH, and the list still holds the element. With another list
# as the destination one client is answered.
#
# Output seen with redis-server 5:7.0.15-1~deb12u10 (Debian 12):
#   to itself: 10 of 10 answered, 0 still wait, the list holds 1
#   to another list: 1 of 10 answered, 9 still wait, the list holds 0
set -eu
work=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid"; fi; rm -rf "$work"' EXIT
cd "$work"
version=$(apt-cache madison redis-server | awk '$3 ~ /^5:7\.0\.15-/ { print $3; exit }')
apt-get download "redis-tools=$version" "redis-server=$version" >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" .; done
port=$((20000 + $$ % 10000))
usr/bin/redis-server --port "$port" --bind 127.0.0.1 --save '' >log 2>&1 &
pid=$!
cli() { usr/bin/redis-cli -p "$port" "$@"; }
blocked() { cli info clients | tr -d '\r' | sed -n 's/^blocked_clients://p'; }
until [ "$(cli ping 2>/dev/null)" = PONG ]; do :; done
push() { # to: the list that elements are moved to
    : >"answers-$1"
    for _ in 1 2 3 4 5 6 7 8 9 10; do cli blmove from "$1" right right 5 >>"answers-$1" 2>/dev/null & done
    until [ "$(blocked)" = 10 ]; do :; done
    cli rpush from element >/dev/null
    end=$(($(date +%s) + 4)) # before they give up
    until [ "$(grep -c element "answers-$1")" = "$2" ] || [ "$(date +%s)" -ge "$end" ]; do :; done
    printf '%s of 10 answered, %s still wait, the list holds %s\n' "$(grep -c element "answers-$1")" "$(blocked)" \
        "$(cli llen from)"
}
{
    printf 'to itself: '
    push from 10
    cli del from >/dev/null
    printf 'to another list: '
    push other 1
} >seen
cat seen
cat >wanted <<'TEXT'
to itself: 10 of 10 answered, 0 still wait, the list holds 1
to another list: 1 of 10 answered, 9 still wait, the list holds 0
TEXT
if ! cmp -s seen wanted; then
    echo 'this has changed' >&2
    exit 1
fi
