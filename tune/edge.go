package tune

import (
	"math"

	"sluice/tune/host"
)

// Edge is what the edge on the host is for, as far as the host matters to it. The zero value is an edge for TCP about which
// nothing else is known: Fill says what is then taken for granted.
type Edge struct {
	Loops       int   // event loops; 0: one for each processor that the process may use
	Connections int   // downstream connections at a time; 0: one for each 128 KiB of memory, 1024 to 100,000
	MemoryBytes int64 // what the process may have; 0: what the cgroup or the machine has

	Listeners int   // listening addresses; each loop has a socket for each
	Ports     []int // on which they listen
	Backlog   int   // the largest that a listener asks for; 0: as the kernel allows

	TCP      bool // some listener relays TCP: bytes are spliced through pipes
	HTTP     bool // some listener is a gateway
	UDP      bool // some listener relays datagrams
	Forwards bool // what comes in goes out again, to endpoints over the network
	FastOpen bool // some listener has fast_open
	KTLS     bool // TLS records are left to the kernel

	// Env is what of the process's environment matters: GOMAXPROCS, GOGC, GOMEMLIMIT.
	Env map[string]string
}

// Fill is e with its zero values replaced by what follows from the host.
func (e Edge) Fill(f *host.Facts) Edge {
	if e.Loops == 0 {
		e.Loops = max(1, usable(f))
	}
	if e.MemoryBytes == 0 {
		e.MemoryBytes = f.Memory
		if limit := f.Cgroup.Memory; limit > 0 && (limit < f.Memory || f.Memory == 0) {
			e.MemoryBytes = limit
		}
	}
	if e.Connections == 0 {
		e.Connections = int(min(max(e.MemoryBytes>>17, 1024), 100_000))
	}
	if e.Listeners == 0 {
		e.Listeners = 1
	}
	if !e.TCP && !e.HTTP && !e.UDP {
		e.TCP, e.Forwards = true, true
	}
	return e
}

// usable is how many processors the process may keep busy, by its affinity and its quota.
func usable(f *host.Facts) int {
	n := len(f.Allowed)
	if quota := f.Cgroup.CPU; quota > 0 {
		n = min(n, int(math.Ceil(quota)))
	}
	return n
}

// descriptors is how many files the edge has open at its fullest: a connection downstream and one upstream, 32 pipes (two
// ends each) kept by a loop and one for each relay in bulk, the listening sockets, and what the process itself has.
func (e Edge) descriptors() int64 {
	each := 1
	if e.Forwards {
		each = 2
	}
	return int64(e.Connections)*int64(each) + int64(e.Connections)/8 + int64(e.Loops)*(64+int64(e.Listeners)) + 256
}
