package tune

import (
	"fmt"
	"slices"
	"strings"

	"sluice/tune/host"
)

// tcpKnobs are about the protocol's own machinery.
var tcpKnobs = []Knob{
	{
		Name: "net.ipv4.tcp_max_syn_backlog", Sets: "the handshakes under way that a listening socket remembers", Unit: "connections",
		Advice: "≥ 4096", Why: "beyond it handshakes are answered by cookies, or dropped", Source: []string{kernelIP, "Cloudflare, SYN packet handling in the wild, 2018"}, Cost: "about 300 bytes each", Sure: Certain, Weight: 7,
		check: atLeast(constant(4096)),
	},
	{
		Name: "net.ipv4.tcp_syncookies", Sets: "whether handshakes beyond the backlog are kept in the sequence number",
		Advice: "1", Why: "a flood of SYNs does not keep clients out. 2 (always) costs window scaling and SACK where timestamps are off", Source: []string{kernelIP, "RFC 4987"}, Cost: "none until there is a flood", Sure: Certain, Weight: 8,
		check: oneOf("1"),
	},
	{
		Name: "net.ipv4.tcp_synack_retries", Sets: "how often a SYN-ACK is sent again", Unit: "times",
		Advice: "2 to 5", Why: "each handshake without an end holds its place for a minute at 5", Source: []string{kernelIP}, Cost: "a client on a lossy path is given up sooner", Sure: Likely, Weight: 2,
		check: between(2, 5),
	},
	{
		Name: "net.ipv4.tcp_abort_on_overflow", Sets: "whether a full backlog resets clients",
		Advice: "0", Why: "clients whose SYN is dropped try again and mostly get in; a reset is final", Source: []string{kernelIP}, Cost: "none", Sure: Certain, Weight: 5,
		check: oneOf("0"),
	},
	{
		Name: "net.ipv4.tcp_migrate_req", Sets: "whether what waits in a closed listening socket's backlog moves to another one of the same port",
		Advice: "1 where each port has several sockets", Why: "with fewer loops after a restart, or a loop that ends, connections that nobody has accepted would be reset", Source: []string{kernelIP}, Cost: "none", Sure: Likely, Weight: 3,
		check: when(func(f *host.Facts, e Edge) string {
			switch {
			case e.Loops < 2:
				return "one loop: each port has one socket"
			case !f.KernelAtLeast(5, 14):
				return "the kernel is older than Linux 5.14"
			}
			return ""
		}, oneOf("1")),
	},
	{
		Name: "net.ipv4.tcp_fastopen", Sets: "whether data may come with the SYN: bit 0 as a client, bit 1 as a server",
		Advice: "with bit 1, where a listener has fast_open", Why: "the listener's option does nothing without it", Source: []string{kernelIP, "RFC 7413"}, Cost: "data of a SYN may arrive twice", Sure: Certain, Weight: 5,
		check: when(func(_ *host.Facts, e Edge) string {
			if !e.FastOpen {
				return "no listener has fast_open"
			}
			return ""
		}, integer(func(n int64, _ *host.Facts, _ Edge) (string, int64, bool) { return "with bit 1: 3", n | 2, n&2 != 0 })),
	},
	{
		Name: "net.ipv4.tcp_rmem", Sets: "the receive buffer of a TCP socket: least, at first, most", Unit: "bytes",
		Advice: "a most of ≥ the path's bandwidth times its delay (the interface's rate, 1 Gbit/s at most, times 50 ms); at first 16 KiB to 1 MiB",
		Why:    "a buffer below the product bounds an upload's rate; a large first size is taken by every connection", Source: []string{kernelIP, "RFC 7323, section 1.1"}, Cost: "memory of connections that are fast and far", Sure: Certain, Weight: 5,
		check: buffers,
	},
	{
		Name: "net.ipv4.tcp_wmem", Sets: "the send buffer of a TCP socket: least, at first, most", Unit: "bytes",
		Advice: "a most of ≥ the path's bandwidth times its delay, but no less than 4 MiB; at first 16 KiB to 1 MiB",
		Why:    "what is sent stays in the buffer until it is acknowledged: it bounds a download's rate", Source: []string{kernelIP, "RFC 7323, section 1.1"}, Cost: "memory of connections that are fast and far", Sure: Certain, Weight: 5,
		check: buffers,
	},
	{
		Name: "net.ipv4.tcp_mem", Sets: "the pages that all TCP sockets together may hold: below, pressure, most", Unit: "pages of 4 KiB",
		Advice: "a most of ≥ 32 KiB for each socket, up to a tenth of the memory", Why: "above it data is dropped and connections are reset: \"TCP: out of memory\"", Source: []string{kernelIP}, Cost: "that memory, under load", Sure: Certain, Weight: 7,
		check: most(func(f *host.Facts, e Edge) int64 {
			sockets := int64(e.Connections)
			if e.Forwards {
				sockets *= 2
			}
			// The kernel's own choice is 9.4 % of what is free at boot; a tenth of all would be a nuance more.
			return min(sockets*(32<<10), f.Memory/12) / 4096
		}),
	},
	{
		Name: "net.ipv4.tcp_moderate_rcvbuf", Sets: "whether receive buffers grow with the rate",
		Advice: "1", Why: "the edge leaves the sizes to the kernel", Source: []string{kernelIP}, Cost: "none", Sure: Certain, Weight: 6,
		check: oneOf("1"),
	},
	{
		Name: "net.ipv4.tcp_slow_start_after_idle", Sets: "whether a connection that was idle for a round trip starts slowly again",
		Advice: "0", Why: "keep-alive connections are idle between requests; each large response would begin with ten segments", Source: []string{kernelIP, "RFC 5681, section 4.1"}, Cost: "bursts after idleness; pacing (fq) spreads them", Sure: Certain, Weight: 6,
		check: oneOf("0"),
	},
	{
		Name: "net.ipv4.tcp_notsent_lowat", Sets: "the unsent bytes in a send buffer up to which a socket counts as writable", Unit: "bytes",
		Advice: "16 KiB to 512 KiB", Why: "what waits in the kernel cannot be overtaken, holds memory, and hides a slow client; default: no bound", Source: []string{kernelIP, "tcp(7)"}, Cost: "more wake-ups in large transfers", Sure: Likely, Weight: 4,
		check: integer(func(n int64, _ *host.Facts, _ Edge) (string, int64, bool) {
			return "16384 to 524288", 131072, n >= 16<<10 && n <= 512<<10
		}),
	},
	{
		Name: "net.ipv4.tcp_mtu_probing", Sets: "whether the path's MTU is found by trying",
		Advice: "1 (where a black hole shows) or 2", Why: "paths that swallow ICMP and large packets stall every transfer", Source: []string{kernelIP, "RFC 4821", "RFC 2923"}, Cost: "a probe now and then", Sure: Likely, Weight: 4,
		check: oneOf("1", "2"),
	},
	{
		Name: "net.ipv4.tcp_congestion_control", Sets: "how a sender finds its rate",
		Advice: "bbr where the kernel has it, else cubic", Why: "BBR keeps its rate at random loss and keeps queues short; which is better depends on the paths: prove it", Source: []string{"Cardwell et al., BBR, ACM Queue 14(5), 2016", kernelIP}, Cost: "version 1 is unfair to cubic in shallow buffers; more CPU for pacing", Sure: Depends, Weight: 4,
		check: func(name string, f *host.Facts, _ Edge) []State {
			v, has := f.Sysctl(name), f.Sysctl("net.ipv4.tcp_available_congestion_control")
			switch {
			case !v.Known():
				return unknown(v)
			case v.Text == "bbr" || v.Text == "dctcp":
				return good(v.Text)
			case slices.Contains(strings.Fields(has.Text), "bbr"):
				return amiss(v.Text, "bbr", sysctlTo(name, "bbr"))
			case v.Text == "cubic":
				return good(v.Text + " (bbr is not loaded: modprobe tcp_bbr)")
			}
			return amiss(v.Text, "cubic or bbr", sysctlTo(name, "cubic"))
		},
	},
	{
		Name: "net.ipv4.tcp_timestamps", Sets: "whether segments carry a time (RFC 7323)",
		Advice: "1", Why: "round trips are measured by them, old segments are told from new ones, and tcp_tw_reuse needs them", Source: []string{kernelIP, "RFC 7323"}, Cost: "12 bytes a segment", Sure: Certain, Weight: 6,
		check: oneOf("1"),
	},
	{
		Name: "net.ipv4.tcp_sack", Sets: "whether holes in what was received are told (RFC 2018)",
		Advice: "1", Why: "without it each loss in a window takes a round trip of its own", Source: []string{kernelIP, "RFC 2018"}, Cost: "none", Sure: Certain, Weight: 7,
		check: oneOf("1"),
	},
	{
		Name: "net.ipv4.tcp_window_scaling", Sets: "whether windows may be larger than 64 KiB",
		Advice: "1", Why: "64 KiB at 50 ms are 10 Mbit/s", Source: []string{kernelIP, "RFC 7323"}, Cost: "none", Sure: Certain, Weight: 8,
		check: oneOf("1"),
	},
	{
		Name: "net.ipv4.tcp_autocorking", Sets: "whether small writes wait while an earlier packet is in the interface's queue",
		Advice: "1", Why: "fewer and larger packets where a response comes in pieces", Source: []string{kernelIP}, Cost: "some µs, only while the queue is busy", Sure: Likely, Weight: 1,
		check: oneOf("1"),
	},
	{
		Name: "net.ipv4.tcp_early_demux", Sets: "whether a packet finds its socket before its route",
		Advice: "1", Why: "for connections that end here one lookup serves for both; the default", Source: []string{kernelIP, kernelScaling}, Cost: "a lookup in vain for packets that are only routed", Sure: Likely, Weight: 2,
		check: oneOf("1"),
	},
	{
		Name: "net.ipv4.tcp_recovery", Sets: "how losses are found: bit 0 is RACK",
		Advice: "with bit 0", Why: "RACK finds the loss of a retransmission and of a tail without a timeout", Source: []string{kernelIP, "RFC 8985"}, Cost: "none", Sure: Certain, Weight: 3,
		check: integer(func(n int64, _ *host.Facts, _ Edge) (string, int64, bool) { return "with bit 0: 1", n | 1, n&1 != 0 }),
	},
	{
		Name: "net.ipv4.tcp_ecn", Sets: "whether congestion may be marked in place of dropping: 1 asks for it, 2 agrees to it",
		Advice: "1 or 2", Why: "a mark costs no retransmission", Source: []string{kernelIP, "RFC 3168"}, Cost: "none", Sure: Likely, Weight: 1,
		check: oneOf("2", "1", "3", "4", "5"),
	},
	{
		Name: "net.ipv4.tcp_retries2", Sets: "how often data is sent again before the connection is given up", Unit: "times",
		Advice: "8 to 15", Why: "8 is RFC 1122's least of 100 s; 15 (the default) is 15 minutes and more", Source: []string{kernelIP, "RFC 1122, section 4.2.3.5"}, Cost: "none", Sure: Likely, Weight: 1,
		check: between(8, 15),
	},
}

// bandwidthDelay is what is under way on one connection of 1 Gbit/s at most, or of the interface's rate, over 50 ms: a
// client on the same continent. In bytes.
func bandwidthDelay(f *host.Facts) int64 {
	mbits := int64(min(1000, fastest(f)))
	if mbits == 0 {
		mbits = 1000
	}
	return mbits * 1_000_000 / 8 / 20
}

// buffers judges tcp_rmem and tcp_wmem.
func buffers(name string, f *host.Facts, _ Edge) []State {
	v := f.Sysctl(name)
	n, ok := v.Ints()
	if !v.Known() {
		return unknown(v)
	}
	if !ok || len(n) != 3 {
		return unseen(fmt.Sprintf("%q: three sizes are expected", v.Text))
	}
	want := bandwidthDelay(f)
	if name == "net.ipv4.tcp_wmem" {
		want = max(want, 4<<20)
	}
	first := min(max(n[1], 16<<10), 1<<20)
	set := strings.Join(strings.Fields(v.Text), " ")
	if n[2] >= want && n[1] == first {
		return good(set)
	}
	wanted := fmt.Sprintf("most ≥ %d", want)
	if n[1] != first {
		wanted += ", at first 16384 to 1048576"
	}
	return amiss(set, wanted, sysctlTo(name, fmt.Sprintf("%d %d %d", n[0], first, max(n[2], want))))
}
