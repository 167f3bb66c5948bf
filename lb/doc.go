// Package lb balances: clusters of endpoints, the pickers that choose among them, and the L4 proxy that picks, dials
// and relays.
//
//	tcp ──► Proxy.Accept ──► Cluster.Pick ──► engine dial ──► engine.Relay ⇄ Endpoint
//
// A [Cluster] is immutable but for its endpoints' health: a change of that builds a new table, off the loops, and
// swaps it in. An [Endpoint] outlives the clusters that name it: across reloads it keeps its health, its counters and
// the connections that are kept warm to it.
package lb
