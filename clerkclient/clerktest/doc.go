// Package clerktest is a Clerk to test against: an [http.Handler] that plays the endpoints for application
// invitations of Clerk's Backend API, with its rate limits, its refusals, and what can go wrong on the way. It keeps
// a ledger of what was sent to whom, so a test can check that every invitation happened once.
//
//	sandbox, url := clerktest.NewServer(t, clerktest.Documented("sk_test_x"))
//	// … point the code under test at url, with the key sk_test_x …
//	sandbox.Ledger() // what was sent to whom
//
// It uses only the standard library. It works with any Clerk client in any language: [Sandbox.Mux] is for a sandbox
// in a process of its own.
//
// # What it plays
//
// Under the prefix /v1 and under none: POST /invitations, POST /invitations/bulk, GET /invitations, POST
// /invitations/{id}/revoke, DELETE /invitations/{id}, GET /users, GET /users/count. Everything else is a 404.
// Requests need a bearer key. They are validated as Clerk documents it: unknown, missing, mistyped and malformed
// fields, sizes, duplicates, addresses of users, blocked addresses. Errors have Clerk's form: {errors:[{message,
// long_message, code, meta}], clerk_trace_id}. A bulk is all or nothing, and its answer is not in the order of the
// request.
//
// Some of Clerk's behaviour is documented, some was only observed (O), some is assumed (A). For each observed or
// assumed fact, a switch in [Config] plays the other possibility; the zero Config plays the likely one. Some answers
// are settled by no source and have no switch: 422 form_param_array_size_exceeded for a look-up of more than 100
// users, 400 api_version_invalid for a version that is given twice, and request bodies of up to 1 MiB.
//
// # The way of a request
//
//  1. Transit passes, then the request arrives: it gets its time and its number. Only now can limits see it.
//  2. The key is checked, then the path, then the limits. What fails here is refused at once.
//  3. A [Fault] may strike.
//  4. Latency passes. If the client leaves meanwhile, nothing is done, unless Config.LateCommit does it later.
//  5. The request is validated, carried out and answered, in one instant.
//
// Windows, timestamps, expiry, late commits and Date headers use Config.Now. A test with a clock of its own waits for
// nothing.
//
// # Control over HTTP
//
// [Sandbox.Control] takes and gives JSON. [Sandbox.Mux] and [NewServer] serve it under /_sandbox/. Durations are
// texts like "90s", limits texts like "100/1h" (0: no limit). A refusal is 422 {"error": …}. There is no password:
// keep it on a loopback address.
//
//	GET    /config        the configuration; the key is shortened
//	PATCH  /config        changes the fields given, e.g. {"bulk_partial":true,"list_lag":"5s"}
//	GET    /ledger        what was sent to whom; ?email_address=A to one address, ?after=N after request N
//	GET    /requests      the requests seen; ?after= as above
//	GET    /stats         counts by endpoint, and how the limits were used
//	GET    /faults        the faults that can strike
//	POST   /faults        adds one, e.g. {"kind":"reset","after":true,"endpoint":"create","times":1}; gives {"id":…}
//	DELETE /faults        ends all, /faults/{id} one
//	POST   /users         {"email_address":…} makes a user with the address
//	POST   /invitations   {"email_address":…} adds a pending invitation and gives it
//	POST   /accept        {"id":…} accepts an invitation
//	POST   /expire        {"id":…} makes one expire
//	POST   /blocks        {"email_address":…} or {"domain":…} is refused from now on
//	POST   /rejections    {"email_address":…,"status":…,"code":…} is refused like that
//	POST   /quota         {"n":…} more invitations can be made; negative: any number
//	POST   /key           {"key":…} is the only key accepted; "": any sk_test_… or sk_live_…
//	DELETE /key           no key is accepted
//	POST   /limits        {"create":"100/1h","bulk":"25/1h","overall":"100/10s"}; limits not given stay
//	POST   /reset         forgets everything but the configuration
//	POST   /demo          see LoadDemo
//
// # Memory
//
// Invitations, users and the ledger are kept until a reset, about 1.5 KB for an invitation; 100,000 are no burden.
// Of the requests, the latest 100,000 to 200,000 are kept; [Stats] counts all of them. The answers hold sign-up
// tickets, as Clerk's do, but these are worth nothing.
package clerktest
