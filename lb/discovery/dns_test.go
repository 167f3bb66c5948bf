package discovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// asking is a source that asks n, fast.
func asking(d DNS, servers ...string) *dnsSource {
	d.Resolvers, d.MinTTL, d.MaxTTL = servers, time.Millisecond, 2*time.Millisecond
	if d.Timeout == 0 {
		d.Timeout = patience
	}
	s := newDNSSource(&d)
	s.retry = backoff{first: time.Millisecond, most: 2 * time.Millisecond}
	return s
}

// app is what most tests ask for.
func app(kind RecordType) DNS {
	d := DNS{Name: "App.test", Type: kind, Port: 80}
	if kind == SRV {
		d.Port = 0
	}
	return d
}

// resolves wants s to resolve to want, and to say err, which is a part of it; empty: nothing.
func resolves(t *testing.T, s *dnsSource, err string, want ...string) {
	t.Helper()
	set, _, got := s.resolve(t.Context())
	if (got == nil) != (err == "") || got != nil && !strings.Contains(got.Error(), err) {
		t.Errorf("error %v, want %q", got, err)
	}
	if g, w := strings.Join(describe(canonical(set)), ", "), strings.Join(want, ", "); g != w || set == nil && want != nil {
		t.Errorf("resolved to\n%s, want\n%s", g, w)
	}
}

func TestAddresses(t *testing.T) {
	f := func(d DNS, records []string, want ...string) {
		t.Helper()
		resolves(t, asking(d, newNameserver(t, zone(t, records...)).addr), "", want...)
	}
	both := []string{"app.test. 60 A 10.0.0.2", "app.test. 60 A 10.0.0.1", "app.test. 60 AAAA 2001:db8::1", "other.test. 60 A 10.9.9.9"}
	f(app(""), both, "10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80")
	f(app(A), both, "10.0.0.1:80", "10.0.0.2:80")
	f(app(AAAA), both, "[2001:db8::1]:80")
	// A name that has addresses of one kind alone is in good order.
	f(app(""), both[:2], "10.0.0.1:80", "10.0.0.2:80")
	f(app(""), both[2:3], "[2001:db8::1]:80")
	// One address, said twice.
	f(app(""), []string{"app.test. 60 A 10.0.0.1", "app.test. 60 A 10.0.0.1", "app.test. 60 AAAA ::ffff:10.0.0.1"}, "10.0.0.1:80")
	// Names have no case, and with their last dot they are the same.
	f(DNS{Name: "aPP.TEST.", Port: 443}, []string{"APP.test. 60 A 10.0.0.1"}, "10.0.0.1:443")
	// CNAMEs, whatever their order.
	f(app(A), []string{"app.test. 60 CNAME b.Test.", "B.test. 60 CNAME c.test.", "c.test. 60 A 10.0.0.1"}, "10.0.0.1:80")
	f(app(A), []string{"c.test. 60 A 10.0.0.1", "app.test. 60 CNAME c.test."}, "10.0.0.1:80")
}

func TestServices(t *testing.T) {
	f := func(records []string, want ...string) {
		t.Helper()
		resolves(t, asking(app(SRV), newNameserver(t, zone(t, records...)).addr), "", want...)
	}
	hosts := []string{"a.test. 60 A 10.0.0.1", "b.test. 60 A 10.0.0.2", "c.test. 60 A 10.0.0.3", "d.test. 60 A 10.0.0.4", "d.test. 60 AAAA 2001:db8::4"}
	with := func(records ...string) []string { return append(records, hosts...) }
	f(with("app.test. 60 SRV 0 5 8080 a.test."), "10.0.0.1:8080 weight 5")
	// Priorities are ranked; weights are kept but for 0.
	f(with("app.test. 60 SRV 20 10 81 a.test.", "app.test. 60 SRV 10 65535 82 b.test.", "app.test. 60 SRV 65535 0 83 c.test.", "app.test. 60 SRV 10 1 84 b.test."),
		"10.0.0.1:81 weight 10 priority 1", "10.0.0.2:82 weight 65535", "10.0.0.2:84", "10.0.0.3:83 priority 2")
	// A target's weight is shared by its addresses.
	f(with("app.test. 60 SRV 1 3 81 a.test.", "app.test. 60 SRV 1 3 81 d.test."),
		"10.0.0.1:81 weight 6", "10.0.0.4:81 weight 3", "[2001:db8::4]:81 weight 3")
	f(with("app.test. 60 SRV 1 7 81 d.test."), "10.0.0.4:81 weight 7", "[2001:db8::4]:81 weight 7")
	f(with("app.test. 60 SRV 1 65535 81 a.test.", "app.test. 60 SRV 1 2 81 d.test."),
		"10.0.0.1:81 weight 65535", "10.0.0.4:81", "[2001:db8::4]:81") // as near as it gets
	// One address in two tiers is in the first.
	f(with("app.test. 60 SRV 2 9 81 a.test.", "app.test. 60 SRV 1 5 81 a.test.", "app.test. 60 SRV 1 6 81 a.test."), "10.0.0.1:81 weight 6")
	// The one answer that says: none. Beside others it says nothing.
	f(with("app.test. 60 SRV 0 0 0 ."))
	f(with("app.test. 60 SRV 0 0 0 .", "app.test. 60 SRV 0 0 81 a.test."), "10.0.0.1:81")
	f(with("app.test. 60 CNAME srv.test.", "srv.test. 60 SRV 0 2 81 a.test."), "10.0.0.1:81 weight 2")

	var many, want []string
	for i := range 140 {
		many = append(many, fmt.Sprintf("app.test. 60 SRV %d 1 %d a.test.", i*400, 1000+i))
		want = append(want, fmt.Sprintf("10.0.0.1:%d priority %d", 1000+i, min(i, 127)))
	}
	want[0] = "10.0.0.1:1000"
	f(with(many...), want...)
}

func TestTargetsAddressesComeWithTheAnswer(t *testing.T) {
	n := newNameserver(t, answersWith(func(m *dns.Msg) {
		m.Answer = rrs(t, "app.test. 60 SRV 0 0 81 A.test.", "app.test. 60 SRV 0 0 82 b.test.")
		m.Extra = rrs(t, "a.TEST. 60 A 10.0.0.1", "a.test. 60 AAAA 2001:db8::1", "b.test. 60 A 10.0.0.2", "stranger.test. 60 A 10.9.9.9",
			"a.test. 60 CH A 10.9.9.9")
	}))
	s := asking(app(SRV), n.addr)
	resolves(t, s, "", "10.0.0.1:81", "10.0.0.2:82 weight 2", "[2001:db8::1]:81")
	if got := n.udp.Load(); got != 1 {
		t.Errorf("%d questions", got)
	}
	// If they come no more and cannot be asked for, they stay.
	n.behave(byType(map[uint16]dns.HandlerFunc{
		dns.TypeSRV: zone(t, "app.test. 60 SRV 0 0 81 a.test.", "app.test. 60 SRV 0 0 82 b.test."),
		dns.TypeA:   rcode(dns.RcodeServerFailure), dns.TypeAAAA: rcode(dns.RcodeServerFailure),
	}))
	resolves(t, s, "A a.test.: ", "10.0.0.1:81", "10.0.0.2:82 weight 2", "[2001:db8::1]:81")
}

func TestWhatFailsInPartKeepsWhatItHad(t *testing.T) {
	good := zone(t, "app.test. 60 A 10.0.0.1", "app.test. 60 AAAA 2001:db8::1")
	newer := zone(t, "app.test. 60 A 10.0.0.2", "app.test. 60 AAAA 2001:db8::2")
	n := newNameserver(t, good)
	s := asking(app(""), n.addr)
	a, aaaa := dns.TypeA, dns.TypeAAAA
	f := func(h dns.HandlerFunc, err string, want ...string) {
		t.Helper()
		n.behave(h)
		resolves(t, s, err, want...)
	}
	fail := rcode(dns.RcodeServerFailure)
	f(byType(map[uint16]dns.HandlerFunc{a: good, aaaa: fail}), "AAAA app.test.: "+n.addr+": SERVFAIL", "10.0.0.1:80")
	f(good, "", "10.0.0.1:80", "[2001:db8::1]:80")
	f(byType(map[uint16]dns.HandlerFunc{a: newer, aaaa: fail}), "AAAA app.test.: ", "10.0.0.2:80", "[2001:db8::1]:80")
	f(byType(map[uint16]dns.HandlerFunc{a: fail, aaaa: newer}), "A app.test.: ", "10.0.0.2:80", "[2001:db8::2]:80")
	f(byType(map[uint16]dns.HandlerFunc{a: rcode(dns.RcodeNameError), aaaa: good}), "A app.test.: NXDOMAIN", "10.0.0.2:80", "[2001:db8::1]:80")
	f(fail, "A app.test.: "+n.addr+": SERVFAIL (and 1 more)")
	f(rcode(dns.RcodeSuccess), "A app.test.: no such records (and 1 more)")
	f(byType(map[uint16]dns.HandlerFunc{a: good, aaaa: fail}), "AAAA app.test.: ", "10.0.0.1:80", "[2001:db8::1]:80")
	// The name is there and has no such address any more: that is said, not failed.
	f(byType(map[uint16]dns.HandlerFunc{a: good, aaaa: rcode(dns.RcodeSuccess)}), "", "10.0.0.1:80")
	f(byType(map[uint16]dns.HandlerFunc{a: good, aaaa: fail}), "AAAA app.test.: ", "10.0.0.1:80")

	// A service's targets are as independent.
	srv := zone(t, "app.test. 60 SRV 0 0 81 a.test.", "app.test. 60 SRV 0 0 82 b.test.")
	aGood, bGood := zone(t, "a.test. 60 A 10.0.0.1"), zone(t, "b.test. 60 A 10.0.0.2")
	s = asking(app(SRV), n.addr)
	f(byName(map[string]dns.HandlerFunc{"app.test.": srv, "a.test.": fail, "b.test.": fail}), "A a.test.: ")
	f(byName(map[string]dns.HandlerFunc{"app.test.": srv, "a.test.": aGood, "b.test.": fail}), "A b.test.: ", "10.0.0.1:81")
	f(byName(map[string]dns.HandlerFunc{"app.test.": srv, "a.test.": fail, "b.test.": bGood}), "A a.test.: ", "10.0.0.1:81", "10.0.0.2:82")
	f(byName(map[string]dns.HandlerFunc{"app.test.": srv, "a.test.": fail, "b.test.": fail}), "A a.test.: ", "10.0.0.1:81", "10.0.0.2:82")
	f(fail, "SRV app.test.: "+n.addr+": SERVFAIL")
	f(byName(map[string]dns.HandlerFunc{"app.test.": zone(t, "app.test. 60 SRV 0 0 0 a.test.", "app.test. 60 SRV 0 0 82 b.test."), "a.test.": aGood, "b.test.": bGood}),
		"port 0 cannot be connected to", "10.0.0.2:82")
}

// Each of these is what broken or half-configured servers say of names that are well.
func TestFailuresKeepTheLastGoodSet(t *testing.T) {
	lie := func(alter func(m *dns.Msg)) dns.HandlerFunc {
		return answersWith(func(m *dns.Msg) {
			m.Answer = rrs(t, "app.test. 60 A 10.9.9.9")
			alter(m)
		})
	}
	for _, c := range []struct {
		name   string
		h      dns.HandlerFunc
		waits  bool // until the timeout
		reason string
	}{
		{"NXDOMAIN", rcode(dns.RcodeNameError), false, "A app.test.: NXDOMAIN: no such name"},
		{"no data", rcode(dns.RcodeSuccess), false, "A app.test.: no such records"},
		{"SERVFAIL", rcode(dns.RcodeServerFailure), false, ": SERVFAIL"},
		{"REFUSED", rcode(dns.RcodeRefused), false, ": REFUSED"},
		{"FORMERR", rcode(dns.RcodeFormatError), false, ": FORMERR"},
		{"FORMERR without a question", answersWith(func(m *dns.Msg) { m.Rcode, m.Question = dns.RcodeFormatError, nil }), false, ": FORMERR"},
		{"an unknown code", rcode(14), false, ": RCODE 14"},
		{"an error with an answer", lie(func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }), false, ": SERVFAIL"},
		{"a CNAME to nowhere", zone(t, "app.test. 60 CNAME b.test."), false, "no such records at b.test., where its CNAME leads"},
		{"a CNAME to itself", zone(t, "app.test. 60 CNAME app.test."), false, "no such records: more than 16 CNAMEs"},
		{"another name's address", lie(func(m *dns.Msg) { m.Answer[0].Header().Name = "b.test." }), false, "no such records"},
		{"another class", lie(func(m *dns.Msg) { m.Answer[0].Header().Class = dns.ClassCHAOS }), false, "no such records"},
		{"another type", zone(t, "app.test. 60 AAAA 2001:db8::9"), false, "no such records"},
		{"truncated by TCP as well", lie(func(m *dns.Msg) { m.Truncated = true }), false, ": truncated by TCP"},
		{"silence", silence, true, ": no answer in 30ms"},
		{"another id", lie(func(m *dns.Msg) { m.Id++ }), true, ": no answer in 30ms (one had another id)"},
		{"a lying question", lie(func(m *dns.Msg) { m.Question[0].Name = "b.test." }), true, "(one was to another question)"},
		{"a question of another type", lie(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }), true, "(one was to another question)"},
		{"a question of another class", lie(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), true, "(one was to another question)"},
		{"no question", lie(func(m *dns.Msg) { m.Question = nil }), true, "(one was to another question)"},
		{"the question sent back", lie(func(m *dns.Msg) { m.Response = false }), true, "(one was to another question)"},
		{"another operation", lie(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), true, "(one was to another question)"},
		{"garbage", func(w dns.ResponseWriter, r *dns.Msg) {
			_, _ = w.Write(append([]byte{byte(r.Id >> 8), byte(r.Id)}, "\x80\x00\x00\x01\x00\xff\x00\x00\x00\x00\x03app"...))
		}, true, "(one was malformed)"},
		{"too short", func(w dns.ResponseWriter, r *dns.Msg) { _, _ = w.Write([]byte{byte(r.Id >> 8), byte(r.Id), 0x80}) }, true, "(one was malformed)"},
		{"hangs up by TCP", func(w dns.ResponseWriter, r *dns.Msg) {
			if overTCP(w) {
				w.Close()
				return
			}
			lie(func(m *dns.Msg) { m.Truncated = true })(w, r)
		}, false, ": EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNameserver(t, c.h)
			d := app(A)
			if c.waits {
				d.Timeout = 30 * time.Millisecond
			}
			s := asking(d, n.addr)
			eventually(t, "the reason is "+c.reason, func() bool { // in time, which garbage has to be as well
				set, _, err := s.resolve(t.Context())
				return set == nil && strings.Contains(err.Error(), c.reason)
			})
			n.behave(zone(t, "app.test. 60 A 10.0.0.1"))
			w := watch(t, asking(d, n.addr))
			w.next("10.0.0.1:80")
			n.behave(c.h)
			w.says("discovery failed: the last good endpoints are kept")
			from := n.udp.Load()
			eventually(t, "it is asked three more times", func() bool { return n.udp.Load() >= from+3 })
			w.none()
			n.behave(zone(t, "app.test. 60 A 10.0.0.1", "app.test. 60 A 10.0.0.2"))
			w.next("10.0.0.1:80", "10.0.0.2:80")
			w.says("discovery is good again")
		})
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	pc, ln := bothPorts(t)
	pc.Close()
	ln.Close()
	resolves(t, asking(app(A), ln.Addr().String()), ln.Addr().String()+": read: connection refused")
}

// A forger who guesses late or badly does not keep the answer away.
func TestForgeriesArePassedOver(t *testing.T) {
	good := zone(t, "app.test. 60 A 10.0.0.1")
	n := newNameserver(t, func(w dns.ResponseWriter, r *dns.Msg) {
		_, _ = w.Write([]byte("garbage that is longer than a header"))
		for _, alter := range []func(m *dns.Msg){func(m *dns.Msg) { m.Id++ }, func(m *dns.Msg) { m.Question[0].Name = "b.test." }} {
			m := new(dns.Msg).SetReply(r)
			m.Answer = rrs(t, "app.test. 60 A 10.9.9.9", "b.test. 60 A 10.9.9.9")
			alter(m)
			_ = w.WriteMsg(m)
		}
		good(w, r)
	})
	resolves(t, asking(app(A), n.addr), "", "10.0.0.1:80")
}

func TestIDsAreNotToBeGuessed(t *testing.T) {
	ids := make(chan uint16, 200)
	good := zone(t, "app.test. 60 A 10.0.0.1")
	n := newNameserver(t, func(w dns.ResponseWriter, r *dns.Msg) {
		ids <- r.Id
		good(w, r)
	})
	s := asking(app(A), n.addr)
	seen := map[uint16]bool{}
	last, steps := <-func() chan uint16 { resolves(t, s, "", "10.0.0.1:80"); return ids }(), map[uint16]bool{}
	for range 50 {
		resolves(t, s, "", "10.0.0.1:80")
		id := <-ids
		seen[id], steps[id-last] = true, true
		last = id
	}
	// Of 50 of 65,536 one pair is alike in 53 times, two in 2,900, and so on.
	if len(seen) < 45 || len(steps) < 45 {
		t.Errorf("of 50 ids %d differ, and %d steps between them", len(seen), len(steps))
	}
}

// A long answer does not fit into a datagram.
func TestTruncatedAnswerIsAskedForByTCP(t *testing.T) {
	var records, want []string
	for i := range 300 {
		records = append(records, fmt.Sprintf("app.test. 60 A 10.0.%d.%d", i>>8, i&255))
		want = append(want, fmt.Sprintf("10.0.%d.%d:80", i>>8, i&255))
	}
	whole := zone(t, records...)
	size := uint16(0)
	n := newNameserver(t, func(w dns.ResponseWriter, r *dns.Msg) {
		if overTCP(w) {
			whole(w, r)
			return
		}
		size = r.IsEdns0().UDPSize()
		m := new(dns.Msg).SetReply(r)
		m.Truncated = true
		m.Answer = rrs(t, records[:40]...)
		_ = w.WriteMsg(m)
	})
	set, _, err := asking(app(A), n.addr).resolve(t.Context())
	must(t, err)
	if len(set) != len(want) || n.udp.Load() != 1 || n.tcp.Load() != 1 {
		t.Errorf("%d endpoints by %d questions by UDP and %d by TCP", len(set), n.udp.Load(), n.tcp.Load())
	}
	if size != 1232 {
		t.Errorf("asked for datagrams of %d", size)
	}
}

func TestServerWithoutEDNS(t *testing.T) {
	good := zone(t, "app.test. 60 A 10.0.0.1")
	for _, code := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented} {
		n := newNameserver(t, func(w dns.ResponseWriter, r *dns.Msg) {
			if r.IsEdns0() != nil {
				rcode(code)(w, r)
				return
			}
			good(w, r)
		})
		resolves(t, asking(app(A), n.addr), "", "10.0.0.1:80")
	}
}

func TestResolversAreAskedInTurn(t *testing.T) {
	good := newNameserver(t, zone(t, "app.test. 60 A 10.0.0.1"))
	spare := newNameserver(t, zone(t, "app.test. 60 A 10.9.9.9"))
	bad := newNameserver(t, rcode(dns.RcodeRefused))
	dumb := newNameserver(t, silence)
	d := app(A)
	d.Timeout = 200 * time.Millisecond
	resolves(t, asking(d, bad.addr, dumb.addr, good.addr, spare.addr), "", "10.0.0.1:80")
	if bad.udp.Load() != 1 || dumb.udp.Load() != 1 || good.udp.Load() != 1 || spare.udp.Load() != 0 {
		t.Errorf("asked %d, %d, %d, %d times", bad.udp.Load(), dumb.udp.Load(), good.udp.Load(), spare.udp.Load())
	}
	// That a name is not there is an answer.
	none := newNameserver(t, rcode(dns.RcodeNameError))
	resolves(t, asking(app(A), none.addr, spare.addr), "A app.test.: NXDOMAIN")
	if spare.udp.Load() != 0 {
		t.Error("another server is asked whether it knows better")
	}
	// Silence may be a lost packet, and is asked into once more; a refusal is not.
	resolves(t, asking(d, bad.addr, dumb.addr), bad.addr+": REFUSED; "+dumb.addr+": no answer in 200ms")
	if bad.udp.Load() != 3 || dumb.udp.Load() != 3 {
		t.Errorf("asked %d and %d times", bad.udp.Load(), dumb.udp.Load())
	}
	resolves(t, asking(d, bad.addr), "REFUSED")
	if bad.udp.Load() != 4 {
		t.Errorf("asked %d times", bad.udp.Load())
	}
}

func TestResolversOfTheSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	c := client{resolvConf: path}
	f := func(text, want string) {
		t.Helper()
		must(t, os.WriteFile(path, []byte(text), 0o600))
		got, err := c.servers()
		if s := strings.Join(got, " "); s != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v; want %s", text, s, err, want)
		}
	}
	f("search a.test\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\noptions ndots:5\n", "10.0.0.1:53 [fe80::1%eth0]:53")
	f("# none\n", "127.0.0.1:53")
	f("nameserver ns.test\nnameserver 10.0.0.1", "10.0.0.1:53")
	f("nameserver ns.test\n", "")
	must(t, os.Remove(path))
	if _, err := c.servers(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func TestTimeToLive(t *testing.T) {
	f := func(records []string, kind RecordType, want time.Duration) {
		t.Helper()
		n := newNameserver(t, zone(t, records...))
		s := asking(app(kind), n.addr)
		s.min, s.max = 10*time.Second, 100*time.Second
		set, wait, err := s.ask(t.Context())
		if err != nil || set == nil || wait < want || wait > want+want/10 {
			t.Errorf("%q: asks again in %v, %v; want %v, or a tenth more", records, wait, err, want)
		}
	}
	f([]string{"app.test. 50 A 10.0.0.1"}, A, 50*time.Second)
	f([]string{"app.test. 0 A 10.0.0.1"}, A, 10*time.Second)
	f([]string{"app.test. 86400 A 10.0.0.1"}, A, 100*time.Second)
	// The least of all that was needed.
	f([]string{"app.test. 50 A 10.0.0.1", "app.test. 40 A 10.0.0.2", "app.test. 30 AAAA ::1"}, "", 30*time.Second)
	f([]string{"app.test. 20 CNAME b.test.", "b.test. 60 A 10.0.0.1"}, A, 20*time.Second)
	f([]string{"app.test. 60 SRV 0 0 80 b.test.", "b.test. 30 A 10.0.0.1"}, SRV, 30*time.Second)
	f([]string{"app.test. 20 SRV 0 0 80 b.test.", "b.test. 30 A 10.0.0.1"}, SRV, 20*time.Second)
	f([]string{"app.test. 20 SRV 0 0 0 ."}, SRV, 20*time.Second)
	f([]string{"app.test. 86400 SRV 0 0 0 ."}, SRV, 100*time.Second)
	f([]string{"app.test. 80 SRV 0 0 80 b.test.", "b.test. 60 CNAME c.test.", "c.test. 70 A 10.0.0.1"}, SRV, 60*time.Second)

	n := newNameserver(t, answersWith(func(m *dns.Msg) {
		m.Answer, m.Extra = rrs(t, "app.test. 60 SRV 0 0 81 a.test."), rrs(t, "a.test. 30 A 10.0.0.1")
	}))
	s := asking(app(SRV), n.addr)
	if _, ttl, err := s.resolve(t.Context()); ttl != 30*time.Second || err != nil {
		t.Errorf("with the addresses beside: %v, %v", ttl, err)
	}

	// A failure is tried again sooner, or as soon as what did well is due.
	s = newDNSSource(&DNS{Name: "app.test", Port: 80, Resolvers: []string{n.addr}})
	retry := func(h dns.HandlerFunc, want time.Duration) {
		t.Helper()
		n.behave(h)
		if _, wait, err := s.ask(t.Context()); err == nil || wait < want-want/10 || wait > want+want/10 {
			t.Errorf("tries again in %v, %v; want about %v", wait, err, want)
		}
	}
	half := byType(map[uint16]dns.HandlerFunc{dns.TypeA: zone(t, "app.test. 5 A 10.0.0.1"), dns.TypeAAAA: rcode(dns.RcodeRefused)})
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		retry(rcode(dns.RcodeRefused), want*time.Second)
	}
	retry(half, 5*time.Second)
	n.behave(zone(t, "app.test. 5 A 10.0.0.1"))
	if _, _, err := s.ask(t.Context()); err != nil {
		t.Error(err)
	}
	retry(rcode(dns.RcodeRefused), time.Second) // anew
}

// What the records are is asked for as often as they live, and reported when it changes.
func TestChangeIsSeenWhenTheRecordsExpire(t *testing.T) {
	n := newNameserver(t, zone(t, "app.test. 0 A 10.0.0.1", "app.test. 0 A 10.0.0.2"))
	w := watch(t, asking(app(""), n.addr))
	w.next("10.0.0.1:80", "10.0.0.2:80")
	n.behave(zone(t, "app.test. 0 A 10.0.0.2", "app.test. 0 A 10.0.0.1")) // rotated, as servers do
	from := n.udp.Load()
	eventually(t, "it is asked ten more times", func() bool { return n.udp.Load() >= from+10 })
	w.none()
	n.behave(zone(t, "app.test. 0 A 10.0.0.2"))
	w.next("10.0.0.2:80")
	if lines := w.log.lines(); lines != nil {
		t.Errorf("logged %q", lines)
	}
}

func TestQuestionsInFlightAreBounded(t *testing.T) {
	var records, want []string
	for i := range 60 {
		records = append(records, fmt.Sprintf("app.test. 60 SRV 0 0 81 h%d.test.", i), fmt.Sprintf("h%d.test. 60 A 10.0.0.%d", i, i))
		want = append(want, fmt.Sprintf("10.0.0.%d:81", i))
	}
	good := zone(t, records...)
	now := make(chan struct{}, atOnce)
	n := newNameserver(t, func(w dns.ResponseWriter, r *dns.Msg) {
		select {
		case now <- struct{}{}:
			<-time.After(time.Millisecond)
			<-now
		default:
			t.Error("more at once")
		}
		good(w, r)
	})
	set, _, err := asking(app(SRV), n.addr).resolve(t.Context())
	if err != nil || len(set) != len(want) {
		t.Errorf("%d endpoints, %v", len(set), err)
	}
}

// A reload waits for what it replaces: it may not be held up by a silent server.
func TestRunEndsWhileItAsks(t *testing.T) {
	n := newNameserver(t, silence)
	cfg := Config{DNS: &DNS{Name: "app.test", Type: A, Port: 80, Resolvers: []string{n.addr}, Timeout: time.Hour}}
	w := watchRun(t, cfg.Run)
	eventually(t, "it is asked", func() bool { return n.udp.Load() > 0 })
	w.stop()
	// By TCP as well.
	n.behave(func(w dns.ResponseWriter, r *dns.Msg) {
		if !overTCP(w) {
			answersWith(func(m *dns.Msg) { m.Truncated = true })(w, r)
		}
	})
	w = watchRun(t, cfg.Run)
	eventually(t, "it is asked by TCP", func() bool { return n.tcp.Load() > 0 })
	w.stop()
	w.none()
	if lines := w.log.lines(); lines != nil {
		t.Errorf("the end is logged as a failure: %q", lines)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if set, _, err := asking(app(A), n.addr).resolve(ctx); set != nil || err == nil {
		t.Errorf("after the end: %v, %v", set, err)
	}
}

// Whatever a server sends, it is addresses or an error, and never a panic.
func FuzzAnswer(f *testing.F) {
	pack := func(lines ...string) {
		m := new(dns.Msg).SetQuestion("app.test.", dns.TypeA)
		m.Response = true
		m.Answer = rrs(f, lines...)
		b, err := m.Pack()
		must(f, err)
		f.Add(b)
	}
	pack()
	pack("app.test. 60 A 10.0.0.1")
	pack("app.test. 60 CNAME b.test.", "b.test. 60 AAAA 2001:db8::1")
	pack("app.test. 60 CNAME app.test.")
	pack("app.test. 60 SRV 1 2 3 a.test.", "app.test. 60 SRV 1 0 0 .")
	f.Add([]byte("\x00\x00\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\xc0\x0c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			q := question{"app.test.", kind}
			answers(m, q)
			a, err := records(m, q)
			if (err == nil) != (len(a.addrs)+len(a.srvs) > 0) {
				t.Fatalf("%v: %+v, %v", q, a, err)
			}
			for _, addr := range a.addrs {
				if !addr.IsValid() || addr.Is4In6() {
					t.Fatalf("address %v", addr)
				}
			}
			var targets []target
			for _, s := range a.srvs {
				targets = append(targets, target{s, a.extra["a.test."]})
			}
			if err == nil && kind == dns.TypeSRV && len(a.extra["a.test."]) > 0 {
				for _, e := range endpoints(targets) {
					if *e.Weight < 1 || *e.Weight > 65535 || e.Priority < 0 || e.Priority > 127 {
						t.Fatalf("endpoint %+v", e)
					}
				}
			}
		}
	})
}
