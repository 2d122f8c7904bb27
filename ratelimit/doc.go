// Package ratelimit gives permits for calls to a server that allows at most N calls in any window. Any number of
// processes share the limits through Redis. The limits are exact: there are no token buckets and no approximations.
//
// # Why a window starts at the answer
//
// The server counts a call when it arrives. Only the server knows when that was: at some time between the taking of
// the permit and the arrival of the answer. A window that starts with the call ends too early by the call's latency.
// Under full load, a call then arrives before the server has a place for it.
//
// Here a call holds its place from the instant its permit was taken. While it is in flight it counts. Its window
// starts when [Permit.Done] says that the answer has arrived. Whatever the latency, both ends are on the safe side.
//
// A holder that dies says nothing. Its place counts until the permit's deadline plus a window. The deadline is the
// last instant at which the call may be sent; use it as the deadline of the HTTP request too. The holder counts it
// on its own monotonic clock, from before it asked Redis, so it is never later than the deadline that Redis knows.
// No clocks are compared.
//
// Nobody is promised a permit. A waiter learns the earliest instant at which a place can come free (a call in flight
// cannot free its place in less than a window), sleeps until then and asks again. Of all goroutines of a process that
// wait for the same thing, one asks. So a hundred thousand waiters cost as much as ten.
//
// # What remains
//
//   - The network may hold a request back until after its deadline. A process may freeze between its last look at the
//     deadline and its write. Such a call arrives at a time that was not counted.
//   - All times are Redis's own. If its clock jumps back, places come free later than necessary. If it jumps forward,
//     they come free too early, by as much as it jumped.
//   - A Redis that loses its memory (a restart without persistence, a failover to a replica that lags) forgets the
//     calls of the last window.
//   - A permit that is given back unused wakes the waiters of its own process. Those of other processes sleep until
//     the instant that they were told.
//
// Redis must be version 5 or newer. Cluster, Sentinel and single servers work alike: all keys share one hash tag.
package ratelimit
