package engine

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing is too short, and nothing too long.
func TestDatagramsOfEverySizeThereAndBack(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		p := newPacketProxy(t, 1, address, echoUDP(t, address))
		c := dialUDP(t, p.Bound())
		for _, n := range []int{0, 1, 64, 1472, 1473, 9000, 65507} {
			c.say(pattern(n))
			c.hears(pattern(n))
		}
		if p.lost.Load() != 0 {
			t.Errorf("%s: %d lost", address, p.lost.Load())
		}
	}
}

func TestClientsOfAllLoopsAreToldApart(t *testing.T) {
	p := newPacketProxy(t, 3, "127.0.0.1:0", echoUDP(t, "127.0.0.1:0"))
	var clients sync.WaitGroup
	for i := range 40 {
		c := dialUDP(t, p.Bound())
		clients.Go(func() {
			for k := range 20 {
				want := fmt.Sprintf("client %d says %d", i, k)
				_, err := c.Write([]byte(want))
				buf := make([]byte, 100)
				n := 0
				if err == nil {
					n, err = c.Read(buf)
				}
				if err != nil || string(buf[:n]) != want {
					t.Errorf("%q, %v; want %q", buf[:n], err, want)
				}
			}
		})
	}
	clients.Wait()
	total, loops := 0, 0
	for i, l := range p.engine.Loops() {
		on(l, func() {
			total += len(p.flows[i])
			loops += min(1, len(p.flows[i]))
		})
	}
	if total != 40 || loops < 2 || p.engine.Open() != 40 {
		t.Errorf("%d flows on %d loops, %d connections", total, loops, p.engine.Open())
	}
}

// A client that is connected hears only the address that it asked.
func TestAnswersComeFromTheAddressThatWasAsked(t *testing.T) {
	for _, c := range []struct {
		listen string
		ask    []string
	}{
		{"0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2", "127.200.3.4"}},
		{"[::]:0", []string{"127.0.0.1", "127.0.0.2", "::1"}},
		{":0", []string{"127.0.0.2", "::1"}},
		{"127.0.0.3:0", []string{"127.0.0.3"}},
	} {
		p := newPacketProxy(t, 2, c.listen, echoUDP(t, "127.0.0.1:0"))
		port := netip.MustParseAddrPort(p.Bound()).Port()
		for _, ip := range c.ask {
			d := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(ip), port).String())
			d.say([]byte("to " + ip))
			d.hears([]byte("to " + ip))
		}
	}
}

// One socket of a client's that asks two addresses is two flows.
func TestPathHasBothEnds(t *testing.T) {
	p := newPacketProxy(t, 1, "0.0.0.0:0", echoUDP(t, "127.0.0.1:0"))
	port := netip.MustParseAddrPort(p.Bound()).Port()
	c := bindUDP(t, "127.0.0.1:0")
	for _, ip := range []string{"127.0.0.5", "127.0.0.6"} {
		_, err := c.WriteToUDPAddrPort([]byte(ip), netip.AddrPortFrom(netip.MustParseAddr(ip), port))
		must(t, err)
		if got, _, from := c.next(); string(got) != ip || from.Addr().Unmap().String() != ip {
			t.Errorf("%q from %v", got, from)
		}
	}
	seen := map[string]bool{}
	on(p.engine.Loops()[0], func() {
		for path := range p.flows[0] {
			if path.Client().String() != c.LocalAddr().String() {
				t.Errorf("the client is %v, not %v", path.Client(), c.LocalAddr())
			}
			seen[path.Local().String()] = true
		}
	})
	if len(seen) != 2 || !seen["127.0.0.5"] || !seen["127.0.0.6"] {
		t.Errorf("local addresses %v", seen)
	}
}

func TestOneAddressNeedsNoLocal(t *testing.T) {
	p := newPacketProxy(t, 1, "127.0.0.1:0", echoUDP(t, "127.0.0.1:0"))
	c := dialUDP(t, p.Bound())
	c.say([]byte("x"))
	c.hears([]byte("x"))
	if f := p.flow(t); f.path.Local().IsValid() {
		t.Errorf("local address %v", f.path.Local())
	}
}

// What a client sends as one goes on as one, and so do its answers.
func TestTrainStaysWhole(t *testing.T) {
	end := bindUDP(t, "127.0.0.1:0")
	end.wholeTrains()
	p := newPacketProxy(t, 1, "127.0.0.1:0", end.LocalAddr().String())
	c := dialUDP(t, p.Bound())
	c.wholeTrains()
	want := pattern(10*100 + 30)
	c.train(want, 100, netip.AddrPort{})
	got, size, from := end.next()
	if !bytes.Equal(got, want) || size != 100 || p.trains.Load() != 1 {
		t.Errorf("the endpoint got %d bytes in datagrams of %d, %d trains", len(got), size, p.trains.Load())
	}
	// The flow's socket does not know trains until it is busy. Datagrams that lie there are joined all the same.
	for p.answers.Load() == 0 {
		release := held(p.engine.Loops()[0])
		end.train(want, 100, from)
		end.train(want, 100, from)
		release()
		for n := 0; n < 2*len(want); {
			got, size, _ := c.next()
			if size != 100 || !bytes.Equal(got, want[len(want)-len(got):]) && !bytes.Equal(got, want[:len(got)]) {
				t.Fatalf("the client got %d bytes in datagrams of %d", len(got), size)
			}
			n += len(got)
		}
	}
}

// Datagrams of one batch are joined where they are of one size.
func TestDatagramsAreJoined(t *testing.T) {
	end := bindUDP(t, "127.0.0.1:0")
	end.wholeTrains()
	p := newPacketProxy(t, 1, "127.0.0.1:0", end.LocalAddr().String())
	c := dialUDP(t, p.Bound())
	f := func(sizes, want []int) {
		t.Helper()
		release := held(p.engine.Loops()[0])
		sent := []byte{}
		for i, n := range sizes {
			b := bytes.Repeat([]byte{byte('a' + i)}, n)
			sent = append(sent, b...)
			c.say(b)
		}
		release()
		got := []byte{}
		for i, n := range want {
			b, size, _ := end.next()
			if len(b) != n {
				t.Errorf("%v: message %d has %d bytes in datagrams of %d, want %v", sizes, i, len(b), size, want)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%v: %q, sent %q", sizes, got, sent)
		}
	}
	f([]int{10, 10, 10}, []int{30})
	f([]int{10, 10, 5}, []int{25})
	f([]int{10, 10, 5, 5, 10}, []int{25, 5, 10})
	f([]int{5, 10}, []int{5, 10})
	f([]int{0, 0, 10, 0}, []int{0, 0, 10, 0})
	f([]int{40000, 40000}, []int{40000, 40000})
	f([]int{7}, []int{7})
}

// Answers that wait for a busy loop reach their client whole and in order, however many there are.
func TestBurstOfAnswers(t *testing.T) {
	end := bindUDP(t, "127.0.0.1:0")
	p := newPacketProxy(t, 1, "127.0.0.1:0", end.LocalAddr().String())
	c := dialUDP(t, p.Bound())
	c.say([]byte("hello"))
	_, _, from := end.next()
	for range 3 {
		release := held(p.engine.Loops()[0])
		var want []string
		for i := range 200 {
			s := strconv.Itoa(i * i)
			_, err := end.WriteToUDPAddrPort([]byte(s), from)
			must(t, err)
			want = append(want, s)
		}
		release()
		for _, s := range want {
			c.hears([]byte(s))
		}
	}
}

// A flow that was busy, and is not any more, still knows trains from datagrams.
func TestTrainAfterBusyTimes(t *testing.T) {
	end := bindUDP(t, "127.0.0.1:0")
	p := newPacketProxy(t, 1, "127.0.0.1:0", end.LocalAddr().String())
	c := dialUDP(t, p.Bound())
	c.say([]byte("hello"))
	_, _, from := end.next()
	tell := func(s string) {
		t.Helper()
		_, err := end.WriteToUDPAddrPort([]byte(s), from)
		must(t, err)
	}
	flow := p.flow(t)
	state := func() (coalesced bool, bursts int) {
		on(p.engine.Loops()[0], func() { coalesced, bursts = flow.coalesced, int(flow.bursts) })
		return coalesced, bursts
	}
	for busy := false; !busy; busy, _ = state() {
		release := held(p.engine.Loops()[0])
		for range 3 * burst {
			tell("busy")
		}
		release()
		for range 3 * burst {
			c.hears([]byte("busy"))
		}
	}
	for _, bursts := state(); bursts > 0; _, bursts = state() {
		tell("calm")
		c.hears([]byte("calm"))
	}
	end.train([]byte("aaabbbcc"), 3, from)
	for _, want := range []string{"aaa", "bbb", "cc"} {
		c.hears([]byte(want))
	}
	if p.answers.Load() == 0 {
		t.Error("the train did not come as one")
	}
}

// More answers in a turn than a loop has room for: to receive, or to send.
func TestAnswersOfManyFlowsInOneTurn(t *testing.T) {
	end := bindUDP(t, "127.0.0.1:0")
	for _, copies := range []int{1, 2} {
		p := newPacketProxy(t, 1, "127.0.0.1:0", end.LocalAddr().String())
		p.copies = copies
		var clients []*datagrams
		var known []netip.AddrPort
		for range 3 * packetBatch {
			c := dialUDP(t, p.Bound())
			c.say([]byte("hello"))
			_, _, from := end.next()
			clients, known = append(clients, c), append(known, from)
		}
		release := held(p.engine.Loops()[0])
		for i, to := range known {
			_, err := end.WriteToUDPAddrPort([]byte(strconv.Itoa(i)), to)
			must(t, err)
		}
		release()
		for i, c := range clients {
			for range copies {
				c.hears([]byte(strconv.Itoa(i)))
			}
		}
	}
}

// Trains that the kernel does not take (here for want of checksums, as else for datagrams longer than the MTU) are sent
// one by one.
func TestTrainsThatCannotBeSent(t *testing.T) {
	end := bindUDP(t, "127.0.0.1:0")
	p := newPacketProxy(t, 1, "0.0.0.0:0", end.LocalAddr().String())
	c := dialUDP(t, fmt.Sprintf("127.0.0.9:%d", netip.MustParseAddrPort(p.Bound()).Port()))
	c.say([]byte("hello"))
	_, _, from := end.next()
	flow := p.flow(t)
	on(p.engine.Loops()[0], func() {
		for _, fd := range []int{flow.s.fd, int(flow.fd)} {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		c.train([]byte("aaabbbcc"), 3, netip.AddrPort{})
		for _, want := range []string{"aaa", "bbb", "cc"} {
			end.hears([]byte(want))
		}
		release := held(p.engine.Loops()[0])
		for _, s := range []string{"11", "22", "33"} {
			_, err := end.WriteToUDPAddrPort([]byte(s), from)
			must(t, err)
		}
		release()
		for _, want := range []string{"11", "22", "33"} {
			c.hears([]byte(want))
		}
	}
	on(p.engine.Loops()[0], func() {
		if flow.longest != 3 || flow.s.longest != 2 || p.lost.Load() != 0 {
			t.Errorf("datagrams below %d and %d are still joined, %d lost", flow.longest, flow.s.longest, p.lost.Load())
		}
	})
}

// The datagram that learns that nobody listens goes to the next address.
func TestRefusedFlowGoesOnElsewhere(t *testing.T) {
	dead := bindUDP(t, "127.0.0.1:0")
	dead.Close()
	p := newPacketProxy(t, 1, "127.0.0.1:0", dead.LocalAddr().String(), echoUDP(t, "127.0.0.1:0"))
	c := dialUDP(t, p.Bound())
	// In one batch, so that the second finds the first one's error; of two sizes, so that they are not joined.
	release := held(p.engine.Loops()[0])
	c.say([]byte("lost"))
	c.say([]byte("passed on"))
	release()
	c.hears([]byte("passed on"))
	c.say([]byte("and on"))
	c.hears([]byte("and on"))
	if p.refused.Load() != 1 || p.lost.Load() != 0 {
		t.Errorf("%d refused, %d lost", p.refused.Load(), p.lost.Load())
	}
}

// That nobody listens is also told to a flow that has nothing more to send.
func TestRefusedFlowIsTold(t *testing.T) {
	dead := bindUDP(t, "[::1]:0")
	dead.Close()
	p := newPacketProxy(t, 1, "127.0.0.1:0", dead.LocalAddr().String())
	c := dialUDP(t, p.Bound())
	c.say([]byte("lost"))
	eventually(t, "the flow is refused and closed", func() bool { return p.refused.Load() == 1 && p.engine.Open() == 0 })
}

// IPv6 has datagrams that IPv4 has not.
func TestDatagramTooLongForTheEndpoint(t *testing.T) {
	p := newPacketProxy(t, 1, "[::1]:0", echoUDP(t, "127.0.0.1:0"))
	c := dialUDP(t, p.Bound())
	c.say(pattern(65508))
	eventually(t, "it is lost", func() bool { return p.lost.Load() == 1 })
	c.say(pattern(65507))
	c.hears(pattern(65507))
}

func TestDatagramAddressInUse(t *testing.T) {
	other := bindUDP(t, "127.0.0.1:0").LocalAddr().String()
	ours := newPacketProxy(t, 1, "127.0.0.1:0").Bound() // which would share its address
	e := newEngine(t, Config{Loops: 2})
	before := openFDs(t)
	for _, address := range []string{other, ours} {
		if _, err := e.ListenPackets(address, &packetProxy{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%v", err)
		}
	}
	if _, err := e.ListenPackets("unix:/tmp/x", &packetProxy{}); err == nil {
		t.Error("a UNIX socket is listened on")
	}
	if n := openFDs(t); n != before {
		t.Errorf("%d descriptors open, %d before", n, before)
	}
}

func TestCloseAndDrainTellTheHandler(t *testing.T) {
	for name, f := range map[string]func(p *packetProxy){
		"close": func(p *packetProxy) { p.Close() },
		"drain": func(p *packetProxy) { drained(t, p.engine) },
	} {
		p := newPacketProxy(t, 2, "127.0.0.1:0", echoUDP(t, "127.0.0.1:0"))
		c := dialUDP(t, p.Bound())
		c.say([]byte("x"))
		c.hears([]byte("x"))
		f(p)
		if p.drained.Load() != 2 || p.engine.Open() != 0 {
			t.Errorf("%s: %d sockets were told, %d connections", name, p.drained.Load(), p.engine.Open())
		}
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v; want that nobody listens", name, err)
		}
		// Another one may have the address.
		e := newEngine(t, Config{Loops: 1})
		_, err := e.ListenPackets(p.Bound(), p)
		must(t, err)
	}
}

func TestStopClosesFlows(t *testing.T) {
	before := openFDs(t)
	func() {
		e, err := New(Config{Loops: 1}, nil)
		must(t, err)
		e.Start()
		defer e.Stop()
		p := &packetProxy{engine: e, flows: []map[Path]*packetFlow{{}}, to: []Addr{NewAddr(netip.MustParseAddrPort("127.0.0.1:9"))}}
		ln, err := e.ListenPackets("127.0.0.1:0", p)
		must(t, err)
		c := dialUDP(t, ln.Bound())
		defer c.Close()
		c.say(nil)
		eventually(t, "there is a flow", func() bool { return e.Open() == 1 || p.refused.Load() == 1 })
	}()
	if n := openFDs(t); n != before {
		t.Errorf("%d descriptors open, %d before", n, before)
	}
}

// A datagram of a flow that is there allocates nothing, either way, alone or in a train.
func TestDatagramsAllocateNothing(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::]:0"} {
		p := newPacketProxy(t, 1, address, echoUDP(t, "127.0.0.1:0"))
		c := dialUDP(t, fmt.Sprintf("127.0.0.1:%d", netip.MustParseAddrPort(p.Bound()).Port()))
		buf := make([]byte, 64)
		ping := func() {
			for range 4 {
				_, err := c.Write(buf)
				must(t, err)
			}
			for range 4 {
				_, err := c.Read(buf)
				must(t, err)
			}
		}
		ping()
		if n := testing.AllocsPerRun(100, ping); n >= 1 {
			t.Errorf("%s: %v allocations for 4 datagrams there and back", address, n)
		}
	}
}

func TestTrain(t *testing.T) {
	type piece struct{ n, segment int }
	f := func(want string, first piece, more ...piece) {
		t.Helper()
		var tr train
		tr.start(first.n, first.segment)
		got := ""
		for _, m := range more {
			if tr.add(m.n, m.segment) {
				got += "+"
			} else {
				got += "-"
			}
		}
		if got += fmt.Sprintf(" %d×%d=%d", tr.segments, tr.size, tr.bytes); got != want {
			t.Errorf("%v %v: %s, want %s", first, more, got, want)
		}
	}
	f("++ 3×10=30", piece{10, 0}, piece{10, 0}, piece{10, 0})
	f("+- 2×10=13", piece{10, 0}, piece{3, 0}, piece{3, 0})
	f("- 1×10=10", piece{10, 0}, piece{11, 0})
	f("- 1×10=10", piece{10, 0}, piece{0, 0})
	f("- 1×0=0", piece{0, 0}, piece{0, 0})
	f("+ 5×10=50", piece{30, 10}, piece{20, 10})
	f("+- 6×10=55", piece{30, 10}, piece{25, 10}, piece{10, 0})
	f("- 3×10=25", piece{25, 10}, piece{10, 0})
	f("- 3×10=30", piece{30, 10}, piece{18, 9})
	f("+ 4×10=39", piece{30, 10}, piece{9, 10})
	f("- 1×40000=40000", piece{40000, 0}, piece{40000, 0})
	f("+- 64×1=64", piece{1, 0}, piece{63, 1}, piece{1, 0})
}
