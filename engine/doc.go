// Package engine moves bytes: event loops, connections, listeners, dialling and relaying. It knows no protocol above
// TCP, UDP and TLS.
//
// An [Engine] runs one [Loop] per CPU. Whatever is accepted or dialled on a loop stays on it: its connections, timers,
// buffers and pipes are touched by that loop's goroutine alone, so nothing here takes a lock. Other goroutines come
// to a loop with [Loop.Post]. [Engine.Pin] binds loops to CPUs, and gives each what its CPU receives: affinity_linux.go.
//
//	accept ──► Conn ──► Handler.Ready ──► Conn.Read … Conn.Write ──► Relay (copy or splice) ⇄ Conn ◄── Dial
//
// Readiness is edge-triggered and armed once, at registration. A [Conn] therefore remembers it: Readable and Writable
// stay true until a read or a write has met EAGAIN. Pausing a connection is not reading it; that costs no system call
// and lets the kernel's window stall the sender. Events bear the tag of their connection: a stale one, for a descriptor
// that was closed and reused within one batch, is passed over. Datagrams have their own sockets, level-triggered, with
// batches in and out: udp_linux.go.
//
// Bytes wait in pooled buffers, of the size that they need, and in pipes. A loop counts them against its share of
// Config.Memory, and [Loop.Short] says when what can be refused should be. Timeouts are kept by a coarse wheel,
// [Conn.SetTimeout]; what waits for milliseconds has a [Deadline].
package engine
