#!/bin/sh
# What a script is told when its user may not run a command shares no word between Redis 7.0 and Valkey 8.0.
#
# Expected: as outside of scripts, where both answer NOPERM and "no permissions to run", a program can recognise the
# refusal by its code.
# Seen: in a script neither answers with NOPERM. Redis 7.0.15 says "The user executing the script can't run this command or
# subcommand", Valkey 8.0.1 (and Redis 8.0.2) "ACL failure in script: User app has no permissions to run the 'lset'
# command", both under the code ERR. Whoever looks for the one sentence takes every refusal of the other for a mistake
# in the script.
#
# Needs redis-server 7.0, dpkg and curl, and fetches Debian's valkey-tools 8.0.1+dfsg1-1~bpo12+1. Output seen:
#   redis: NOPERM
#   redis in a script: ERR The user executing the script can't run this command or subcommand
#   valkey: NOPERM
#   valkey in a script: ERR ACL failure in script: User app has no permissions to run the 'lset' command
set -eu
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server"; wait; fi; rm -rf "$work"' EXIT
cd "$work"
curl -sfO "http://deb.debian.org/debian/pool/main/v/valkey/valkey-tools_8.0.1+dfsg1-1~bpo12+1_amd64.deb"
dpkg -x valkey-tools_*.deb .
ln -s valkey-check-rdb usr/bin/valkey-server # one program, which goes by its name
ask() {
    name=$1
    shift
    "$@" --unixsocket "$work/socket" --port 0 --save "" >/dev/null &
    server=$!
    cli="redis-cli -s $work/socket"
    until $cli ping >/dev/null 2>&1; do sleep 0.1; done
    $cli acl setuser app on '>a-password' '~*' '+@all' -lset >/dev/null
    app="$cli --user app --pass a-password --no-auth-warning"
    echo "$name: $($app lset key 0 value | cut -d' ' -f1)"
    echo "$name in a script: $($app eval "return redis.pcall('LSET', KEYS[1], 0, 'value').err" 1 key)"
    kill "$server"
    wait "$server" || true
    server=
    rm -f "$work/socket"
}
{
    ask redis redis-server
    ask valkey usr/bin/valkey-server
} | tee seen
cat >wanted <<'TEXT'
redis: NOPERM
redis in a script: ERR The user executing the script can't run this command or subcommand
valkey: NOPERM
valkey in a script: ERR ACL failure in script: User app has no permissions to run the 'lset' command
TEXT
cmp seen wanted
