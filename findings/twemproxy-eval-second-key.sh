#!/bin/sh
# twemproxy runs a script whose keys are on two servers, and what it writes to the second key nobody reads.
#
# Expected: a proxy that spreads keys over servers refuses a script with keys of two of them, as Redis Cluster does
# ("CROSSSLOT Keys in request don't hash to the same slot"). It has all keys before it sends anything, and it does take
# MGET, MSET and DEL apart by the servers of their keys.
# Seen (nutcracker 0.5.0, two Redis 7.0.15): it sends the script to the server of the first key. The script writes both
# keys there, reads back what it wrote, and is answered with success. GET of the second key through the same proxy goes
# to the other server, and gives the old value. So a counter or a lock in a script is lost without any error, for some
# pairs of keys. RPOPLPUSH does the same.
#
# Needs redis-server, redis-cli, dpkg and curl, and fetches Debian's nutcracker 0.5.0+dfsg-2. Output seen with Redis
# 7.0.15:
#   b before: old
#   the script reads b: new
#   b afterwards: old
#   RPOPLPUSH from a2 to b2: moved
#   b2 afterwards: 0 elements
set -eu
work=$(mktemp -d)
pids=
trap 'for pid in $pids; do kill "$pid" || true; done; wait; rm -rf "$work"' EXIT
cd "$work"
pool=http://deb.debian.org/debian/pool/main
curl -sfO "$pool/n/nutcracker/nutcracker_0.5.0%2bdfsg-2_amd64.deb"
curl -sfO "$pool/liby/libyaml/libyaml-0-2_0.2.5-1_amd64.deb"
for deb in *.deb; do dpkg -x "$deb" .; done
for server in one two; do
    redis-server --port 0 --unixsocket "$work/$server.sock" --save "" >/dev/null &
    pids="$pids $!"
    until redis-cli -s $server.sock ping >/dev/null 2>&1; do sleep 0.1; done
done
cat >proxy.yml <<YML
pool:
  listen: $work/proxy.sock
  hash: fnv1a_64
  distribution: modula
  redis: true
  servers:
   - $work/one.sock:1 one
   - $work/two.sock:1 two
YML
LD_LIBRARY_PATH=$(echo "$work"/usr/lib/*) usr/sbin/nutcracker -c proxy.yml -a 127.0.0.1 -s $((21000 + $$ % 1000)) -o log &
proxy=$!
pids="$pids $proxy"
cli="redis-cli -s proxy.sock"
until $cli ping >/dev/null 2>&1; do kill -0 $proxy; sleep 0.1; done
{
    $cli set b old >/dev/null
    echo "b before: $($cli get b)"
    script="redis.call('SET', KEYS[2], 'new') return redis.call('GET', KEYS[2])"
    echo "the script reads b: $($cli eval "$script" 2 a b)"
    echo "b afterwards: $($cli get b)"
    $cli rpush a2 moved >/dev/null
    echo "RPOPLPUSH from a2 to b2: $($cli rpoplpush a2 b2)"
    echo "b2 afterwards: $($cli llen b2) elements"
} | tee seen
cat >wanted <<'TEXT'
b before: old
the script reads b: new
b afterwards: old
RPOPLPUSH from a2 to b2: moved
b2 afterwards: 0 elements
TEXT
cmp seen wanted
