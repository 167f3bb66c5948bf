package tune

import (
	"fmt"
	"strconv"

	"sluice/tune/host"
)

const (
	ethtool8   = "ethtool(8)"
	mlxGuide   = "NVIDIA, Performance Tuning for Mellanox Adapters"
	enaGuide   = "AWS, ENA Linux Driver Best Practices and Performance Optimization Guide"
	amdGuide   = "AMD, Linux Network Tuning Guide for EPYC Processors"
	intelNIC   = "Intel, Ethernet 800 Series Linux Performance Tuning Guide"
	lowLatency = "Majkowski, How to achieve low latency with 10Gbps Ethernet, Cloudflare 2015"
)

// queueKnobs are about an interface's queues and interrupts.
var queueKnobs = []Knob{
	{
		Name: "nic.driver", Sets: "the driver of the interface",
		Advice: "one with several queues and offloads", Why: "an emulated card of the nineties costs a trip to the hypervisor for each packet", Source: []string{"KVM, Tuning KVM", enaGuide}, Cost: "another device of the virtual machine", Sure: Certain, Weight: 8,
		check: links(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			switch d := n.Link.Driver; d {
			case "":
				return untold(n, "driver")
			case "e1000", "8139cp", "8139too", "ne2k-pci", "pcnet32", "vmxnet", "tulip":
				s := amiss(d, "virtio_net, vmxnet3 or ena: several queues", nil)
				s[0].Do = "give the virtual machine a paravirtual network device"
				return s
			default:
				return good(d)
			}
		}),
	},
	{
		Name: "nic.queues", Sets: "the queues that packets arrive in", Unit: "queues",
		Advice: "one for each loop, as far as the interface has them; no more than processors", Why: "a queue is one processor's work; with fewer than loops some loops' packets are all handled elsewhere", Source: []string{kernelScaling, ethtool8}, Cost: "an interrupt and a ring each", Sure: Certain, Weight: 8,
		check: links(func(n *host.NIC, f *host.Facts, e Edge) []State {
			c := n.Link.Channels
			if c == nil {
				return untold(n, "channels")
			}
			has, want := c.Receive(), min(e.Loops, c.MaxReceive())
			if has >= want && (len(f.CPUs) == 0 || has <= len(f.CPUs)) {
				return good(strconv.Itoa(has))
			}
			name := "combined"
			if c.MaxCombined == 0 {
				name = "rx-queues"
			}
			if has > want {
				return amiss(strconv.Itoa(has), fmt.Sprintf("≤ %d, the processors", len(f.CPUs)), ethtoolTo(n.Name, name, strconv.Itoa(min(len(f.CPUs), has))))
			}
			return amiss(strconv.Itoa(has), fmt.Sprintf("≥ %d", want), ethtoolTo(n.Name, name, strconv.Itoa(want)))
		}),
	},
	{
		Name: "nic.rx_ring", Sets: "the descriptors of each receive queue", Unit: "packets",
		Advice: "≥ 1024 (≥ 2048 at 25 Gbit/s and more), as far as the interface goes", Why: "what arrives while the processor is elsewhere waits here, and is lost beyond it: rx_missed_errors. 512 packets of 1500 bytes are 250 µs at 25 Gbit/s", Source: []string{ethtool8, rhNet, mlxGuide}, Cost: "memory of some MiB a queue; a larger footprint in the cache", Sure: Likely, Weight: 6,
		check: rings("rx-ring", func(r *host.Rings) (int, int) { return r.Rx, r.MaxRx }),
	},
	{
		Name: "nic.tx_ring", Sets: "the descriptors of each transmit queue", Unit: "packets",
		Advice: "as of nic.rx_ring", Why: "a full ring stops the queue, and the sender waits in the qdisc", Source: []string{ethtool8, rhNet}, Cost: "memory; latency where there are no byte queue limits", Sure: Likely, Weight: 3,
		check: rings("tx-ring", func(r *host.Rings) (int, int) { return r.Tx, r.MaxTx }),
	},
	{
		Name: "nic.coalesce_rx", Sets: "how long a receive interrupt waits for more packets",
		Advice: "adaptive, or 1 to 100 µs", Why: "an interrupt for each packet takes the processor away from the loops; more than 100 µs is latency that a client feels", Source: []string{ethtool8, mlxGuide, enaGuide, lowLatency}, Cost: "latency of up to the time set", Sure: Likely, Weight: 5,
		check: coalesce("rx", func(c *host.Coalesce) (bool, int, int) { return c.AdaptiveRx, c.RxUsecs, c.RxFrames }),
	},
	{
		Name: "nic.coalesce_tx", Sets: "how long the interrupt for packets sent waits for more of them",
		Advice: "adaptive, or 1 to 250 µs", Why: "as of nic.coalesce_rx; nobody waits for it but the socket's buffer", Source: []string{ethtool8}, Cost: "memory is given back later", Sure: Likely, Weight: 2,
		check: coalesce("tx", func(c *host.Coalesce) (bool, int, int) { return c.AdaptiveTx, c.TxUsecs, c.TxFrames }),
	},
	{
		Name: "nic.softnet_dropped", Sets: "the packets that were dropped since boot because a processor's backlog was full", Unit: "packets per million",
		Advice: "< 10 per million", Why: "each is a retransmission; see net.core.netdev_max_backlog, nic.rps, nic.irq_affinity", Source: []string{kernelNet, rhNet}, Cost: "none", Sure: Certain, Weight: 6,
		check: softnet(1, 10, "raise net.core.netdev_max_backlog, and see that no processor has the packets of all"),
	},
	{
		Name: "nic.softnet_squeezed", Sets: "the rounds of the receive softirq that ended by the budget with work left, since boot", Unit: "rounds per million packets",
		Advice: "< 1000 per million", Why: "the processor has more packets than it can take; see net.core.netdev_budget, nic.queues", Source: []string{kernelNet, rhNet}, Cost: "none", Sure: Likely, Weight: 3,
		check: softnet(2, 1000, "raise net.core.netdev_budget, or spread packets over more queues"),
	},
}

// rings wants a ring to be long enough, as far as the interface goes.
func rings(name string, of func(*host.Rings) (set, most int)) check {
	return links(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
		r := n.Link.Rings
		if r == nil {
			return untold(n, "rings")
		}
		set, most := of(r)
		want := 1024
		if n.Speed >= 25_000 {
			want = 2048
		}
		if want = min(want, most); set >= want {
			return good(strconv.Itoa(set))
		}
		return amiss(strconv.Itoa(set), fmt.Sprintf("≥ %d (of %d)", want, most), ethtoolTo(n.Name, name, strconv.Itoa(want)))
	})
}

// coalesce wants interrupts to wait, and not too long. Interfaces of which neither can be set have all at zero, or one
// frame: they know no waiting.
func coalesce(direction string, of func(*host.Coalesce) (adaptive bool, usecs, frames int)) check {
	most := 100
	if direction == "tx" {
		most = 250
	}
	return links(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
		c := n.Link.Coalesce
		if c == nil {
			return untold(n, "coalesce")
		}
		adaptive, usecs, frames := of(c)
		switch {
		case adaptive:
			return good("adaptive")
		case n.Link.Driver == "virtio_net" && usecs == 0:
			return moot("the hypervisor decides when virtio_net interrupts")
		case usecs >= 1 && usecs <= most || usecs == 0 && frames > 1 && frames <= 64:
			return good(fmt.Sprintf("%d µs, %d frames", usecs, frames))
		}
		fix := 16
		if direction == "tx" {
			fix = 64
		}
		return amiss(fmt.Sprintf("%d µs, %d frames", usecs, frames), fmt.Sprintf("adaptive, or 1 to %d µs", most),
			ethtoolTo(n.Name, direction+"-usecs", strconv.Itoa(fix)))
	})
}
