package lb

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
	"unsafe"

	judge "github.com/pires/go-proxyproto"

	"sluice/engine"
	"sluice/lb/discovery"
)

// moody accepts connections, does nothing with them, and resets one each time that it is told to.
func moody(t testing.TB) (address string, reset chan<- struct{}) {
	ch := make(chan struct{}, 16)
	stop := make(chan struct{})
	address = serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		select {
		case <-ch:
			_ = c.(*net.TCPConn).SetLinger(0)
		case <-stop:
		}
	})
	t.Cleanup(func() { close(stop) })
	return address, ch
}

func (f *front) failures(i int) uint64 {
	return f.cluster.Endpoints()[i].Local(f.loop()).Failures.Load()
}

// An endpoint that accepts and then resets, before anybody has said anything, is as good as one that refuses: the client
// hears of nothing, and its words are the next one's.
func TestNextEndpointWhenOneResetsInSilence(t *testing.T) {
	a, reset := moody(t)
	for _, version := range []ProxyVersion{"", ProxyV2} {
		b, heard := telling(t, "b")
		cfg := of(RoundRobin, a, b)
		cfg.SendProxyProtocol = version
		f := newFront(t, frontConfig{session: ProxyConfig{SessionTimeout: time.Hour}}, cfg)
		eps := f.cluster.Endpoints()
		c := f.dial("")
		f.reaches(eps[0], open)
		reset <- struct{}{}
		f.reaches(eps[1], open)
		_, err := io.WriteString(c, "hello")
		must(t, err)
		must(t, c.CloseWrite())
		if b, err := io.ReadAll(c); string(b) != "b: hello" || err != nil {
			t.Errorf("answered %q, %v", b, err)
		}
		if h := receive(t, "the endpoint is told", heard); version != "" && h.client() != c.LocalAddr().String() {
			t.Errorf("told of %s", h.client())
		}
		f.counts(1, 0, 1, 0, 0, 5, 8)
		f.endpoint(0, 1, 0, 0, 0)
		if n := f.failures(0); n != 1 {
			t.Errorf("%d failures are counted of who reset", n)
		}
	}
}

// With nobody left to try, the client is reset.
func TestEveryEndpointResetsInSilence(t *testing.T) {
	a, resetA := moody(t)
	b, resetB := moody(t)
	f := newFront(t, frontConfig{}, of(RoundRobin, a, b))
	eps := f.cluster.Endpoints()
	c := f.dial("")
	f.reaches(eps[0], open)
	resetA <- struct{}{}
	f.reaches(eps[1], open)
	resetB <- struct{}{}
	if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %q, %v; want a reset", b, err)
	}
	f.counts(1, 1, 1, 0, 0, 0, 0)
	if f.failures(0) != 1 || f.failures(1) != 1 {
		t.Errorf("%d and %d failures", f.failures(0), f.failures(1))
	}
}

// A search for another endpoint has the time that any search has, however long the session stood open.
func TestNextEndpointAfterLongSilence(t *testing.T) {
	a, reset := moody(t)
	cfg := of(RoundRobin, a, refusing(t), named(t, "c"))
	cfg.ConnectTimeout = 100 * time.Millisecond
	f := newFront(t, frontConfig{}, cfg)
	c := f.dial("")
	f.reaches(f.cluster.Endpoints()[0], open)
	var began, now time.Duration
	on(f.loop(), func() { began = f.loop().Now() })
	eventually(t, "more time passes than a search may take", func() bool {
		on(f.loop(), func() { now = f.loop().Now() })
		return now > began+(maxTries+1)*cfg.ConnectTimeout
	})
	reset <- struct{}{}
	f.reaches(f.cluster.Endpoints()[2], open)
	must(t, c.CloseWrite())
	if b, err := io.ReadAll(c); string(b) != "c: " || err != nil {
		t.Errorf("answered %q, %v", b, err)
	}
	f.counts(1, 0, 2, 0, 0, 0, 3)
}

// Who fails after a word of the client has gone out has it: nobody else gets it. That is the endpoint's failure, unless
// it was the client who reset, or the endpoint had done its part.
func TestFailuresOfSessions(t *testing.T) {
	f := func(name string, serving func(c *net.TCPConn), client func(c *net.TCPConn), failures uint64) {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, frontConfig{}, of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { serving(c.(*net.TCPConn)) }),
				named(t, "not asked")))
			c := f.dial("")
			_, err := io.WriteString(c, "x")
			must(t, err)
			client(c)
			eventually(t, "the session ends", func() bool { return f.engine.Open() == 0 })
			on(f.loop(), func() {}) // which counts when it has closed
			if n := f.failures(0); n != failures {
				t.Errorf("%d failures, want %d", n, failures)
			}
			f.endpoint(1, 0, 0, 0, 0)
		})
	}
	one := make([]byte, 1)
	rest := func(c *net.TCPConn) { _, _ = io.ReadAll(c); c.Close() }
	resetting := func(c *net.TCPConn) {
		must(t, c.SetLinger(0))
		must(t, c.Close())
	}
	f("reset without an answer", func(c *net.TCPConn) { _, _ = io.ReadFull(c, one); _ = c.SetLinger(0) }, rest, 1)
	f("reset after an answer", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, one)
		_, _ = io.WriteString(c, "yes")
		_, _ = io.ReadFull(c, one) // the client has it
		_ = c.SetLinger(0)
	}, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 3))
		_, _ = io.WriteString(c, "x")
		rest(c)
	}, 0)
	f("end without an answer", func(c *net.TCPConn) { _, _ = io.ReadFull(c, one) }, rest, 0)
	heard := make(chan struct{}, 1)
	f("reset by the client", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, one)
		heard <- struct{}{}
		_, _ = io.ReadAll(c)
	}, func(c *net.TCPConn) {
		<-heard
		resetting(c)
	}, 0)
}

// Wherever a session is, its client may go. Nothing of it stays, and nobody but the client has failed.
func TestClientResetsAtEachStage(t *testing.T) {
	resetting := func(c *net.TCPConn) {
		t.Helper()
		must(t, c.SetLinger(0))
		must(t, c.Close())
	}
	blameless := func(f *front, requests uint64) {
		t.Helper()
		f.endpoint(0, requests, 0, 0, 0)
		if n := f.failures(0); n != 0 {
			t.Errorf("%d failures are counted of the endpoint", n)
		}
	}
	t.Run("greeting", func(t *testing.T) {
		f := newFront(t, frontConfig{session: ProxyConfig{SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}, HelloTimeout: time.Hour}},
			of(RoundRobin, named(t, "a")))
		c := f.dial("")
		_, err := io.WriteString(c, "\x16\x03\x01")
		must(t, err)
		eventually(t, "it is accepted", func() bool { return f.stats.Sessions.Load() == 1 })
		resetting(c)
		f.counts(1, 0, 0, 1, 0, 0, 0)
		blameless(f, 0)
	})
	t.Run("dialling", func(t *testing.T) {
		cfg := of(RoundRobin, silent(t))
		cfg.ConnectTimeout = time.Hour
		f := newFront(t, frontConfig{}, cfg)
		c := f.dial("")
		f.reaches(f.cluster.Endpoints()[0], dialling)
		resetting(c)
		f.counts(1, 0, 0, 1, 0, 0, 0)
		blameless(f, 1)
	})
	t.Run("open", func(t *testing.T) {
		saw := make(chan error, 1)
		f := newFront(t, frontConfig{}, of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, err := io.ReadAll(c)
			saw <- err
		})))
		c := f.dial("")
		f.reaches(f.cluster.Endpoints()[0], open)
		resetting(c)
		if err := receive(t, "the endpoint hears of it", saw); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the endpoint saw %v, want a reset", err)
		}
		f.counts(1, 0, 0, 1, 0, 0, 0)
		blameless(f, 1)
	})
	t.Run("relaying", func(t *testing.T) {
		f := newFront(t, frontConfig{}, of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(c, c) })))
		c := f.dial("")
		_, err := io.WriteString(c, "x")
		must(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		must(t, err)
		resetting(c)
		f.counts(1, 0, 0, 1, 0, 1, 1)
		f.endpoint(0, 1, 0, 1, 1)
	})
}

// An endpoint may be taken from its sessions. One that nobody has said anything in finds another; one that is under way
// is reset on both sides.
func TestEndpointIsTakenAtEachStage(t *testing.T) {
	for name, take := range map[string]func(f *front, first, second string){
		"maint": func(f *front, first, second string) {
			f.cluster.SetEndpoints([]EndpointConfig{{Address: first, State: discovery.Maint}, {Address: second}})
		},
		"drain, to its deadline": func(f *front, first, second string) {
			f.cluster.SetEndpoints([]EndpointConfig{{Address: first, State: discovery.Drain}, {Address: second}})
		},
		"gone, to its deadline": func(f *front, first, second string) {
			f.cluster.SetEndpoints([]EndpointConfig{{Address: second}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := func(first string, session ProxyConfig) (*front, *Endpoint, string) {
				second := named(t, "b")
				cfg := of(RoundRobin, first, second)
				cfg.ConnectTimeout, cfg.DrainTimeout = time.Hour, 20*time.Millisecond
				f := newFront(t, frontConfig{session: session}, cfg)
				return f, f.cluster.Endpoints()[0], second
			}
			moves := func(f *front, c *net.TCPConn) {
				t.Helper()
				eps := f.cluster.Endpoints()
				f.reaches(eps[len(eps)-1], open)
				_, err := io.WriteString(c, "hello")
				must(t, err)
				must(t, c.CloseWrite())
				if b, err := io.ReadAll(c); string(b) != "b: hello" || err != nil {
					t.Errorf("answered %q, %v", b, err)
				}
				f.counts(1, 0, 1, 0, 0, 5, 8)
			}
			first := silent(t)
			f, ep, second := start(first, ProxyConfig{})
			c := f.dial("")
			f.reaches(ep, dialling)
			take(f, first, second)
			moves(f, c)

			first, _ = moody(t)
			f, ep, second = start(first, ProxyConfig{SessionTimeout: 2 * time.Hour})
			c = f.dial("")
			f.reaches(ep, open)
			take(f, first, second)
			moves(f, c)

			saw := make(chan error, 1)
			first = serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
				_, err := io.Copy(c, c)
				saw <- err
			})
			f, ep, second = start(first, ProxyConfig{})
			c = f.dial("")
			_, err := io.WriteString(c, "x")
			must(t, err)
			_, err = io.ReadFull(c, make([]byte, 1))
			must(t, err)
			take(f, first, second)
			if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client got %q, %v; want a reset", b, err)
			}
			if err := receive(t, "the endpoint hears of it", saw); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the endpoint saw %v, want a reset", err)
			}
			f.counts(1, 0, 0, 1, 0, 1, 1)
			if ep.InFlight() != 0 {
				t.Errorf("%d in flight", ep.InFlight())
			}
		})
	}
}

// A session that waits, or has still to say where it wants to go, has no endpoint that could be taken.
func TestEndpointIsTakenBeforeItIsGiven(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	f := newFront(t, frontConfig{session: ProxyConfig{Cluster: "c", SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}}}, of(RoundRobin, a))
	c := f.dial("")
	eventually(t, "it is accepted", func() bool { return f.stats.Sessions.Load() == 1 })
	f.cluster.SetEndpoints([]EndpointConfig{{Address: a, State: discovery.Maint}, {Address: b}})
	_, err := io.WriteString(c, "hello")
	must(t, err)
	must(t, c.CloseWrite())
	if got, err := io.ReadAll(c); string(got) != "b: hello" || err != nil {
		t.Errorf("answered %q, %v", got, err)
	}
	f.counts(1, 0, 0, 0, 0, 5, 8)
}

// A session in which nobody ever speaks ends as one that has fallen silent: with FIN on both sides.
func TestSessionTimeoutWithoutAWord(t *testing.T) {
	saw := make(chan error, 1)
	f := newFront(t, frontConfig{session: ProxyConfig{SessionTimeout: 40 * time.Millisecond}}, of(RoundRobin,
		serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, err := io.ReadAll(c)
			saw <- err
		})))
	if b, err := io.ReadAll(f.dial("")); len(b) > 0 || err != nil {
		t.Errorf("the client got %q, %v; want FIN", b, err)
	}
	if err := receive(t, "the endpoint hears of it", saw); err != nil {
		t.Errorf("the endpoint saw %v, want FIN", err)
	}
	f.counts(1, 0, 0, 0, 1, 0, 0)
}

// What a stage may take is not what the next ones may.
func TestTimeoutsEndWithTheirStages(t *testing.T) {
	const short = 100 * time.Millisecond
	f := func(name string, cfg frontConfig, says string, endpoints ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := of(RoundRobin, append(endpoints, silent(t), named(t, "b"))...)
			c.ConnectTimeout = 3 * short
			f := newFront(t, cfg, c)
			if got := f.says("", says+"hello"); got != "b: hello" {
				t.Errorf("answered %q", got)
			}
		})
	}
	f("header", frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTimeout: short}}, header1(someClient, someDest))
	f("hello", frontConfig{session: ProxyConfig{Cluster: "c", HelloTimeout: short, SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}}}, "")
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		a, reset := moody(t)
		cfg := of(RoundRobin, a, silent(t), named(t, "b"))
		cfg.ConnectTimeout = 6 * short
		f := newFront(t, frontConfig{session: ProxyConfig{SessionTimeout: 3 * short}}, cfg)
		c := f.dial("")
		f.reaches(f.cluster.Endpoints()[0], open)
		reset <- struct{}{}
		f.reaches(f.cluster.Endpoints()[1], dialling)
		isServed(t, c, "b")
	})
}

// What had come before the relay began, FIN included, has had its event. It is passed on all the same.
func TestNothingIsStuckBeforeTheRelay(t *testing.T) {
	greeting := "hello from the server"
	greeter := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_, _ = io.WriteString(c, greeting)
		_, _ = io.Copy(c, c)
	})
	header := header1(someClient, someDest)
	for name, x := range map[string]struct {
		says string
		fin  bool
	}{
		"nothing": {"", false}, "FIN": {"", true}, "a word": {"x", false}, "a word and FIN": {"x", true},
		"bulk": {string(make([]byte, 60<<10)), false}, "bulk and FIN": {string(make([]byte, 60<<10)), true},
	} {
		for _, cfg := range []frontConfig{
			{},
			{preface: PrefaceConfig{ProxyProtocol: ProxyRequire}},
			{session: ProxyConfig{Cluster: "c", SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}}},
			{preface: PrefaceConfig{ProxyProtocol: ProxyRequire}, socket: engine.ListenOptions{DeferAccept: time.Second},
				session: ProxyConfig{Cluster: "c", SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}}},
		} {
			if cfg.session.SNI != nil && x.says == "" && !x.fin {
				continue // somebody has to say something there
			}
			f := newFront(t, cfg, of(RoundRobin, greeter))
			c := f.dial("")
			says := x.says
			if cfg.preface.ProxyProtocol != "" {
				says = header + says
			}
			// The loop sees nothing until all is there.
			say := func() {
				_, err := io.WriteString(c, says)
				must(t, err)
				if x.fin {
					must(t, c.CloseWrite())
				}
			}
			if cfg.socket.DeferAccept == 0 {
				eventually(t, "it is accepted", func() bool { return f.listener.Open() == 1 })
			}
			on(f.loop(), say)
			got := make([]byte, len(greeting)+len(x.says))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != greeting+x.says {
				t.Errorf("%s, %+v: %d bytes came back, %v", name, cfg, len(got), err)
			}
			if x.fin {
				if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
					t.Errorf("%s, %+v: and then %q, %v", name, cfg, rest, err)
				}
			}
			must(t, c.Close())
			eventually(t, "it ends", func() bool { return f.engine.Open() == 0 })
		}
	}
}

// An idle session is its relay and two connections: what it took to get there is not kept.
func TestIdleSessionKeepsNothing(t *testing.T) {
	cfg := of(RoundRobin, refusing(t), serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := judge.Read(r); err == nil {
			_, _ = io.Copy(c, r)
		}
	}))
	cfg.SendProxyProtocol, cfg.Queue = ProxyV2, &Queue{}
	cfg.Endpoints[1].MaxConn = 1
	f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyRequire},
		session: ProxyConfig{SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}, Cluster: "c"}}, cfg)
	hello := helloOf(t, &tls.Config{ServerName: "a.test", NextProtos: []string{"h2"}})
	start := func() *net.TCPConn {
		c := f.dial("")
		_, err := io.WriteString(c, header2(t, someClient, someDest)+hello)
		must(t, err)
		return c
	}
	ep := f.cluster.Endpoints()[1]
	first := start()
	f.reaches(ep, relaying)
	second := start()
	eventually(t, "the second waits", func() bool { return f.cluster.Queued() == 1 })
	must(t, first.Close())
	_, err := io.ReadFull(second, make([]byte, len(hello)))
	must(t, err)
	f.reaches(ep, relaying)
	on(f.loop(), func() {
		s := ep.Local(f.loop()).held.session
		if s.way != nil || s.client.Attached() != nil {
			t.Errorf("it keeps what it needed on its way %v, the header %v", s.way, s.client.Attached())
		}
		for _, c := range []*engine.Conn{s.client, s.upstream} {
			if _, ok := c.Handler().(*engine.Relay); !ok {
				t.Errorf("it is served by a %T", c.Handler())
			}
		}
		if n := unsafe.Sizeof(*s) + 2*unsafe.Sizeof(*s.client); n > 700 {
			t.Errorf("it takes %d bytes", n)
		}
	})
}
