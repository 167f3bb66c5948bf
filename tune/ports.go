package tune

import (
	"fmt"
	"slices"

	"sluice/tune/change"
	"sluice/tune/host"
)

// portKnobs are about the ports that upstream connections leave from, and how soon they can be used again.
var portKnobs = []Knob{
	{
		Name: "net.ipv4.ip_local_port_range", Sets: "the ports that connections to endpoints leave from: first and last", Unit: "ports",
		Advice: "≥ 50000 of them, from 1024 on", Why: "to one endpoint there are no more connections at a time than ports, closed ones in TIME_WAIT among them; beyond that connect fails with EADDRNOTAVAIL, and before that it searches long",
		Source: []string{kernelIP, "ip(7), IP_BIND_ADDRESS_NO_PORT"}, Cost: "local services with fixed ports in the range need net.ipv4.ip_local_reserved_ports", Sure: Certain, Weight: 8,
		check: when(forwardsNot, func(name string, f *host.Facts, e Edge) []State {
			first, last, state := portRange(f)
			if state != nil {
				return state
			}
			set := fmt.Sprintf("%d %d", first, last)
			if last-first+1 >= 50000 {
				return good(set)
			}
			fix := sysctlTo(name, "10240 65535")
			if reserve := listeningIn(e, 10240, 65535); len(reserve) > 0 {
				fix = append(fix, setting(change.Sysctl, "net.ipv4.ip_local_reserved_ports", reserved(f, reserve)))
			}
			return amiss(set, "≥ 50000 ports", fix)
		}),
	},
	{
		Name: "net.ipv4.ip_local_reserved_ports", Sets: "ports of the range that connections do not leave from", Unit: "ports",
		Advice: "the edge's own ports that are in the range", Why: "a connection to an endpoint may hold the port of a listener when the edge starts again: EADDRINUSE",
		Source: []string{kernelIP}, Cost: "none", Sure: Certain, Weight: 4,
		check: when(forwardsNot, func(name string, f *host.Facts, e Edge) []State {
			v := f.Sysctl(name)
			if !v.Known() {
				return unknown(v)
			}
			first, last, state := portRange(f)
			if state != nil {
				return state
			}
			has, _ := host.ParseList(v.Text)
			missing := slices.DeleteFunc(listeningIn(e, first, last), func(port int) bool { return slices.Contains(has, port) })
			if len(missing) == 0 {
				return good(orWord(v.Text, "none"))
			}
			return amiss(orWord(v.Text, "none"), "with "+host.FormatList(missing), sysctlTo(name, reserved(f, missing)))
		}),
	},
	{
		Name: "net.ipv4.tcp_tw_reuse", Sets: "whether a port in TIME_WAIT may be used for a new connection out, after a second",
		Advice: "1 where the edge connects to endpoints over the network (2, the default, is for loopback only)", Why: "without it a port is lost for 60 s after each connection that the edge closes first",
		Source: []string{kernelIP, "RFC 6191", "Bernat, Coping with the TCP TIME-WAIT state on busy Linux servers, 2014"}, Cost: "needs timestamps, at both ends", Sure: Certain, Weight: 6,
		check: when(forwardsNot, oneOf("1")),
	},
	{
		Name: "net.ipv4.tcp_max_tw_buckets", Sets: "the connections in TIME_WAIT that are remembered", Unit: "connections",
		Advice: "≥ 65536", Why: "beyond it they are forgotten at once, and late segments of them meet new connections", Source: []string{kernelIP, "RFC 1337"}, Cost: "about 250 bytes each", Sure: Certain, Weight: 4,
		check: atLeast(constant(65536)),
	},
	{
		Name: "net.ipv4.tcp_fin_timeout", Sets: "how long a connection waits for the peer's FIN after the edge has closed it", Unit: "s",
		Advice: "10 to 30", Why: "peers that are gone hold a socket that long", Source: []string{kernelIP}, Cost: "a peer that takes longer to finish is reset", Sure: Likely, Weight: 3,
		check: between(10, 30),
	},
	{
		Name: "net.ipv4.tcp_max_orphans", Sets: "the closed connections whose last bytes the kernel still sends", Unit: "connections",
		Advice: "≥ 16384, or the connections of the edge if there is memory for them (64 KiB each, of a quarter)", Why: "beyond it they are reset, and the end of a response is lost", Source: []string{kernelIP}, Cost: "up to 64 KiB each", Sure: Likely, Weight: 4,
		check: atLeast(func(f *host.Facts, e Edge) int64 {
			return min(max(16384, int64(e.Connections)), max(f.Memory/4>>16, 4096))
		}),
	},
}

func forwardsNot(_ *host.Facts, e Edge) string {
	if !e.Forwards {
		return "the edge connects to no endpoint over the network"
	}
	return ""
}

// portRange is where connections leave from; the state says why it is not known.
func portRange(f *host.Facts) (first, last int, state []State) {
	v := f.Sysctl("net.ipv4.ip_local_port_range")
	n, ok := v.Ints()
	if !v.Known() {
		return 0, 0, unknown(v)
	}
	if !ok || len(n) != 2 {
		return 0, 0, unseen(fmt.Sprintf("%q: two ports are expected", v.Text))
	}
	return int(n[0]), int(n[1]), nil
}

// listeningIn are the edge's ports from first to last.
func listeningIn(e Edge, first, last int) (all []int) {
	for _, port := range e.Ports {
		if port >= first && port <= last {
			all = append(all, port)
		}
	}
	return all
}

// reserved is the list of ports that are reserved and are to be.
func reserved(f *host.Facts, more []int) string {
	has, _ := host.ParseList(f.Sysctl("net.ipv4.ip_local_reserved_ports").Text)
	return host.FormatList(append(has, more...))
}

func orWord(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
