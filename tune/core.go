package tune

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/tune/host"
)

const (
	kernelNet     = "Linux Documentation/admin-guide/sysctl/net.rst"
	kernelIP      = "Linux Documentation/networking/ip-sysctl.rst"
	kernelScaling = "Linux Documentation/networking/scaling.rst"
	kernelTrack   = "Linux Documentation/networking/nf_conntrack-sysctl.rst"
	rhNet         = "Red Hat Enterprise Linux Network Performance Tuning Guide"
)

// coreKnobs are about what lies between the interfaces and the protocols, and about connection tracking.
var coreKnobs = []Knob{
	{
		Name: "net.core.somaxconn", Sets: "the most connections that wait in a listening socket's backlog to be accepted", Unit: "connections",
		Advice: "≥ 4096, or the largest backlog of a listener", Why: "a burst beyond it is dropped, and clients try again after a second",
		Source: []string{kernelIP, "listen(2)"}, Cost: "a loop that is late has more to catch up with", Sure: Certain, Weight: 9,
		check: atLeast(func(_ *host.Facts, e Edge) int64 { return int64(max(4096, e.Backlog)) }),
	},
	{
		Name: "net.core.netdev_max_backlog", Sets: "the packets that wait for each processor when they come by way of RPS, loopback or a veth", Unit: "packets",
		Advice: "≥ 1000; ≥ 5000 at 10 Gbit/s, ≥ 16384 at 25 Gbit/s and more", Why: "packets beyond it are dropped: the second column of /proc/net/softnet_stat",
		Source: []string{kernelNet, kernelScaling, rhNet}, Cost: "latency under overload", Sure: Likely, Weight: 4,
		check: atLeast(func(f *host.Facts, _ Edge) int64 {
			switch speed := fastest(f); {
			case speed >= 25_000:
				return 16384
			case speed >= 10_000:
				return 5000
			}
			return 1000
		}),
	},
	{
		Name: "net.core.netdev_budget", Sets: "the packets that one round of the receive softirq takes, of all interfaces", Unit: "packets",
		Advice: "300 to 2400; ≥ 600 at 25 Gbit/s and more", Why: "too small a budget leaves packets in the ring while the softirq starts over: softnet_stat's third column",
		Source: []string{kernelNet, rhNet}, Cost: "the loop on the same processor waits longer for its turn", Sure: Likely, Weight: 3,
		check: integer(func(n int64, f *host.Facts, _ Edge) (string, int64, bool) {
			least := int64(300)
			if fastest(f) >= 25_000 {
				least = 600
			}
			return fmt.Sprintf("%d to 2400", least), min(max(n, least), 2400), n >= least && n <= 2400
		}),
	},
	{
		Name: "net.core.netdev_budget_usecs", Sets: "the time that one round of the receive softirq may take", Unit: "µs",
		Advice: "2000 to 16000", Why: "a round ends by whichever bound comes first, this one or the budget",
		Source: []string{kernelNet}, Cost: "the loop on the same processor waits longer for its turn", Sure: Likely, Weight: 2,
		check: between(2000, 16000),
	},
	{
		Name: "net.core.dev_weight", Sets: "the packets that one interface may deliver before it is the next one's turn", Unit: "packets",
		Advice: "64 to 256", Why: "below 64 the cost of polling is not shared by enough packets", Source: []string{kernelNet}, Cost: "fairness between interfaces", Sure: Likely, Weight: 1,
		check: between(64, 256),
	},
	{
		Name: "net.core.rmem_max", Sets: "the largest receive buffer that a program may ask for", Unit: "bytes",
		Advice: "≥ 4 MiB with UDP listeners, else ≥ 208 KiB", Why: "datagrams that find the buffer full are lost: UdpRcvbufErrors. TCP's own buffers grow to tcp_rmem whatever this is",
		Source: []string{kernelNet, "udp(7)"}, Cost: "memory while a loop is late", Sure: Certain, Weight: 5,
		check: atLeast(bufferMax),
	},
	{
		Name: "net.core.wmem_max", Sets: "the largest send buffer that a program may ask for", Unit: "bytes",
		Advice: "≥ 4 MiB with UDP listeners, else ≥ 208 KiB", Why: "datagrams that find the buffer full are not sent",
		Source: []string{kernelNet, "udp(7)"}, Cost: "memory while the interface is busy", Sure: Likely, Weight: 4,
		check: atLeast(bufferMax),
	},
	{
		Name: "net.core.rmem_default", Sets: "the receive buffer of sockets that ask for none", Unit: "bytes",
		Advice: "208 KiB to 16 MiB", Why: "it bounds a burst of datagrams that a socket takes while nobody reads; a huge one hides latency",
		Source: []string{kernelNet}, Cost: "memory for each UDP socket that is not read", Sure: Likely, Weight: 2,
		check: when(noUDP, between(212992, 16<<20)),
	},
	{
		Name: "net.ipv4.udp_mem", Sets: "the pages that all UDP sockets together may hold: below, pressure, most", Unit: "pages of 4 KiB",
		Advice: "a most of ≥ 2 % of the memory", Why: "above it datagrams are dropped, of all sockets", Source: []string{kernelIP}, Cost: "that memory, under load", Sure: Likely, Weight: 3,
		check: when(noUDP, most(func(f *host.Facts, _ Edge) int64 { return f.Memory / 4096 / 50 })),
	},
	{
		Name: "net.core.default_qdisc", Sets: "the queueing discipline that interfaces get when they come up",
		Advice: "fq with BBR; else fq, fq_codel or pfifo_fast", Why: "BBR paces; fq does that with one timer for all flows, without it each socket has a timer of its own",
		Source: []string{kernelNet, "tc-fq(8)", "Cardwell et al., BBR, ACM Queue 14(5), 2016"}, Cost: "about 1 % CPU at millions of packets a second", Sure: Likely, Weight: 4,
		check: func(name string, f *host.Facts, _ Edge) []State {
			if paces(f) {
				return oneOf("fq")(name, f, Edge{})
			}
			return oneOf("fq", "fq_codel", "pfifo_fast", "cake", "mq")(name, f, Edge{})
		},
	},
	{
		Name: "net.core.busy_poll", Sets: "how long epoll and poll spin on the interface's queue before they sleep", Unit: "µs",
		Advice: "0 to 100", Why: "spinning takes the interrupt's latency away and the processor's time with it; beyond 100 µs it only burns",
		Source: []string{kernelNet, "Linux Documentation/networking/napi.rst"}, Cost: "a busy processor while idle", Sure: Depends, Weight: 2,
		check: between(0, 100),
	},
	{
		Name: "net.core.busy_read", Sets: "how long a blocking read spins on the interface's queue", Unit: "µs",
		Advice: "0 to 100", Why: "as busy_poll", Source: []string{kernelNet}, Cost: "a busy processor while idle", Sure: Depends, Weight: 1,
		check: between(0, 100),
	},
	{
		Name: "net.core.bpf_jit_enable", Sets: "whether BPF programs are compiled", Advice: "1",
		Why: "programs that steer connections to loops run for each connection, and seccomp's for each system call", Source: []string{kernelNet}, Cost: "none", Sure: Certain, Weight: 3,
		check: oneOf("1", "2"),
	},
	{
		Name: "net.core.optmem_max", Sets: "the memory for options and notifications of a socket", Unit: "bytes",
		Advice: "≥ 20 KiB", Why: "control messages of batched datagrams (UDP_SEGMENT, pktinfo) are charged to it", Source: []string{kernelNet}, Cost: "none", Sure: Likely, Weight: 1,
		check: when(noUDP, atLeast(constant(20480))),
	},
	{
		Name: "net.ipv4.conf.all.rp_filter", Sets: "whether packets are dropped whose answer would leave by another interface",
		Advice: "0 or 2 where more than one interface has addresses", Why: "strict filtering (1) drops what comes by ECMP, anycast or a second uplink, and nobody is told",
		Source: []string{kernelIP, "RFC 3704"}, Cost: "spoofed sources are to be stopped at the border", Sure: Certain, Weight: 6,
		check: when(func(f *host.Facts, _ Edge) string {
			if addressed(f) < 2 {
				return "one interface has addresses: every answer leaves by it"
			}
			return ""
		}, oneOf("2", "0")),
	},
	{
		Name: "net.ipv4.neigh.default.gc_thresh3", Sets: "the neighbours (ARP) that are remembered", Unit: "entries",
		Advice: "≥ 1024; ≥ 4096 where an interface's network is larger than a /22", Why: "with more of them on the link new ones are refused: \"neighbour: arp_cache: neighbor table overflow!\"",
		Source: []string{kernelIP}, Cost: "about 0.5 KiB each", Sure: Certain, Weight: 3,
		check: atLeast(func(f *host.Facts, _ Edge) int64 {
			if largeNetwork(f) {
				return 4096
			}
			return 1024
		}),
	},
	{
		Name: "net.netfilter.nf_conntrack_max", Sets: "the flows that connection tracking remembers", Unit: "flows",
		Advice: "four for each connection of the edge, and 16384", Why: "beyond it packets are dropped: \"nf_conntrack: table full\"",
		Source: []string{kernelTrack}, Cost: "about 320 bytes each", Sure: Certain, Weight: 8,
		check: when(noTracking, atLeast(trackedFlows)),
	},
	{
		Name: "net.netfilter.nf_conntrack_buckets", Sets: "the slots of connection tracking's hash table", Unit: "slots",
		Advice: "≥ a quarter of the flows that the edge may need", Why: "each packet walks its slot's chain", Source: []string{kernelTrack}, Cost: "8 bytes each", Sure: Likely, Weight: 3,
		check: when(noTracking, func(name string, f *host.Facts, e Edge) []State {
			// In a network namespace of its own it can be read and not set.
			return atLeast(func(f *host.Facts, e Edge) int64 { return trackedFlows(f, e) / 4 })(name, f, e)
		}),
	},
	{
		Name: "net.netfilter.nf_conntrack_tcp_timeout_established", Sets: "how long a silent connection is remembered", Unit: "s",
		Advice: "3600 to 86400", Why: "the default of five days fills the table with connections that are long gone", Source: []string{kernelTrack}, Cost: "a connection that is silent for longer is cut by a stateful rule", Sure: Likely, Weight: 3,
		check: when(noTracking, between(3600, 86400)),
	},
	{
		Name: "net.netfilter.nf_conntrack_tcp_timeout_time_wait", Sets: "how long a closed connection is remembered", Unit: "s",
		Advice: "10 to 120", Why: "short connections leave an entry each for that long", Source: []string{kernelTrack}, Cost: "none", Sure: Likely, Weight: 2,
		check: when(noTracking, between(10, 120)),
	},
	{
		Name: "conntrack.bypass", Sets: "whether the edge's connections are tracked at all",
		Advice: "fewer tracked flows than half the table", Why: "tracking costs 5 to 10 % of a short connection, and the edge does not need it: its ports can be told so in the raw table",
		Source: []string{"nft(8), notrack", "iptables-extensions(8), CT --notrack"}, Cost: "stateful rules no longer see these ports", Sure: Likely, Weight: 4,
		check: when(noTracking, func(_ string, f *host.Facts, e Edge) []State {
			count, most := f.Sysctl("net.netfilter.nf_conntrack_count"), f.Sysctl("net.netfilter.nf_conntrack_max")
			n, ok1 := count.Int()
			limit, ok2 := most.Int()
			if !ok1 || !ok2 {
				return unknown(count)
			}
			set := fmt.Sprintf("%d of %d", n, limit)
			if n*2 < limit {
				return good(set)
			}
			s := amiss(set, fmt.Sprintf("< %d", limit/2), nil)
			s[0].Do = "nft add table inet sluice; nft add chain inet sluice raw '{ type filter hook prerouting priority raw; }'; nft add rule inet sluice raw tcp dport { " + ports(e) + " } notrack, and the same for what is sent (hook output)"
			return s
		}),
	},
}

// paces says whether connections are paced, or will be when what tcp_congestion_control says is followed.
func paces(f *host.Facts) bool {
	switch f.Sysctl("net.ipv4.tcp_congestion_control").Text {
	case "bbr":
		return true
	case "", "dctcp":
		return false
	}
	return slices.Contains(strings.Fields(f.Sysctl("net.ipv4.tcp_available_congestion_control").Text), "bbr")
}

func bufferMax(_ *host.Facts, e Edge) int64 {
	if e.UDP {
		return 4 << 20
	}
	return 212992
}

func noUDP(_ *host.Facts, e Edge) string {
	if !e.UDP {
		return "no udp listener"
	}
	return ""
}

func noTracking(f *host.Facts, _ Edge) string {
	if !f.Has("proc/sys/net/netfilter/nf_conntrack_max") {
		return "connections are not tracked: nf_conntrack is not loaded"
	}
	return ""
}

func trackedFlows(_ *host.Facts, e Edge) int64 { return 16384 + 4*int64(e.Connections) }

// most wants the last of three numbers, in pages, to be so high; the others keep their proportion.
func most(least func(f *host.Facts, e Edge) int64) check {
	return func(name string, f *host.Facts, e Edge) []State {
		v := f.Sysctl(name)
		n, ok := v.Ints()
		if !v.Known() {
			return unknown(v)
		}
		if !ok || len(n) != 3 {
			return unseen(fmt.Sprintf("%q: three numbers are expected", v.Text))
		}
		set, want := strings.Join(strings.Fields(v.Text), " "), least(f, e)
		if n[2] >= want {
			return good(set)
		}
		return amiss(set, fmt.Sprintf("most ≥ %d (%s)", want, size(want<<12)), sysctlTo(name, fmt.Sprintf("%d %d %d", want/2, want/3*2, want)))
	}
}

// fastest is the speed of the fastest interface that is up, in Mbit/s; 0 if none is known.
func fastest(f *host.Facts) (speed int) {
	for _, n := range f.NICs {
		if n.Up {
			speed = max(speed, n.Speed)
		}
	}
	return speed
}

// addressed is how many interfaces that are up have an address of their own.
func addressed(f *host.Facts) (n int) {
	for _, nic := range f.NICs {
		if nic.Up && nic.Link != nil && len(routable(nic.Link)) > 0 {
			n++
		}
	}
	return n
}

// routable are the addresses that are not of the link only.
func routable(l *host.Link) (all []string) {
	for _, a := range l.Addresses {
		if !strings.HasPrefix(a, "fe80:") && !strings.HasPrefix(a, "169.254.") {
			all = append(all, a)
		}
	}
	return all
}

// largeNetwork says whether an IPv4 network on some interface has room for more than a thousand neighbours.
func largeNetwork(f *host.Facts) bool {
	for _, nic := range f.NICs {
		if nic.Link == nil {
			continue
		}
		for _, a := range routable(nic.Link) {
			address, bits, _ := strings.Cut(a, "/")
			if n, err := strconv.Atoi(bits); err == nil && n < 22 && strings.Contains(address, ".") {
				return true
			}
		}
	}
	return false
}

func ports(e Edge) string {
	if len(e.Ports) == 0 {
		return "PORTS"
	}
	return strings.ReplaceAll(host.FormatList(e.Ports), ",", ", ")
}
