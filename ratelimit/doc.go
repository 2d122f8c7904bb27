// Package ratelimit takes permits for calls to a server that allows at most N of them in any span of a window's length.
// Any number of processes share the limits through Redis. There are no token buckets here, and no approximations.
//
// # Why a window starts at the answer
//
// The server counts a call when it arrives, and nobody but the server knows when that was: some time between the moment
// the permit was taken and the moment the answer came back. A window that is stamped when the call starts ends too early
// by the call's latency, so that under full load some call arrives before its place was free at the server. Here a call
// occupies its place from the instant its permit was taken; while it is in flight it counts; its window starts when
// [Permit.Done] tells that the answer has arrived. Both ends err to the same side, whatever the latencies.
//
// A holder that dies never tells. Its place counts until the permit's deadline, which is the last instant at which
// its call may leave, plus a window. The deadline is reckoned on the holder's own monotonic clock from before Redis was
// asked, so it is never later than the one Redis knows; no clocks are compared. Use it as the HTTP deadline too.
//
// Nobody is promised a permit. Whoever waits is told the earliest instant at which one can come free (a call in flight
// cannot free its place in less than a window), sleeps until then and asks again; of all goroutines of a process that
// wait for the same thing, one asks. Waiting therefore costs the same for ten and for a hundred thousand.
//
// # What remains
//
//   - A request that the network holds back until after its deadline, or that a process frozen between its last look at
//     the deadline and its write sends late, arrives at a time that nobody reckoned with.
//   - All times are Redis's own. When its clock jumps back, places are free later than need be. When it jumps forward,
//     places are free too early, by as much as it jumped.
//   - A Redis that loses its memory (a restart without persistence, a failover to a replica that lags) forgets the calls
//     of the last window.
//   - A permit that is given back unused wakes the goroutines that wait in the same process. Those of other processes
//     sleep on until the instant that they were told.
//
// Redis 5 or newer; Cluster, Sentinel and single servers alike (all keys share one hash tag).
package ratelimit
