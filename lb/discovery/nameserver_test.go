package discovery

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// nameserver is a DNS server on loopback, by UDP and TCP, whose behaviour can be changed.
type nameserver struct {
	addr     string
	handler  atomic.Pointer[dns.HandlerFunc]
	udp, tcp atomic.Int64 // questions
}

// behave has h answer from now on.
func (n *nameserver) behave(h dns.HandlerFunc) { n.handler.Store(&h) }

func (n *nameserver) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	if overTCP(w) {
		n.tcp.Add(1)
	} else {
		n.udp.Add(1)
	}
	(*n.handler.Load())(w, r)
}

func overTCP(w dns.ResponseWriter) bool { return w.RemoteAddr().Network() == "tcp" }

func newNameserver(t testing.TB, h dns.HandlerFunc) *nameserver {
	t.Helper()
	n := &nameserver{}
	n.behave(h)
	pc, ln := bothPorts(t)
	n.addr = ln.Addr().String()
	var running sync.WaitGroup
	t.Cleanup(func() { running.Wait() })
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: n}, {Listener: ln, Handler: n}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		running.Go(func() { _ = s.ActivateAndServe() })
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return n
}

// bothPorts listens by UDP and TCP on one port.
func bothPorts(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return pc, ln
		}
		ln.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// rrs are the records that lines describe.
func rrs(t testing.TB, lines ...string) (out []dns.RR) {
	t.Helper()
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		must(t, err)
		out = append(out, rr)
	}
	return out
}

// zone answers with records, as a resolver does: CNAMEs followed; NXDOMAIN for names that have none.
func zone(t testing.TB, lines ...string) dns.HandlerFunc {
	t.Helper()
	records := rrs(t, lines...)
	return func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		q := r.Question[0]
		there := false
		for name := dns.CanonicalName(q.Name); name != "" && len(m.Answer) < 64; {
			next := ""
			for _, rr := range records {
				h := rr.Header()
				if dns.CanonicalName(h.Name) != name {
					continue
				}
				there = true
				c, ok := rr.(*dns.CNAME)
				if ok {
					next = dns.CanonicalName(c.Target)
				}
				if ok || h.Rrtype == q.Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
			name = next
		}
		if !there {
			m.Rcode = dns.RcodeNameError
		}
		if opt := r.IsEdns0(); !overTCP(w) && opt != nil {
			m.Truncate(int(opt.UDPSize()))
		}
		_ = w.WriteMsg(m)
	}
}

// answersWith answers every question with what alter makes of an empty answer.
func answersWith(alter func(m *dns.Msg)) dns.HandlerFunc {
	return func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		alter(m)
		_ = w.WriteMsg(m)
	}
}

// rcode answers every question with code.
func rcode(code int) dns.HandlerFunc { return answersWith(func(m *dns.Msg) { m.Rcode = code }) }

// silence answers nothing.
func silence(dns.ResponseWriter, *dns.Msg) {}

// byType answers each type of question in its own way.
func byType(ways map[uint16]dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, r *dns.Msg) { ways[r.Question[0].Qtype](w, r) }
}

// byName answers the questions for each name in their own way.
func byName(ways map[string]dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, r *dns.Msg) { ways[strings.ToLower(r.Question[0].Name)](w, r) }
}
