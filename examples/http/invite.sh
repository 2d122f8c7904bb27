#!/bin/sh
# Invites one address and a list over HTTP, with curl. enqueue serve must run; USHER_API_TOKEN is one of its tokens.
set -eu
api=${USHER_API_URL:-http://127.0.0.1:8081}

# call METHOD PATH [curl's arguments] writes the answer, and the status on a line of its own.
call() {
    method=$1 path=$2
    shift 2
    curl -sS -X "$method" "$api$path" -H "Authorization: Bearer $USHER_API_TOKEN" -w '\n%{http_code}\n' "$@"
}

# field NAME takes a text out of an answer.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# The key makes it safe to repeat: an order that invites once uses the order's number.
answer=$(call POST /v1/invitations -H 'Content-Type: application/json' -H 'Idempotency-Key: order-4711-curl' \
    -d '{"email_address": "curl@example.com", "public_metadata": {"plan": "pro"}}')
task=$(printf '%s' "$answer" | field task_id)
echo "invited: $task"

answer=$(printf 'email_address,redirect_url\ncurl-1@example.com,/welcome\ncurl-2@example.com,/welcome\n' |
    call POST /v1/campaigns/curl/recipients -H 'Content-Type: text/csv' -H 'Idempotency-Key: list-1-curl' --data-binary @-)
list=$(printf '%s' "$answer" | field task_id)

for id in "$task" "$list"; do
    state=pending
    until [ "$state" = done ] || [ "$state" = dead ] || [ "$state" = cancelled ]; do
        state=$(call GET "/v1/tasks/$id?wait=30s" | field state)
    done
    echo "$id: $state"
done

# What is wrong is named, each with its place; nothing is done then.
call POST /v1/invitations -H 'Content-Type: application/json' -d '{"email_address": "nobody", "expires_in_days": 7}'
