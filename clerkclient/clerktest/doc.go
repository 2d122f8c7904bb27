// Package clerktest is a Clerk to test against: an [http.Handler] that plays the application-invitation endpoints of Clerk's
// Backend API, its rate limits, its refusals, and what can go wrong on the way. It keeps a ledger of what was sent to whom, so that a
// test can tell whether every invitation happened once.
//
//	sandbox, url := clerktest.NewServer(t, clerktest.Documented("sk_test_x"))
//	// … point the code under test at url, with the key sk_test_x …
//	sandbox.Ledger() // what was sent to whom
//
// It uses the standard library only, and works with any Clerk client in any language: see [Sandbox.Mux] for one in its own process.
//
// # What it plays
//
// Under the prefix /v1 and under none: POST /invitations, POST /invitations/bulk, GET /invitations, POST /invitations/{id}/revoke,
// GET /users. Everything else is a 404. Requests need a bearer key and are validated as Clerk documents: unknown, missing, mistyped
// and malformed fields, sizes, duplicates, addresses of users, blocked ones. Errors are Clerk's: {errors:[{message, long_message, code,
// meta}], clerk_trace_id}. A bulk is all or nothing, and its answer is not in the order of the request.
//
// Some of Clerk's behaviour is documented, some was only observed (O), some is assumed (A). Each fact of the latter two kinds has a
// switch in [Config] that plays the other possibility; the zero Config plays the likely one. What no source settles and no switch
// plays: 422 form_param_array_size_exceeded for a look-up of more than 100 users, 400 api_version_invalid for a version given twice,
// request bodies up to 1 MiB.
//
// # The way of a request
//
//  1. Transit passes; then the request arrives: it is stamped by the clock and numbered. Only then can limits see it.
//  2. The key is checked, then the path, then the limits. What is refused here is refused at once.
//  3. A [Fault] may strike.
//  4. Latency passes. If the client leaves meanwhile nothing is done, unless Config.LateCommit does it later.
//  5. The request is validated and carried out, in one instant, and answered.
//
// Windows, timestamps, expiry, late commits and Date headers go by Config.Now, so a test that turns its own clock waits for nothing.
//
// # Control over HTTP
//
// [Sandbox.Control], which [Sandbox.Mux] and [NewServer] serve under /_sandbox/, takes and gives JSON. Durations are texts like "90s",
// limits texts like "100/1h" (0: none). A refusal is 422 {"error": …}. It has no password: keep it on a loopback address.
//
//	GET    /config        the configuration; the key is shortened
//	PATCH  /config        changes the fields given, e.g. {"bulk_partial":true,"list_lag":"5s"}
//	GET    /ledger        what was sent to whom; ?email_address= for one address, ?after= a request's number for what came later
//	GET    /requests      the requests seen; ?after= as above
//	GET    /stats         counts by endpoint, and how the limits were used
//	GET    /faults        the faults in force
//	POST   /faults        adds one, e.g. {"kind":"reset","after":true,"endpoint":"create","times":1}; gives {"id":…}
//	DELETE /faults        ends all, /faults/{id} one
//	POST   /users         {"email_address":…} makes the address a user's
//	POST   /invitations   {"email_address":…} adds a pending invitation and gives it
//	POST   /accept        {"id":…} accepts an invitation
//	POST   /expire        {"id":…} lets one expire
//	POST   /blocks        {"email_address":…} or {"domain":…} is not allowed any more
//	POST   /rejections    {"email_address":…,"status":…,"code":…} is refused so
//	POST   /quota         {"n":…} more invitations can be made; negative: any number
//	POST   /key           {"key":…} is the only key accepted; "": any sk_test_… or sk_live_…
//	DELETE /key           no key is accepted
//	POST   /limits        {"create":"100/1h","bulk":"25/1h","overall":"100/10s"}; those left out stay
//	POST   /reset         forgets everything but the configuration
//	POST   /demo          see LoadDemo
//
// # Memory
//
// Invitations, users and the ledger are kept until a reset, about 1.5 KB for an invitation; 100,000 are no burden. Of the requests
// the latest 100,000 to 200,000 are kept; [Stats] counts them all. The clerktest answers hold sign-up tickets, as Clerk's do, but of
// no value.
package clerktest
