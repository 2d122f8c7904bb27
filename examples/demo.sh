#!/bin/sh
# Shows Usher's main job end to end: a worker with an embedded Redis and a sandbox Clerk (an hour passes in six seconds),
# and a file of addresses, some of which Clerk refuses. Needs only Go; nothing is sent, nothing is kept.
# With --keep the worker and its pages go on until Ctrl-C.
set -eu
case "$*" in
'' | --keep) keep=$* ;;
*)
    echo "usage: sh examples/demo.sh [--keep]" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
worker=
cleanup() {
    if [ -n "$worker" ]; then
        kill "$worker" 2>/dev/null || true
        wait "$worker" 2>/dev/null || true
    fi
    rm -rf "$bin"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

echo "Building both commands (the first time, their modules are downloaded) ..."
go build -o "$bin/" ./cmd/worker ./cmd/enqueue
if "$bin/enqueue" status --sandbox >/dev/null 2>&1; then
    echo "A worker with a sandbox runs on this machine already (127.0.0.1:6398 and 6399): stop it first." >&2
    exit 1
fi
echo "Starting a worker with an embedded Redis and a sandbox Clerk ..."
pages=127.0.0.1:8080
start() {
    "$bin/worker" --sandbox --admin-addr "$pages" --log-format json 2>"$bin/worker.log" &
    worker=$!
}
start
until "$bin/enqueue" status --sandbox --json 2>/dev/null | grep -q '"workers":\[{'; do
    if kill -0 "$worker" 2>/dev/null; then
        sleep 0.2
    elif grep -q USHER_ADMIN_ADDR "$bin/worker.log" && [ "$pages" != off ]; then
        echo "Something else listens on $pages, so there are no pages."
        pages=off
        start
    else
        cat "$bin/worker.log" >&2
        exit 1
    fi
done
[ "$pages" = off ] || echo "Its pages, as long as it runs: http://$pages"

echo "Inviting everybody in examples/people.csv:"
"$bin/enqueue" bulk-invite examples/people.csv --campaign demo --sandbox --wait --wait-timeout 50s
echo
echo "The directory, after enqueue sync-list, of everybody called Lovelace:"
"$bin/enqueue" sync-list --sandbox --wait --wait-timeout 20s
"$bin/enqueue" invitations --sandbox --query lovelace
if [ -n "$keep" ]; then
    echo
    echo "The worker goes on, with its sandbox; go run ./cmd/enqueue … --sandbox reaches it. Ctrl-C ends it."
    wait "$worker"
fi
