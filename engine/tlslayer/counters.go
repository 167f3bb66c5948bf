package tlslayer

import "sync/atomic"

// Counters are a Handshaker's totals. Safe from any goroutine.
type Counters struct {
	Server, Client Totals
	// UnderWay handshakes have begun and neither succeeded nor failed; Queued ones of them wait to begin computing.
	UnderWay, Queued atomic.Int64
}

// Totals are those of one side.
type Totals struct {
	TLS12, TLS13 atomic.Uint64 // handshakes done, by version
	Resumed      atomic.Uint64 // of them
	failed       [kinds]atomic.Uint64
}

// Failed is how many handshakes have failed for the reason k.
func (t *Totals) Failed(k Kind) uint64 { return t.failed[k].Load() }
