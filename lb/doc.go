// Package lb balances: clusters of endpoints, the pickers that choose among them, and the L4 proxy that picks, dials
// and relays.
//
//	tcp ─┬──────────► Proxy.Accept ──► hello? ──► Cluster.Take ──► dial ──► PROXY header? ──► engine.Relay ⇄ Endpoint
//	     └► Preface ──┘                              ▲   │ all full
//	                                                 └───┴ queue
//	udp ──► UDPProxy.Datagram ──► flow ──► Cluster.Take ──► engine.PacketConn ⇄ Endpoint
//
// What a pick looks at is a cluster's table: immutable, and exchanged as a whole by the cluster's keeper, a goroutine,
// when endpoints come, go, rise, fall or are ejected (cluster.go, table.go, outlier.go). Each picker has a file of its
// own; those that place by keys stand on the pure functions of lb/maglev, lb/ring and lb/hrw. An [Endpoint] outlives the
// clusters that name it: across reloads it keeps its health, its counters and the connections that are kept warm to it.
package lb
