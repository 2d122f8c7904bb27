#!/bin/sh
# @clerk/backend 3.25.0 does not show programs the code of Clerk's maintenance mode.
#
# Expected: Clerk documents the answer of an application in maintenance mode as 503 with the JSON object
# {"shortMessage", "longMessage", "code": "maintenance_mode"}, so Clerk's own client would tell a program that code.
# Seen: the client reads only an array "errors". A program gets a ClerkAPIResponseError whose errors are empty, whose
# code is the client's own "api_response_error", and whose message is the status text. e.errors[0].code, which programs
# branch on, throws a TypeError. Only the status and retryAfter say that something is wrong. With the same code inside
# "errors" it is shown.
#
# Output seen with node 20.20.2:
#   top level: status 503, code api_response_error, errors [], retryAfter 1800, message "Service Unavailable"
#   in errors: status 503, code api_response_error, errors ["maintenance_mode"], retryAfter 1800, message "Service Unavailable"
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix . @clerk/backend@3.25.0 >/dev/null
cat >run.mjs <<'JS'
import http from 'node:http'
import { createClerkClient } from '@clerk/backend'

const code = 'maintenance_mode'
const bodies = {
  'top level': { shortMessage: 'Maintenance', longMessage: 'The application is in maintenance mode.', code },
  'in errors': { errors: [{ message: 'Maintenance', long_message: 'The application is in maintenance mode.', code }] },
}
let body
const server = http.createServer((request, response) => {
  request.resume()
  response.writeHead(503, { 'Content-Type': 'application/json', 'Retry-After': '1800' })
  response.end(JSON.stringify(body))
}).listen(0, '127.0.0.1', async () => {
  const clerk = createClerkClient({ secretKey: 'sk_test_x', apiUrl: `http://127.0.0.1:${server.address().port}` })
  for (const form in bodies) {
    body = bodies[form]
    try {
      await clerk.invitations.createInvitation({ emailAddress: 'a@example.com' })
    } catch (e) {
      const codes = JSON.stringify(e.errors.map(each => each.code))
      console.log(`${form}: status ${e.status}, code ${e.code}, errors ${codes}, retryAfter ${e.retryAfter}, message "${e.message}"`)
    }
  }
  server.close()
})
JS
node run.mjs | tee seen
cat >wanted <<'TEXT'
top level: status 503, code api_response_error, errors [], retryAfter 1800, message "Service Unavailable"
in errors: status 503, code api_response_error, errors ["maintenance_mode"], retryAfter 1800, message "Service Unavailable"
TEXT
if ! cmp -s seen wanted; then
    echo 'this has changed' >&2
    exit 1
fi
