package tune

import (
	"slices"
	"strings"

	"sluice/tune/host"
)

const kernelOffload = "Linux Documentation/networking/segmentation-offloads.rst"

// offloadKnobs are about what the interface, or the kernel at its edge, does for many packets at once.
var offloadKnobs = []Knob{
	{
		Name: "nic.gro", Sets: "whether segments of a flow are joined before the protocols see them",
		Advice: "on", Why: "the kernel's way costs by the packet, not by the byte: a bulk transfer costs several times more without it", Source: []string{kernelOffload, ethtool8}, Cost: "some µs, within one round of polling", Sure: Certain, Weight: 7,
		check: feature("rx-gro", true),
	},
	{
		Name: "nic.gso", Sets: "whether large sends are cut at the last moment",
		Advice: "on", Why: "as of nic.gro, in the other direction; UDP_SEGMENT needs it too", Source: []string{kernelOffload}, Cost: "none", Sure: Certain, Weight: 6,
		check: feature("tx-generic-segmentation", true),
	},
	{
		Name: "nic.tso", Sets: "whether the interface cuts large sends of TCP",
		Advice: "on", Why: "the processor handles one packet of 64 KiB in place of 45", Source: []string{kernelOffload}, Cost: "bursts at the line's rate; pacing (fq) spreads them", Sure: Certain, Weight: 7,
		check: feature("tx-tcp-segmentation", true),
	},
	{
		Name: "nic.tso6", Sets: "whether the interface cuts large sends of TCP over IPv6",
		Advice: "on", Why: "as of nic.tso", Source: []string{kernelOffload}, Cost: "as of nic.tso", Sure: Certain, Weight: 4,
		check: feature("tx-tcp6-segmentation", true),
	},
	{
		Name: "nic.lro", Sets: "whether the interface joins segments by itself, for good",
		Advice: "off where the edge or the host forwards", Why: "what LRO joins cannot be cut again as it was; GRO does the same and can", Source: []string{kernelOffload, kernelIP}, Cost: "some CPU at 100 Gbit/s", Sure: Likely, Weight: 4,
		check: when(func(_ *host.Facts, e Edge) string {
			if !e.Forwards {
				return "nothing is forwarded"
			}
			return ""
		}, feature("rx-lro", false)),
	},
	{
		Name: "nic.rx_checksum", Sets: "whether the interface checks the checksums of what comes in",
		Advice: "on", Why: "else the processor reads each byte once more, and GRO is off", Source: []string{"Linux Documentation/networking/checksum-offloads.rst"}, Cost: "none", Sure: Certain, Weight: 6,
		check: feature("rx-checksum", true),
	},
	{
		Name: "nic.tx_checksum", Sets: "whether the interface computes the checksums of what goes out",
		Advice: "on", Why: "without it scatter-gather, TSO and splice without a copy are off too", Source: []string{"Linux Documentation/networking/checksum-offloads.rst"}, Cost: "none", Sure: Certain, Weight: 6,
		check: links(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			// A driver has one for all protocols, or one for each.
			names := []string{"tx-checksum-ip-generic", "tx-checksum-ipv4"}
			var off string
			known := false
			for _, name := range names {
				on, fixed, has := n.Link.Feature(name)
				known = known || has
				if on {
					return good("on")
				}
				if has && !fixed {
					off = name
				}
			}
			switch {
			case !known:
				return untold(n, "features")
			case off == "":
				return moot("the driver " + n.Link.Driver + " cannot")
			}
			return amiss("off", "on", ethtoolTo(n.Name, "feature/"+off, "on"))
		}),
	},
	{
		Name: "nic.scatter_gather", Sets: "whether the interface takes a packet from several places in memory",
		Advice: "on", Why: "spliced pages are sent from where they are; without it each packet is copied together", Source: []string{kernelOffload}, Cost: "none", Sure: Certain, Weight: 6,
		check: feature("tx-scatter-gather", true),
	},
	{
		Name: "nic.udp_gro", Sets: "whether datagrams of a flow are joined on the way to another interface",
		Advice: "on with UDP listeners (Linux 5.12 and later)", Why: "a train of datagrams costs one way through the kernel; sockets of the edge take trains as well", Source: []string{kernelOffload, "udp(7), UDP_GRO"}, Cost: "none known", Sure: Depends, Weight: 1,
		check: when(noUDP, feature("rx-udp-gro-forwarding", true)),
	},
	{
		Name: "nic.ktls", Sets: "whether the interface encrypts TLS records",
		Advice: "on, where the edge leaves records to the kernel and the interface can", Why: "splice stays a splice under TLS, and the processor does not touch the bytes", Source: []string{"Linux Documentation/networking/tls-offload.rst"}, Cost: "connections that the interface has no room for are done in software", Sure: Depends, Weight: 3,
		check: when(noKTLS, feature("tls-hw-tx-offload", true)),
	},
	{
		Name: "net.ipv4.tcp_available_ulp", Sets: "what can be stacked on TCP: tls is kTLS",
		Advice: "tls among them, where the edge leaves records to the kernel", Why: "without the module setsockopt(TCP_ULP) fails, and records are encrypted in the process", Source: []string{"Linux Documentation/networking/tls.rst"}, Cost: "none", Sure: Certain, Weight: 4,
		check: when(noKTLS, func(name string, f *host.Facts, _ Edge) []State {
			v := f.Sysctl(name)
			switch {
			case !v.Known():
				return unknown(v)
			case slices.Contains(strings.Fields(v.Text), "tls"):
				return good(v.Text)
			}
			s := amiss(orWord(v.Text, "none"), "with tls", nil)
			s[0].Do = "modprobe tls, and a line tls in /etc/modules-load.d/sluice.conf"
			return s
		}),
	},
	{
		Name: "nic.xdp", Sets: "in which mode an XDP program on the interface runs",
		Advice: "none, native or offload", Why: "generic XDP runs after the packet's buffer is made, and linearises it: slower than no XDP", Source: []string{"Høiland-Jørgensen et al., The eXpress Data Path, CoNEXT 2018"}, Cost: "none", Sure: Certain, Weight: 4,
		check: links(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			if n.Link.XDP != "generic" {
				return good(orWord(n.Link.XDP, "none"))
			}
			s := amiss("generic", "none or native", nil)
			s[0].Do = "attach the program in native mode (ip link set " + n.Name + " xdpdrv …), or take it away"
			return s
		}),
	},
}

func noKTLS(_ *host.Facts, e Edge) string {
	if !e.KTLS {
		return "the edge encrypts by itself"
	}
	return ""
}

// feature wants a feature on or off.
func feature(name string, want bool) check {
	return links(func(n *host.NIC, _ *host.Facts, _ Edge) []State { return featureOf(n, name, want) })
}

// featureOf judges a feature of one interface; if the driver cannot change it, there is nothing to say.
func featureOf(n *host.NIC, name string, want bool) []State {
	word := map[bool]string{true: "on", false: "off"}
	on, fixed, known := n.Link.Feature(name)
	switch {
	case n.Link.Features == nil:
		return untold(n, "features")
	case !known:
		return moot("the kernel does not know " + name)
	case on == want:
		return good(word[on])
	case fixed:
		return moot("the driver " + n.Link.Driver + " cannot: " + name + " is " + word[on] + " for good")
	}
	return amiss(word[on], word[want], ethtoolTo(n.Name, "feature/"+name, word[want]))
}
