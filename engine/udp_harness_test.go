package engine

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetProxy gives each client a connection to an endpoint, and its answers back.
type packetProxy struct {
	*PacketListener
	engine  *Engine
	to      []Addr // the next one for a flow that is refused
	flows   []map[Path]*packetFlow
	copies  int // of each answer
	lost    atomic.Int64
	refused atomic.Int64
	drained atomic.Int64
	trains  atomic.Int64 // that came whole from clients
	answers atomic.Int64 // or from endpoints
}

type packetFlow struct {
	PacketConn
	p    *packetProxy
	s    *PacketSocket
	path Path
	at   int
}

func newPacketProxy(t testing.TB, loops int, address string, to ...string) *packetProxy {
	t.Helper()
	e := newEngine(t, Config{Loops: loops})
	p := &packetProxy{engine: e, copies: 1}
	for range loops {
		p.flows = append(p.flows, map[Path]*packetFlow{})
	}
	for _, a := range to {
		p.to = append(p.to, NewAddr(netip.MustParseAddrPort(a)))
	}
	ln, err := e.ListenPackets(address, p)
	must(t, err)
	p.PacketListener = ln
	return p
}

func (p *packetProxy) Datagram(s *PacketSocket, from *Path, b []byte, segment int) {
	flows := p.flows[s.Loop().ID()]
	f := flows[*from]
	if f == nil {
		f = &packetFlow{p: p, s: s, path: *from}
		if err := f.Connect(s.Loop(), &p.to[0], f); err != nil {
			panic(err)
		}
		flows[*from] = f
	}
	if segment > 0 {
		p.trains.Add(1)
	}
	f.Queue(b, segment)
}

func (p *packetProxy) Lost(_ *PacketSocket, n int) { p.lost.Add(int64(n)) }

func (p *packetProxy) Draining(s *PacketSocket) {
	p.drained.Add(1)
	for _, f := range p.flows[s.Loop().ID()] {
		f.Close()
	}
	s.Close()
}

func (f *packetFlow) Received(b []byte, segment int) {
	if segment > 0 {
		f.p.answers.Add(1)
	}
	for range f.p.copies {
		f.s.Reply(&f.path, b, segment)
	}
}

func (f *packetFlow) Lost(n int) { f.p.lost.Add(int64(n)) }

func (f *packetFlow) Refused(unix.Errno) {
	f.p.refused.Add(1)
	if f.at++; f.at == len(f.p.to) || f.Connect(f.s.Loop(), &f.p.to[f.at], f) != nil {
		f.p.lost.Add(int64(f.Queued()))
		f.Close()
		delete(f.p.flows[f.s.Loop().ID()], f.path)
	}
}

// flow is the proxy's only one.
func (p *packetProxy) flow(t testing.TB) (f *packetFlow) {
	t.Helper()
	for i, l := range p.engine.Loops() {
		on(l, func() {
			for _, x := range p.flows[i] {
				f = x
			}
		})
	}
	if f == nil {
		t.Fatal("there is no flow")
	}
	return f
}

// datagrams is a socket of the test's.
type datagrams struct {
	*net.UDPConn
	t testing.TB
}

func bindUDP(t testing.TB, address string) *datagrams {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	must(t, err)
	return newDatagrams(t, c)
}

func newDatagrams(t testing.TB, c *net.UDPConn) *datagrams {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	must(t, c.SetReadBuffer(4<<20))
	return &datagrams{c, t}
}

// dialUDP is a client: it hears only the address that it asks.
func dialUDP(t testing.TB, address string) *datagrams {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(context.Background(), "udp", address)
	must(t, err)
	return newDatagrams(t, c.(*net.UDPConn))
}

// control runs f on the descriptor.
func (d *datagrams) control(f func(fd int) error) {
	d.t.Helper()
	raw, err := d.SyscallConn()
	must(d.t, err)
	var inner error
	must(d.t, raw.Control(func(fd uintptr) { inner = f(int(fd)) }))
	must(d.t, inner)
}

// wholeTrains has the socket be handed what was sent as one as one.
func (d *datagrams) wholeTrains() {
	d.t.Helper()
	d.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
}

// train sends p as datagrams of a size, in one system call, to an address or, if it is the zero value, to whom the
// socket is connected.
func (d *datagrams) train(p []byte, size int, to netip.AddrPort) {
	d.t.Helper()
	var c control
	n := segmented(&c, 0, size)
	oob := unsafe.Slice((*byte)(unsafe.Pointer(&c)), n)
	_, _, err := d.WriteMsgUDPAddrPort(p, oob, to)
	must(d.t, err)
}

// next is what has come, and of what size its datagrams are; 0: it is one.
func (d *datagrams) next() (p []byte, size int, from netip.AddrPort) {
	d.t.Helper()
	buf, oob := make([]byte, slotSize), make([]byte, 64)
	n, k, _, from, err := d.ReadMsgUDPAddrPort(buf, oob)
	if err != nil {
		d.t.Fatalf("nothing has come: %v", err)
	}
	var path Path
	return buf[:n], path.from(&sockaddr{}, oob[:k]), from
}

// say sends a datagram to whom the socket is connected.
func (d *datagrams) say(p []byte) {
	d.t.Helper()
	_, err := d.Write(p)
	must(d.t, err)
}

// hears checks what comes next.
func (d *datagrams) hears(want []byte) {
	d.t.Helper()
	if p, size, _ := d.next(); !bytes.Equal(p, want) || size != 0 {
		d.t.Fatalf("%s came, want %s", brief(p), brief(want))
	}
}

func brief(p []byte) string {
	if len(p) > 40 {
		return string(p[:40]) + "… (" + time.Duration(len(p)).String() + ")"
	}
	return string(p)
}

// echoUDP sends everything back until the test's end.
func echoUDP(t testing.TB, address string) string {
	t.Helper()
	d := bindUDP(t, address)
	must(t, d.SetDeadline(time.Time{}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, slotSize)
		for {
			n, from, err := d.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = d.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	t.Cleanup(func() { d.Close(); <-done })
	return d.LocalAddr().String()
}

// held stops a loop until release, so that what is sent meanwhile is one batch.
func held(l *Loop) (release func()) {
	stopped, goOn := make(chan struct{}), make(chan struct{})
	l.Post(func() { close(stopped); <-goOn })
	<-stopped
	return func() { close(goOn) }
}

// pattern is n bytes that tell their place.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}
