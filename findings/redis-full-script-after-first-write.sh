#!/bin/sh
# A full Redis refuses a script's SET, but takes the same SET after a write that needs no memory, also one that does
# nothing.
#
# Expected: with maxmemory reached and noeviction, SET in a script is refused (OOM) wherever it stands.
# Seen: memory is looked at until the script's first write only. DEL of a missing key is such a write and is always
# taken; after it the script's SETs are taken, however far Redis is over its limit.
#
# Output seen with redis-server 5:7.0.15-1~deb12u10 (Debian 12):
#   SET: OOM command not allowed when used memory > 'maxmemory'.
#   DEL of a missing key, then 1000 times SET: 1000 keys
set -eu
work=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid"; fi; rm -rf "$work"' EXIT
cd "$work"
version=$(apt-cache madison redis-server | awk '$3 ~ /^5:7\.0\.15-/ { print $3; exit }')
apt-get download "redis-tools=$version" "redis-server=$version" >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" .; done
port=$((20000 + $$ % 10000))
usr/bin/redis-server --port "$port" --bind 127.0.0.1 --save '' --maxmemory-policy noeviction >log 2>&1 &
pid=$!
cli() { usr/bin/redis-cli -p "$port" "$@"; }
until [ "$(cli ping 2>/dev/null)" = PONG ]; do :; done
cli config set maxmemory 1 >/dev/null
{
    printf 'SET: '
    cli eval "return redis.call('SET', 'one', 'x')" 0 2>&1 | grep -o "OOM[^.]*\."
    cli eval "redis.call('DEL', 'none') for i = 1, 1000 do redis.call('SET', 'k' .. i, 'x') end return 1" 0 >/dev/null
    printf 'DEL of a missing key, then 1000 times SET: %s keys\n' "$(cli dbsize)"
} >seen
cat seen
cat >wanted <<'TEXT'
SET: OOM command not allowed when used memory > 'maxmemory'.
DEL of a missing key, then 1000 times SET: 1000 keys
TEXT
if ! cmp -s seen wanted; then
    echo 'this has changed' >&2
    exit 1
fi
