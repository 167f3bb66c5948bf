package lb

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"sluice/engine"
)

// udpEdge is a cluster behind a udp listener.
type udpEdge struct {
	t        testing.TB
	engine   *engine.Engine
	listener *engine.PacketListener
	cluster  *Cluster
	proxy    *UDPProxy
	stats    *UDPStats
}

func newUDPEdge(t testing.TB, loops int, cfg UDPConfig, idle time.Duration, cluster Config) *udpEdge {
	t.Helper()
	e := newEngine(t, loops)
	stats := &UDPStats{Loops: make([]UDPCounters, loops)}
	c := newCluster(t, e, cluster)
	p := NewUDPProxy(cfg, c, idle, stats, quiet)
	ln, err := e.ListenPackets("127.0.0.1:0", p)
	must(t, err)
	return &udpEdge{t, e, ln, c, p, stats}
}

// total sums a counter over the loops.
func (e *udpEdge) total(of func(*UDPCounters) *engine.Counter) (n uint64) {
	for i := range e.stats.Loops {
		n += of(&e.stats.Loops[i]).Load()
	}
	return n
}

// flows waits until so many have begun and ended, and so many are in flight.
func (e *udpEdge) flows(begun, ended uint64) {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("%d flows have begun and %d ended", begun, ended), func() bool {
		inFlight := int64(0)
		for _, ep := range e.cluster.Endpoints() {
			inFlight += ep.InFlight()
		}
		return e.total(func(n *UDPCounters) *engine.Counter { return &n.Flows }) == begun &&
			e.total(func(n *UDPCounters) *engine.Counter { return &n.Ended }) == ended &&
			inFlight == int64(begun-ended) && e.engine.Open() == inFlight
	})
}

// is checks a counter's total.
func (e *udpEdge) is(name string, want uint64, of func(*UDPCounters) *engine.Counter) {
	e.t.Helper()
	if n := e.total(of); n != want {
		e.t.Errorf("%s: %d, want %d", name, n, want)
	}
}

// udpClient has an address of its own and hears the edge alone.
type udpClient struct {
	*net.UDPConn
	t testing.TB
}

func (e *udpEdge) client() *udpClient { return dialUDP(e.t, "", e.listener.Bound()) }

func dialUDP(t testing.TB, from, to string) *udpClient {
	t.Helper()
	var local *net.UDPAddr
	if from != "" {
		local = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
	}
	c, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &udpClient{c, t}
}

func (c *udpClient) say(what string) {
	c.t.Helper()
	_, err := c.Write([]byte(what))
	must(c.t, err)
}

// hears is the next answer.
func (c *udpClient) hears() string {
	c.t.Helper()
	must(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	must(c.t, err)
	return string(buf[:n])
}

func (c *udpClient) ask(what string) string {
	c.t.Helper()
	c.say(what)
	return c.hears()
}

// asks repeats a question until it is answered, as clients of datagrams do.
func (c *udpClient) asks(what string) string {
	c.t.Helper()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		c.say(what)
		must(c.t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		if n, err := c.Read(buf); err == nil {
			return string(buf[:n])
		}
	}
	c.t.Fatalf("%q is not answered", what)
	return ""
}

// talker is an endpoint that can be closed, and talk of itself.
type talker struct {
	*net.UDPConn
	done chan struct{}
}

// hearing is one that has hear called for what comes.
func hearing(t testing.TB, hear func(e *talker, from netip.AddrPort, what []byte)) *talker {
	t.Helper()
	return hearingAt(t, "127.0.0.1:0", hear)
}

func hearingAt(t testing.TB, address string, hear func(e *talker, from netip.AddrPort, what []byte)) *talker {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	must(t, err)
	e := &talker{c, make(chan struct{})}
	go func() {
		defer close(e.done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			hear(e, from, buf[:n])
		}
	}()
	t.Cleanup(e.Close)
	return e
}

// itself answers its address.
func itself(e *talker, from netip.AddrPort, _ []byte) { e.say(e.address(), from) }

func (e *talker) address() string { return e.LocalAddr().String() }

func (e *talker) say(what string, to netip.AddrPort) { _, _ = e.WriteToUDPAddrPort([]byte(what), to) }

func (e *talker) Close() {
	_ = e.UDPConn.Close()
	<-e.done
}

// answersUDP is an endpoint of which answer says what it answers to whom.
func answersUDP(t testing.TB, answer func(from netip.AddrPort, what string) []string) string {
	t.Helper()
	return hearing(t, func(e *talker, from netip.AddrPort, what []byte) {
		for _, a := range answer(from, string(what)) {
			e.say(a, from)
		}
	}).address()
}

// namedUDP is an endpoint that answers its name and what it was told.
func namedUDP(t testing.TB, name string) string {
	return answersUDP(t, func(_ netip.AddrPort, what string) []string { return []string{name + ": " + what} })
}

// knowing is an endpoint that answers the port by which it knows who asks.
func knowing(t testing.TB) string {
	return answersUDP(t, func(from netip.AddrPort, _ string) []string { return []string{fmt.Sprint(from.Port())} })
}

// deadUDP is an address that nobody is bound to.
func deadUDP(t testing.TB) string {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer c.Close()
	return c.LocalAddr().String()
}

// answersBytes is an endpoint that sends everything back, and allocates nothing.
func answersBytes(t testing.TB) string {
	t.Helper()
	return hearing(t, func(e *talker, from netip.AddrPort, what []byte) { _, _ = e.WriteToUDPAddrPort(what, from) }).address()
}
