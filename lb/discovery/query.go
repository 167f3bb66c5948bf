package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// client asks DNS servers. Safe for several goroutines.
type client struct {
	resolvers  []string
	resolvConf string
	timeout    time.Duration
}

// udpSize is the size of answer that fits everywhere without fragments (DNS flag day 2020); what is longer is asked for
// by TCP. Servers that do not care for it are read all the same.
const (
	udpSize = 1232
	udpRead = dns.MaxMsgSize
)

// maxChain bounds a chain of CNAMEs.
const maxChain = 16

// atOnce bounds the questions in flight: hundreds of targets must not look like an attack.
const atOnce = 16

// question is what is asked: a name, lower case, with the last dot.
type question struct {
	name string
	kind uint16
}

func (q question) String() string { return dns.TypeToString[q.kind] + " " + q.name }

// answer is what a server said to a question.
type answer struct {
	addrs []netip.Addr            // of A and AAAA
	srvs  []*dns.SRV              // of SRV
	extra map[string][]netip.Addr // addresses of other names, that came with SRV
	ttl   time.Duration
	err   error
}

var (
	errNXDomain = errors.New("NXDOMAIN: no such name")
	errNoData   = errors.New("no such records")
)

// servers are those to ask, as host:port.
func (c *client) servers() ([]string, error) {
	from := c.resolvers
	if len(from) == 0 {
		conf, err := dns.ClientConfigFromFile(c.resolvConf)
		if err != nil {
			return nil, err
		}
		if from = conf.Servers; len(from) == 0 {
			from = []string{"127.0.0.1"} // resolv.conf(5)
		}
	}
	var out []string
	for _, s := range from {
		if a, err := resolverAddr(s); err == nil {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no usable nameserver", c.resolvConf)
	}
	return out, nil
}

// resolverAddr is host:port of a resolver's address, which may have no port.
func resolverAddr(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53).String(), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		return "", fmt.Errorf("%q is not an IP address, with or without a port", s)
	}
	return ap.String(), nil
}

// lookupAll asks questions, some at once, and has their answers in the same order.
func (c *client) lookupAll(ctx context.Context, servers []string, questions []question) []answer {
	out := make([]answer, len(questions))
	slots := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for i, q := range questions {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			out[i], out[i].err = c.lookup(ctx, servers, q)
		})
	}
	running.Wait()
	return out
}

// lookup asks servers in turn, until one says something that is an answer: that a name or record is not there is one,
// and an error. If all have failed and one of them by silence, which may be a lost packet, they are asked once more.
func (c *client) lookup(ctx context.Context, servers []string, q question) (answer, error) {
	var failed []string
	for range 2 {
		failed = failed[:0]
		silence := false
		for _, s := range servers {
			m, err := c.exchange(ctx, s, q)
			if ctx.Err() != nil {
				return answer{}, ctx.Err()
			}
			if err == nil {
				switch m.Rcode {
				case dns.RcodeSuccess:
					return records(m, q)
				case dns.RcodeNameError:
					return answer{}, errNXDomain
				}
				err = errors.New(or(dns.RcodeToString[m.Rcode], "RCODE "+strconv.Itoa(m.Rcode)))
			}
			silence = silence || errors.Is(err, os.ErrDeadlineExceeded)
			failed = append(failed, s+": "+err.Error())
		}
		if !silence {
			break
		}
	}
	return answer{}, errors.New(strings.Join(failed, "; "))
}

// exchange asks one server: by UDP, and by TCP if the answer was too long for it. A server that does not know EDNS0
// (RFC 6891 section 7) is asked without.
func (c *client) exchange(ctx context.Context, server string, q question) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(q.name, q.kind) // a random id; and each socket has a random port
	m.SetEdns0(udpSize, false)
	r, err := c.send(ctx, "udp", server, m, q)
	if err == nil && (r.Rcode == dns.RcodeFormatError || r.Rcode == dns.RcodeNotImplemented) {
		m.Extra = nil
		r, err = c.send(ctx, "udp", server, m, q)
	}
	if err == nil && r.Truncated {
		if r, err = c.send(ctx, "tcp", server, m, q); err == nil && r.Truncated {
			return nil, errors.New("truncated by TCP")
		}
	}
	return r, err
}

// send sends m and waits for its answer. What is not that (another id, another question, garbage) may be a forgery, and
// is passed over: the answer may still come (RFC 5452 section 9.1).
func (c *client) send(ctx context.Context, network, server string, m *dns.Msg, q question) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, c.reason(err, "")
	}
	defer conn.Close()
	// The end of ctx, be it the timeout or the source's own, ends what conn waits for.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	dc := dns.Conn{Conn: conn, UDPSize: udpRead}
	if err := dc.WriteMsg(m); err != nil {
		return nil, c.reason(err, "")
	}
	for passed := ""; ; {
		p, err := dc.ReadMsgHeader(nil)
		if err != nil && !errors.Is(err, dns.ErrShortRead) {
			return nil, c.reason(err, passed)
		}
		r := new(dns.Msg)
		if err == nil {
			err = r.Unpack(p)
		}
		switch {
		case err != nil && !r.Truncated:
			passed = "one was malformed"
		case r.Id != m.Id:
			passed = "one had another id"
		case !answers(r, q):
			passed = "one was to another question"
		default:
			return r, nil
		}
	}
}

// answers says whether r answers q. A server that did not understand the question may not repeat it.
func answers(r *dns.Msg, q question) bool {
	if !r.Response || r.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(r.Question) == 0 {
		return r.Rcode == dns.RcodeFormatError || r.Rcode == dns.RcodeNotImplemented
	}
	return len(r.Question) == 1 &&
		dns.CanonicalName(r.Question[0].Name) == q.name &&
		r.Question[0].Qtype == q.kind && r.Question[0].Qclass == dns.ClassINET
}

// reason is err without the ports of our side, which would make each failure look new.
func (c *client) reason(err error, passed string) error {
	if passed != "" {
		passed = " (" + passed + ")"
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return fmt.Errorf("no answer in %v%s: %w", c.timeout, passed, os.ErrDeadlineExceeded)
	}
	var oe *net.OpError
	if errors.As(err, &oe) {
		err = oe.Err
	}
	return fmt.Errorf("%w%s", err, passed)
}

// records are what m has to say to q, at the end of the CNAMEs that begin at its name. The time to live is the least of
// all that was needed.
func records(m *dns.Msg, q question) (answer, error) {
	ans, name := answer{ttl: 1 << 31 * time.Second}, q.name
	for range maxChain {
		next := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != name {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok {
				next = dns.CanonicalName(c.Target)
			} else if h.Rrtype != q.kind || !ans.add(rr) {
				continue
			}
			ans.ttl = min(ans.ttl, time.Duration(h.Ttl)*time.Second)
		}
		if len(ans.addrs)+len(ans.srvs) > 0 {
			ans.more(m, q)
			return ans, nil
		}
		if next == "" {
			if name != q.name {
				return answer{}, fmt.Errorf("%w at %s, where its CNAME leads", errNoData, name)
			}
			return answer{}, errNoData
		}
		name = next
	}
	return answer{}, fmt.Errorf("%w: more than %d CNAMEs", errNoData, maxChain)
}

// add adds a record of the answer; it says whether it is one that can be used.
func (a *answer) add(rr dns.RR) bool {
	if srv, ok := rr.(*dns.SRV); ok {
		a.srvs = append(a.srvs, srv)
		return true
	}
	addr, ok := addrOf(rr)
	if ok {
		a.addrs = append(a.addrs, addr)
	}
	return ok
}

// more adds the addresses of an SRV answer's targets that came with it.
func (a *answer) more(m *dns.Msg, q question) {
	if q.kind != dns.TypeSRV {
		return
	}
	a.extra = map[string][]netip.Addr{}
	for _, rr := range m.Extra {
		h := rr.Header()
		if addr, ok := addrOf(rr); ok && h.Class == dns.ClassINET {
			name := dns.CanonicalName(h.Name)
			a.extra[name] = append(a.extra[name], addr)
			a.ttl = min(a.ttl, time.Duration(h.Ttl)*time.Second)
		}
	}
}

// addrOf is the address of an A or AAAA record.
func addrOf(rr dns.RR) (a netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		a, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		a, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap(), ok
}
