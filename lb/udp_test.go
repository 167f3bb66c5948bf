package lb

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/engine"
)

func responses(n int) UDPConfig { return UDPConfig{Responses: &n} }

func TestDatagramsArePassedOnAndCounted(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, 0, of(Maglev, namedUDP(t, "a")))
	c := e.client()
	for _, s := range []string{"hello", "", "and again"} {
		if got := c.ask(s); got != "a: "+s {
			t.Errorf("answered %q", got)
		}
	}
	e.flows(1, 0)
	e.is("datagrams from clients", 3, func(n *UDPCounters) *engine.Counter { return &n.FromClients })
	e.is("bytes from clients", 14, func(n *UDPCounters) *engine.Counter { return &n.BytesFromClients })
	e.is("datagrams to clients", 3, func(n *UDPCounters) *engine.Counter { return &n.ToClients })
	e.is("bytes to clients", 23, func(n *UDPCounters) *engine.Counter { return &n.BytesToClients })
	ep := e.cluster.Endpoints()[0]
	if n := ep.Local(e.engine.Loops()[0]); n.Requests.Load() != 1 || n.Sent.Load() != 14 || n.Received.Load() != 23 {
		t.Errorf("the endpoint has %d sessions, %d bytes sent, %d received", n.Requests.Load(), n.Sent.Load(), n.Received.Load())
	}
}

func TestManyFlowsOnSeveralLoops(t *testing.T) {
	e := newUDPEdge(t, 2, UDPConfig{}, 0, of(Maglev, namedUDP(t, "x"), namedUDP(t, "x"), namedUDP(t, "x")))
	var clients sync.WaitGroup
	for i := range 200 {
		c := e.client()
		clients.Go(func() {
			buf := make([]byte, 100)
			for k := range 5 {
				what := fmt.Sprintf("%d-%d", i, k)
				_, err := c.Write([]byte(what))
				if err == nil {
					err = c.SetReadDeadline(time.Now().Add(patience))
				}
				n := 0
				if err == nil {
					n, err = c.Read(buf)
				}
				if err != nil || string(buf[:n]) != "x: "+what {
					t.Errorf("%q, %v", buf[:n], err)
				}
			}
		})
	}
	clients.Wait()
	e.flows(200, 0)
	e.is("datagrams from clients", 1000, func(n *UDPCounters) *engine.Counter { return &n.FromClients })
	for i := range e.stats.Loops {
		if e.stats.Loops[i].Flows.Load() == 0 {
			t.Errorf("loop %d has none", i)
		}
	}
}

func TestLongestDatagramThereAndBack(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, 0, of(Maglev, answersUDP(t, func(_ netip.AddrPort, what string) []string { return []string{what} })))
	what := string(bytes.Repeat([]byte("0123456789abcdef-"), 4000)[:65507])
	if e.client().ask(what) != what {
		t.Error("it is not what was sent")
	}
}

// Where a client goes does not depend on the table of flows: one that has lost it, or another node, has it go there too.
func TestClientKeepsItsEndpointWhenTheTableIsLost(t *testing.T) {
	a, b, c := namedUDP(t, "a"), namedUDP(t, "b"), namedUDP(t, "c")
	seen := map[string]bool{}
	for range 20 {
		from, first := "", ""
		for range 2 {
			e := newUDPEdge(t, 2, UDPConfig{}, 0, of(Maglev, a, b, c))
			client := dialUDP(t, from, e.listener.Bound())
			got := client.ask("x")
			from = client.LocalAddr().String()
			client.Close()
			if first == "" {
				first = got
				seen[got] = true
			} else if got != first {
				t.Errorf("%s was answered by %q, and by %q with another table", from, first, got)
			}
		}
	}
	if len(seen) < 2 {
		t.Errorf("all went to one: %v", seen)
	}
}

func TestFlowEndsWithItsLastResponse(t *testing.T) {
	e := newUDPEdge(t, 1, responses(1), time.Hour, of(Maglev, knowing(t)))
	c := e.client()
	ports := map[string]bool{}
	for n := range uint64(4) {
		ports[c.ask("?")] = true
		e.flows(n+1, n+1)
	}
	if len(ports) < 2 {
		t.Errorf("flows do not have sockets of their own: ports %v", ports)
	}
	e.is("answered", 4, func(n *UDPCounters) *engine.Counter { return &n.Answered })

	// Each datagram has so many.
	e = newUDPEdge(t, 1, responses(2), time.Hour, of(Maglev, answersUDP(t, func(_ netip.AddrPort, what string) []string {
		if what == "wait" {
			return nil
		}
		return []string{"1", "2", "3", "4"}[:len(what)]
	})))
	c = e.client()
	c.say("wait")
	if c.ask("xxx"); c.hears() != "2" || c.hears() != "3" {
		t.Error("other answers")
	}
	e.flows(1, 0)
	c.ask("x") // six are due now, and this is the fourth
	e.flows(1, 0)
	c.ask("xx")
	c.hears()
	e.flows(1, 0) // of eight, six have come
	c.ask("xx")
	c.hears()
	e.flows(1, 0) // of ten, eight have come
	c.ask("xxxx")
	for range 3 {
		c.hears()
	}
	e.flows(1, 1) // of twelve, twelve
}

// What is not answered ends by its idle timeout, and drains at once.
func TestOneWayFlows(t *testing.T) {
	heard := make(chan string, 10)
	log := answersUDP(t, func(_ netip.AddrPort, what string) []string { heard <- what; return nil })
	e := newUDPEdge(t, 1, responses(0), time.Hour, of(Maglev, log))
	c := e.client()
	for _, s := range []string{"one", "two"} {
		c.say(s)
		if got := receive(t, "it is logged", heard); got != s {
			t.Errorf("%q is logged", got)
		}
	}
	e.flows(1, 0)
	e.listener.Close()
	e.is("ended", 1, func(n *UDPCounters) *engine.Counter { return &n.Ended })
}

func TestIdleFlowsExpire(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, 50*time.Millisecond, of(Maglev, namedUDP(t, "a")))
	for range 3 {
		e.client().ask("x")
	}
	e.flows(3, 3)
	e.is("expired", 3, func(n *UDPCounters) *engine.Counter { return &n.Expired })
	e.client().ask("x")
	e.flows(4, 4)
}

// tick waits until the loop's clock has gone on.
func (e *udpEdge) tick() {
	l := e.engine.Loops()[0]
	now := func() (d time.Duration) {
		on(l, func() { d = l.Now() })
		return d
	}
	was := now()
	eventually(e.t, "time passes", func() bool { return now() > was })
}

// A flow is used by what goes either way.
func TestLeastRecentlyUsedFlowMakesRoom(t *testing.T) {
	told := make(chan string, 10)
	var last sync.Map // by name: how the endpoint knows who said it
	end := hearing(t, func(_ *talker, from netip.AddrPort, what []byte) {
		last.Store(string(what), from)
		told <- string(what)
	})
	for name, use := range map[string]func(a *udpClient){
		"the client": func(a *udpClient) { a.say("a"); receive(t, "it is heard", told) },
		"the endpoint": func(a *udpClient) {
			from, _ := last.Load("a")
			end.say("still there?", from.(netip.AddrPort))
			a.hears()
		},
	} {
		e := newUDPEdge(t, 1, UDPConfig{MaxFlows: 2}, time.Hour, of(Maglev, end.address()))
		port := func(c *udpClient, name string) netip.AddrPort {
			c.say(name)
			receive(t, "it is heard", told)
			from, _ := last.Load(name)
			return from.(netip.AddrPort)
		}
		a, b, c := e.client(), e.client(), e.client()
		portA := port(a, "a")
		e.tick()
		portB := port(b, "b")
		e.tick()
		use(a)
		e.tick()
		portC := port(c, "c")
		e.flows(3, 1)
		e.is("evicted", 1, func(n *UDPCounters) *engine.Counter { return &n.Evicted })
		if port(a, "a") != portA || port(c, "c") != portC {
			t.Errorf("used by %s, a was evicted, or c was", name)
		}
		if port(b, "b") == portB {
			t.Errorf("used by %s: b was not evicted", name)
		}
		e.flows(4, 2)
	}
}

// The flow of one client is nothing to the next, who has its memory.
func TestFlowsBeginAnew(t *testing.T) {
	cfg := responses(1)
	cfg.MaxFlows = 1
	e := newUDPEdge(t, 1, cfg, time.Hour, of(Maglev, answersUDP(t, func(_ netip.AddrPort, what string) []string {
		if what == "wait" {
			return nil
		}
		return []string{what}
	})))
	e.client().say("wait")
	e.flows(1, 0)
	e.client().ask("x")
	e.flows(2, 2)
}

// However fast flows come, what they sent is passed on.
func TestEvictedFlowsHaveSent(t *testing.T) {
	heard := make(chan string, 100)
	e := newUDPEdge(t, 1, UDPConfig{MaxFlows: 1}, time.Hour, of(Maglev, answersUDP(t, func(_ netip.AddrPort, what string) []string { heard <- what; return nil })))
	release := make(chan struct{})
	e.engine.Loops()[0].Post(func() { <-release }) // so that they are one batch
	want := map[string]bool{}
	for i := range 20 {
		s := fmt.Sprint(i)
		e.client().say(s)
		want[s] = true
	}
	close(release)
	for range 20 {
		delete(want, receive(t, "a datagram comes", heard))
	}
	if len(want) > 0 {
		t.Errorf("lost: %v", want)
	}
	e.flows(20, 19)
}

func TestDatagramsToADeadEndpointGoToTheNext(t *testing.T) {
	for _, p := range []Picker{Maglev, RoundRobin, LeastConn, SourceHash} {
		e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(p, deadUDP(t), namedUDP(t, "b"), deadUDP(t)))
		for range 6 {
			if got := e.client().asks("x"); got != "b: x" {
				t.Errorf("%s: answered %q", p, got)
			}
		}
		e.flows(6, 0)
		refused := e.total(func(n *UDPCounters) *engine.Counter { return &n.Refused })
		var errs uint64
		for _, i := range []int{0, 2} {
			errs += e.cluster.Endpoints()[i].Local(e.engine.Loops()[0]).ConnectErrors.Load()
		}
		if refused == 0 || errs != refused {
			t.Errorf("%s: %d refused, %d errors of endpoints", p, refused, errs)
		}
		e.is("retries", refused, func(n *UDPCounters) *engine.Counter { return &n.Retries })
		e.is("without an endpoint", 0, func(n *UDPCounters) *engine.Counter { return &n.NoEndpoint })
	}
}

// At the worst a flow loses a datagram for each dead endpoint: what finds the error goes on to the next.
func TestOneDatagramIsLostToADeadEndpoint(t *testing.T) {
	heard := make(chan string, 100)
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(RoundRobin, deadUDP(t), answersUDP(t, func(_ netip.AddrPort, what string) []string { heard <- what; return nil })))
	release := make(chan struct{})
	e.engine.Loops()[0].Post(func() { <-release }) // so that they are one batch, before the error is seen
	c := e.client()
	for _, s := range []string{"1", "22", "333", "4444"} { // not joined: each is longer
		c.say(s)
	}
	close(release)
	for _, s := range []string{"22", "333", "4444"} {
		if got := receive(t, "a datagram comes", heard); got != s {
			t.Errorf("%q came, want %q", got, s)
		}
	}
	e.is("refused", 1, func(n *UDPCounters) *engine.Counter { return &n.Refused })
}

func TestAllEndpointsDead(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(Maglev, deadUDP(t), deadUDP(t)))
	c := e.client()
	release := make(chan struct{})
	e.engine.Loops()[0].Post(func() { <-release })
	for _, s := range []string{"1", "22", "333"} {
		c.say(s)
	}
	close(release)
	e.flows(1, 1)
	e.is("refused", 2, func(n *UDPCounters) *engine.Counter { return &n.Refused })
	e.is("without an endpoint", 1, func(n *UDPCounters) *engine.Counter { return &n.NoEndpoint })
	// Once they are known to be down, nobody is asked.
	mark(t, e.cluster, false, e.cluster.Endpoints()...)
	c.say("4")
	eventually(t, "it is counted", func() bool { return e.total(func(n *UDPCounters) *engine.Counter { return &n.NoEndpoint }) == 2 })
	e.flows(1, 1)
}

func TestFlowLeavesAnEndpointThatIsDown(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(Maglev, namedUDP(t, "a"), namedUDP(t, "b")))
	eps := e.cluster.Endpoints()
	c := e.client()
	first := c.ask("x")
	down, up, other := eps[0], eps[1], "b: x"
	if first == "b: x" {
		down, up, other = eps[1], eps[0], "a: x"
	}
	mark(t, e.cluster, false, down)
	if got := c.ask("x"); got != other {
		t.Errorf("answered %q by an endpoint that is down", got)
	}
	e.flows(1, 0)
	if down.InFlight() != 0 || up.InFlight() != 1 {
		t.Errorf("in flight: %d, %d", down.InFlight(), up.InFlight())
	}
	// Without a better one it stays where it is.
	mark(t, e.cluster, false, up)
	if got := c.ask("x"); got != other {
		t.Errorf("answered %q", got)
	}
	// It does not go back of itself.
	mark(t, e.cluster, true, eps...)
	if got := c.ask("x"); got != other {
		t.Errorf("answered %q", got)
	}
	e.flows(1, 0)
}

func TestEndpointOfAnotherKindIsPassedOver(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(RoundRobin, "unix:/nowhere", namedUDP(t, "b")))
	if got := e.client().ask("x"); got != "b: x" {
		t.Errorf("answered %q", got)
	}
	if n := e.cluster.Endpoints()[0].Local(e.engine.Loops()[0]).ConnectErrors.Load(); n != 1 {
		t.Errorf("%d errors", n)
	}
	e.flows(1, 0)
}

// A cluster may know nothing better than an endpoint that is down: the flow stays as it is.
func TestFlowStaysWithoutABetterEndpoint(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(Maglev, knowing(t)))
	c := e.client()
	port := c.ask("?")
	e.cluster.Endpoints()[0].healthy.Store(false) // and the table is as before
	if got := c.ask("?"); got != port {
		t.Error("it has another socket")
	}
	e.flows(1, 0)
}

// An endpoint that refused is asked again once another one has answered since.
func TestFlowReturnsToAnEndpointThatIsBack(t *testing.T) {
	first, second := hearing(t, itself), hearing(t, itself)
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(RoundRobin, first.address(), second.address()))
	first.Close()
	c := e.client()
	if got := c.asks("x"); got != second.address() {
		t.Errorf("answered by %s", got)
	}
	hearingAt(t, first.address(), itself)
	second.Close()
	if got := c.asks("x"); got != first.address() {
		t.Errorf("answered by %s", got)
	}
	e.flows(1, 0)
}

// Flows outlive a reload: the proxy that takes the listener over has them.
func TestReloadKeepsFlows(t *testing.T) {
	a, b := knowing(t), namedUDP(t, "b")
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(Maglev, a))
	c := e.client()
	port := c.ask("?")
	next := newCluster(t, e.engine, of(Maglev, b))
	e.listener.Set(NewUDPProxy(UDPConfig{}, next, time.Hour, e.stats, quiet))
	if got := c.ask("?"); got != port {
		t.Errorf("answered %q, before %q", got, port)
	}
	if got := e.client().ask("x"); got != "b: x" {
		t.Errorf("a new client is answered %q", got)
	}
	// A new timeout is in force with the next datagram.
	e.listener.Set(NewUDPProxy(UDPConfig{}, next, 50*time.Millisecond, e.stats, quiet))
	c.ask("?")
	eventually(t, "both expire", func() bool { return e.total(func(n *UDPCounters) *engine.Counter { return &n.Expired }) == 2 })
}

func TestDrainingListenerKeepsItsFlows(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(Maglev, namedUDP(t, "a")))
	c := e.client()
	c.ask("x")
	e.listener.Close()
	if got := c.ask("still there?"); got != "a: still there?" {
		t.Errorf("answered %q", got)
	}
	e.client().say("new")
	eventually(t, "a new client is denied", func() bool { return e.total(func(n *UDPCounters) *engine.Counter { return &n.Denied }) == 1 })
	e.flows(1, 1)
	// The socket is closed with its last flow.
	late := e.client()
	eventually(t, "nobody listens", func() bool {
		_, _ = late.Write([]byte("x"))
		must(t, late.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := late.Read(make([]byte, 1))
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func TestAdmittedClientsAlone(t *testing.T) {
	e := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(Maglev, namedUDP(t, "a")))
	p := NewUDPProxy(UDPConfig{}, e.cluster, time.Hour, e.stats, quiet)
	p.Admit = func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.7") }
	e.listener.Set(p)
	e.client().say("x")
	eventually(t, "it is denied", func() bool { return e.total(func(n *UDPCounters) *engine.Counter { return &n.Denied }) == 1 })
	if got := dialUDP(t, "127.0.0.7:0", e.listener.Bound()).ask("x"); got != "a: x" {
		t.Errorf("answered %q", got)
	}
	e.flows(1, 0)
}

func TestFlowsAllocateNothing(t *testing.T) {
	e := newUDPEdge(t, 1, responses(1), time.Hour, of(Maglev, answersBytes(t)))
	long := newUDPEdge(t, 1, UDPConfig{}, time.Hour, of(Maglev, answersBytes(t)))
	for name, c := range map[string]*udpClient{"a flow each": e.client(), "one flow": long.client()} {
		must(t, c.SetDeadline(time.Now().Add(patience)))
		buf := make([]byte, 64)
		ping := func() {
			_, err := c.Write(buf)
			must(t, err)
			_, err = c.Read(buf)
			must(t, err)
		}
		ping()
		if n := testing.AllocsPerRun(100, ping); n >= 1 {
			t.Errorf("%s: %v allocations for a datagram there and back", name, n)
		}
	}
}

func TestUDPConfigIsChecked(t *testing.T) {
	f := func(responses, maxFlows int, want string) {
		t.Helper()
		got := ""
		c := UDPConfig{Responses: &responses, MaxFlows: maxFlows}
		c.Validate(func(path, _ string) { got += path + " " })
		if got != want {
			t.Errorf("responses %d, max_flows %d: %q, want %q", responses, maxFlows, got, want)
		}
	}
	f(0, 0, "")
	f(1, 1, "")
	f(65536, 1<<24, "")
	f(-1, 0, "responses ")
	f(65537, -1, "responses max_flows ")
	f(1, 1<<24+1, "max_flows ")
}
