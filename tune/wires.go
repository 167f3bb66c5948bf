package tune

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/tune/host"
)

// linkKnobs are about an interface's link, its place on the bus, and what is lost there.
var linkKnobs = []Knob{
	{
		Name: "nic.mtu", Sets: "the largest packet", Unit: "bytes",
		Advice: "≥ 1500 (1400 in a virtual machine); with more, net.ipv4.tcp_mtu_probing", Why: "smaller packets cost by their number; larger ones than the path takes stall where ICMP is swallowed", Source: []string{"RFC 894", "RFC 2923", enaGuide}, Cost: "none", Sure: Likely, Weight: 4,
		check: nics(func(n *host.NIC, f *host.Facts, _ Edge) []State {
			least := 1500
			if n.Speed == 0 {
				least = 1400 // a virtual one, mostly within a tunnel
			}
			switch {
			case n.MTU == 0:
				return unseen("its MTU cannot be read")
			case n.MTU < least:
				return amiss(strconv.Itoa(n.MTU), fmt.Sprintf("≥ %d", least), linkTo(n.Name, "mtu", "1500"))
			case n.MTU > 1500 && f.Sysctl("net.ipv4.tcp_mtu_probing").Text == "0":
				return amiss(strconv.Itoa(n.MTU)+" without probing", "1500, or net.ipv4.tcp_mtu_probing 1", sysctlTo("net.ipv4.tcp_mtu_probing", "1"))
			}
			return good(strconv.Itoa(n.MTU))
		}),
	},
	{
		Name: "nic.duplex", Sets: "whether the link sends and receives at a time",
		Advice: "full", Why: "half duplex is a failed negotiation: collisions, and a fraction of the rate", Source: []string{ethtool8}, Cost: "none", Sure: Certain, Weight: 9,
		check: nics(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			switch n.Duplex {
			case "full":
				return good("full")
			case "half":
				s := amiss("half", "full", nil)
				s[0].Do = "let both ends negotiate (ethtool -s " + n.Name + " autoneg on), or change the cable"
				return s
			}
			return unseen("the driver does not tell")
		}),
	},
	{
		Name: "nic.speed", Sets: "the rate of the link", Unit: "Mbit/s",
		Advice: "≥ 1000", Why: "100 Mbit/s on a server is mostly a broken pair of the cable", Source: []string{ethtool8}, Cost: "none", Sure: Likely, Weight: 6,
		check: nics(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			if n.Speed == 0 {
				return unseen("the driver does not tell")
			}
			if n.Speed >= 1000 {
				return good(strconv.Itoa(n.Speed))
			}
			s := amiss(strconv.Itoa(n.Speed), "≥ 1000", nil)
			s[0].Do = "look at the cable, the switch's port, and what both advertise (ethtool " + n.Name + ")"
			return s
		}),
	},
	{
		Name: "nic.pcie", Sets: "the lanes and the speed at which the interface hangs on the bus",
		Advice: "as many and as fast as it can, unless the link is slow enough", Why: "in a narrow slot the bus is the bottleneck: eight lanes at 8 GT/s carry about 60 Gbit/s", Source: []string{mlxGuide, "Neugebauer et al., Understanding PCIe Performance for End Host Networking, SIGCOMM 2018"}, Cost: "another slot", Sure: Likely, Weight: 5,
		check: nics(pcie),
	},
	{
		Name: "nic.txqueuelen", Sets: "the packets that wait in the interface's qdisc", Unit: "packets",
		Advice: "500 to 20000", Why: "a short queue drops what one burst of a response sends; the limit is pfifo_fast's and what qdiscs begin with", Source: []string{"ip-link(8)"}, Cost: "latency, with qdiscs that do not watch it", Sure: Likely, Weight: 2,
		check: nics(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			if n.TxLen >= 500 && n.TxLen <= 20000 {
				return good(strconv.Itoa(n.TxLen))
			}
			return amiss(strconv.Itoa(n.TxLen), "500 to 20000", linkTo(n.Name, "txqlen", "1000"))
		}),
	},
	{
		Name: "nic.qdisc", Sets: "the queueing discipline of the interface",
		Advice: "fq, by itself or below mq, with BBR; else any but noqueue and shapers of one queue on an interface of several", Why: "see net.core.default_qdisc, which holds for interfaces that come up later; one queue with one lock does not scale", Source: []string{"tc-fq(8)", "tc-mq(8)"}, Cost: "none", Sure: Likely, Weight: 4,
		check: links(func(n *host.NIC, f *host.Facts, _ Edge) []State {
			if n.Link.Qdisc == "" {
				return untold(n, "qdisc")
			}
			set := n.Link.Qdisc
			if len(n.Link.Leaves) > 0 {
				set += " of " + strings.Join(n.Link.Leaves, ", ")
			}
			single := !slices.Contains([]string{"mq", "mqprio", "taprio", "noqueue"}, n.Link.Qdisc)
			has := func(kind string) bool {
				return n.Link.Qdisc == kind || len(n.Link.Leaves) == 1 && n.Link.Leaves[0] == kind
			}
			switch {
			case paces(f) && !has("fq"):
				if len(n.TxQ) > 1 {
					// An mq that is made anew has leaves of net.core.default_qdisc.
					s := amiss(set, "mq of fq", nil)
					s[0].Do = "with net.core.default_qdisc=fq: tc qdisc replace dev " + n.Name + " root handle 1: mq"
					return s
				}
				return amiss(set, "fq", linkTo(n.Name, "qdisc", "fq"))
			case single && len(n.TxQ) > 1:
				return amiss(set, "mq: a queue for each of "+strconv.Itoa(len(n.TxQ)), linkTo(n.Name, "qdisc", "mq"))
			case n.Link.Qdisc == "noqueue":
				return amiss(set, "fq or fq_codel", linkTo(n.Name, "qdisc", "fq"))
			}
			return good(set)
		}),
	},
	{
		Name: "nic.rx_missed", Sets: "the packets that found no descriptor in the ring, since the interface is up", Unit: "packets per million",
		Advice: "< 10 per million", Why: "each is a retransmission; see nic.rx_ring, nic.queues, nic.irq_affinity", Source: []string{"Linux Documentation/networking/statistics.rst"}, Cost: "none", Sure: Certain, Weight: 7,
		check: counters("rx_packets", 10, "lengthen the ring, and see that the queues' processors are not busy with other things", "rx_missed_errors", "rx_fifo_errors", "rx_over_errors"),
	},
	{
		Name: "nic.rx_errors", Sets: "the packets that came damaged", Unit: "packets per million",
		Advice: "< 1 per million", Why: "a cable, an optic or a port is failing; congestion control takes it for congestion", Source: []string{"Linux Documentation/networking/statistics.rst"}, Cost: "none", Sure: Certain, Weight: 6,
		check: counters("rx_packets", 1, "look at the cable, the optic and the switch's port", "rx_crc_errors", "rx_frame_errors", "rx_length_errors"),
	},
	{
		Name: "nic.rx_dropped", Sets: "the packets that were dropped on the way up: no memory, or nobody who wants them", Unit: "packets per million",
		Advice: "< 10000 per million", Why: "some are broadcasts of protocols that nobody speaks; many are losses", Source: []string{"Linux Documentation/networking/statistics.rst"}, Cost: "none", Sure: Depends, Weight: 2,
		check: counters("rx_packets", 10000, "find what they are: dropwatch, or perf record -e skb:kfree_skb", "rx_dropped"),
	},
	{
		Name: "nic.tx_errors", Sets: "the packets that could not be sent", Unit: "packets per million",
		Advice: "< 10 per million", Why: "the link flaps, or the driver resets the interface", Source: []string{"Linux Documentation/networking/statistics.rst"}, Cost: "none", Sure: Certain, Weight: 5,
		check: counters("tx_packets", 10, "look into the kernel's log for the interface", "tx_errors", "tx_dropped"),
	},
}

// counters judges the sum of some of an interface's counters beside its packets.
func counters(packets string, most float64, do string, names ...string) check {
	return nics(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
		all, ok := n.Count[packets]
		if !ok {
			return unseen("its statistics are not shown in /sys")
		}
		sum := uint64(0)
		for _, name := range names {
			sum += n.Count[name]
		}
		return share(float64(sum), float64(all), most, do)
	})
}

// pcie judges the slot by the rate of the link: what the bus can carry is about 0.8 of its raw rate.
func pcie(n *host.NIC, _ *host.Facts, _ Edge) []State {
	p := n.PCIe
	now, most := gigatransfers(p.Speed), gigatransfers(p.MaxSpeed)
	if p.Width == 0 || p.MaxWidth == 0 || now == 0 {
		return unseen("it is no PCIe device, or the hypervisor does not tell")
	}
	set := fmt.Sprintf("%d lanes at %g GT/s", p.Width, now)
	carries := float64(p.Width) * now * 0.8 * 1000
	if p.Width >= p.MaxWidth && now >= most || n.Speed > 0 && carries > float64(n.Speed) {
		return good(set)
	}
	s := amiss(set, fmt.Sprintf("%d lanes at %g GT/s", p.MaxWidth, most), nil)
	s[0].Do = "move the card to a slot of its width, of the processors' own lanes"
	return s
}

func gigatransfers(text string) float64 {
	number, _, _ := strings.Cut(text, " ")
	v, _ := strconv.ParseFloat(number, 64)
	return v
}
