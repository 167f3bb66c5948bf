// Package bench measures proxies from outside: the edge against its peers, and against its own past. It imports nothing
// of what it measures.
//
//	Generator ──► target (any proxy) ──► Origin        Measure: one round of one Scenario on one Target ──► Sample
//	    └───────── directly ────────────────┘          Run, Peers, Regress: rounds, interleaved ──► Result ──► Compare, Report
//
// The origin and the closed loop stand on gnet; the open loop on epoll alone, since gnet has no timers; those of
// datagrams on recvmmsg and sendmmsg. Each round also knows what the generator itself used: a throughput that the
// generator bounded, and not the target, is marked so.
package bench
