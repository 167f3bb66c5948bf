package lb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	judge "github.com/pires/go-proxyproto"

	"sluice/engine"
)

// front is an edge with everything that may come before a session.
type front struct {
	*edge
	preface  *PrefaceCounters
	clusters map[string]*Cluster
}

// frontConfig is what a tcp listener may be given; the zero value is newEdge's.
type frontConfig struct {
	address string
	socket  engine.ListenOptions
	preface PrefaceConfig
	session ProxyConfig
}

// newFront runs a listener of one loop in front of clusters, the first of which is the edge's, and the default if there
// is no SNI.
func newFront(t testing.TB, cfg frontConfig, clusters ...Config) *front {
	t.Helper()
	e := newEngine(t, 1)
	f := &front{clusters: map[string]*Cluster{}}
	for _, c := range clusters {
		f.clusters[c.Name] = newCluster(t, e, c)
	}
	if cfg.address == "" {
		cfg.address = "127.0.0.1:0"
	}
	if cfg.session.Cluster == "" && cfg.session.SNI == nil {
		cfg.session.Cluster = clusters[0].Name
	}
	wrong := func(path, message string) { t.Helper(); t.Fatalf("%s: %s", path, message) }
	cfg.preface.Validate(wrong)
	cfg.session.Validate(wrong)
	stats := &ProxyStats{Loops: make([]ProxyCounters, 1)}
	before := &PrefaceStats{Loops: make([]PrefaceCounters, 1)}
	p := NewProxy(cfg.session, cfg.preface.SendProxyProtocol, func(name string) *Cluster { return f.clusters[name] }, stats, quiet)
	ln, err := e.ListenWith(cfg.address, cfg.socket, engine.Terms{Handler: NewPreface(cfg.preface, p, before)})
	must(t, err)
	f.edge = &edge{t, e, ln, f.clusters[clusters[0].Name], &stats.Loops[0]}
	f.preface = &before.Loops[0]
	return f
}

func (f *front) loop() *engine.Loop { return f.engine.Loops()[0] }

// turn waits until the loop has served what had come.
func (f *front) turn() { on(f.loop(), func() {}) }

// drip sends b so that the loop sees it grow byte by byte.
func (f *front) drip(c net.Conn, b []byte) {
	f.t.Helper()
	for i := range b {
		_, err := c.Write(b[i : i+1])
		must(f.t, err)
		f.turn()
	}
}

// prefaced waits until the counters of what comes before sessions read so.
func (f *front) prefaced(malformed, untrusted, expired uint64) {
	f.t.Helper()
	want := [...]uint64{malformed, untrusted, expired}
	var got [len(want)]uint64
	for deadline := time.Now().Add(patience); got != want; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("malformed, untrusted, expired: %d, want %d", got, want)
		}
		n := f.preface
		got = [...]uint64{n.Malformed.Load(), n.Untrusted.Load(), n.Expired.Load()}
	}
}

// rejects checks that a client from an address, or any, that says what is reset, and has got nothing.
func (f *front) rejects(from, what string, fin bool) {
	f.t.Helper()
	d, network := net.Dialer{Timeout: patience}, "tcp"
	if from != "" { // else a refusal over one family would be tried again over the other
		d.LocalAddr, network = &net.TCPAddr{IP: net.ParseIP(from)}, "tcp4"
	}
	var b []byte
	c, err := d.Dial(network, f.listener.Bound())
	if err == nil {
		defer c.Close()
		must(f.t, c.SetDeadline(time.Now().Add(patience)))
		if _, err = io.WriteString(c, what); err == nil {
			if fin {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			b, err = io.ReadAll(c)
		}
	}
	if len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		f.t.Errorf("after %q the client got %q, %v; want a reset", what, b, err)
	}
}

// says has a client send what, with FIN behind it, and is the answer.
func (f *front) says(from, what string) string {
	f.t.Helper()
	c := f.dial(from)
	_, err := io.WriteString(c, what)
	must(f.t, err)
	must(f.t, c.CloseWrite())
	b, err := io.ReadAll(c)
	must(f.t, err)
	return string(b)
}

// sessions are those of ep on the loop, at what stage they are.
func (f *front) sessions(ep *Endpoint) (stages []stage) {
	on(f.loop(), func() {
		for h := ep.Local(f.loop()).held; h != nil; h = h.next {
			stages = append(stages, h.session.stage)
		}
	})
	return stages
}

// reaches waits until ep has one session, and it is at that stage.
func (f *front) reaches(ep *Endpoint, want stage) {
	f.t.Helper()
	eventually(f.t, fmt.Sprintf("%s has one session, at stage %d", ep, want), func() bool {
		s := f.sessions(ep)
		return len(s) == 1 && s[0] == want
	})
}

// header1 is a PROXY header of version 1, as anybody would write it.
func header1(source, dest string) string {
	s, d := netip.MustParseAddrPort(source), netip.MustParseAddrPort(dest)
	family := "TCP6"
	if s.Addr().Is4() {
		family = "TCP4"
	}
	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, s.Addr(), d.Addr(), s.Port(), d.Port())
}

// header2 is one of version 2, as go-proxyproto writes it.
func header2(t testing.TB, source, dest string, tlvs ...judge.TLV) string {
	t.Helper()
	h := judge.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)),
		net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dest)))
	return format(t, h, tlvs...)
}

func format(t testing.TB, h *judge.Header, tlvs ...judge.TLV) string {
	t.Helper()
	must(t, h.SetTLVs(tlvs))
	b, err := h.Format()
	must(t, err)
	return string(b)
}

// told is what an endpoint heard of one connection: its PROXY header as go-proxyproto reads it, nil if there was none,
// and the rest.
type told struct {
	header *judge.Header
	tlvs   map[judge.PP2Type]string
	rest   string
}

// telling is an endpoint that passes on what it was told, and answers as named does.
func telling(t testing.TB, name string) (address string, heard <-chan told) {
	ch := make(chan told, 100)
	return serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		r := bufio.NewReader(c)
		h, err := judge.Read(r)
		if err != nil && !errors.Is(err, judge.ErrNoProxyProtocol) {
			t.Errorf("endpoint %s cannot read its PROXY header: %v", name, err)
			return
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			return
		}
		x := told{h, map[judge.PP2Type]string{}, string(rest)}
		if h != nil {
			tlvs, err := h.TLVs()
			if err != nil {
				t.Errorf("endpoint %s cannot read its TLVs: %v", name, err)
			}
			for _, v := range tlvs {
				x.tlvs[v.Type] = string(v.Value)
			}
		}
		ch <- x
		_, _ = fmt.Fprintf(c, "%s: %s", name, rest)
	}), ch
}

// client is who the header names.
func (x *told) client() string {
	switch {
	case x.header == nil:
		return "no header"
	case x.header.TransportProtocol == judge.UNSPEC || x.header.Command.IsLocal():
		return "nobody"
	}
	return x.header.SourceAddr.String()
}
