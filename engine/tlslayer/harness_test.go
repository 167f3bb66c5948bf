package tlslayer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sluice/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not happen that %s", patience, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority signs the tests' certificates.
var authority = sync.OnceValue(func() (a struct {
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	roots *x509.CertPool
}) {
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, _ := x509.CreateCertificate(rand.Reader, &template, &template, &a.key.PublicKey, a.key)
	a.cert, _ = x509.ParseCertificate(der)
	a.roots = x509.NewCertPool()
	a.roots.AddCert(a.cert)
	return a
})

func certificate(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, &template, authority().cert, &key.PublicKey, authority().key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func serverConfig(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate(t, "edge.test")}}
}

func clientConfig() *tls.Config {
	return &tls.Config{RootCAs: authority().roots, ServerName: "edge.test"}
}

func newEngine(t testing.TB, loops int) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Config{Loops: loops, Memory: 16 << 20}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	must(t, err)
	e.Start()
	t.Cleanup(e.Stop)
	return e
}

// proxy relays every connection to one upstream address: with TLS towards the clients if front is set, and towards the
// upstream if back is.
type proxy struct {
	*engine.Listener
	engine      *engine.Engine
	crew        *Handshaker
	front, back *tls.Config
	to          []engine.Addr
	relays      atomic.Int64 // open
	timeouts    atomic.Int64 // that the owner was told of
	ended       chan error   // of relays
	failed      chan error   // handshakes of either side
	states      chan *tls.ConnectionState
	plain       atomic.Pointer[func(c *engine.Conn)] // is given those that speak HTTP
	layer       atomic.Pointer[layer]                // of the client that came last
	secured     atomic.Pointer[func(c *engine.Conn)] // is given the clients, if there is no upstream
}

type session struct {
	engine.Relay
	p      *proxy
	client *engine.Conn
}

func newProxy(t testing.TB, cfg Config, front, back *tls.Config, to net.Addr, o engine.ListenOptions) *proxy {
	t.Helper()
	p := &proxy{engine: newEngine(t, 2), crew: New(cfg), front: front, back: back,
		ended: make(chan error, 1<<14), failed: make(chan error, 1<<14), states: make(chan *tls.ConnectionState, 1<<14)}
	if to != nil {
		p.to = []engine.Addr{engine.NewAddr(netip.MustParseAddrPort(to.String()))}
	}
	ln, err := p.engine.ListenWith("127.0.0.1:0", o, engine.Terms{Handler: p})
	must(t, err)
	p.Listener = ln
	t.Cleanup(func() {
		ln.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.engine.Drain(ctx); err != nil {
			t.Error(err)
		}
		eventually(t, "no handshake is under way", func() bool { return p.crew.Counters().UnderWay.Load() == 0 })
		for _, l := range p.engine.Loops() {
			done := make(chan struct{})
			l.Post(func() {
				l.Post(func() { close(done) }) // so that the turn has told what it holds
			})
			<-done
		}
		eventually(t, "nothing is held", func() bool { return p.engine.Held() == 0 })
	})
	return p
}

func (p *proxy) Accept(c *engine.Conn) {
	s := &session{p: p, client: c}
	c.SetHandler(s)
	if p.front == nil && p.to == nil {
		(*p.secured.Load())(c)
		return
	}
	if p.front == nil {
		s.connect()
		return
	}
	if err := p.crew.Server(c, p.front, s); err != nil {
		c.Reset()
		p.failed <- err
		return
	}
	p.layer.Store(c.Handler().(*handshake).y)
}

func (s *session) connect() {
	if s.p.to == nil {
		return // it is the test's
	}
	if _, err := s.client.Loop().Dial(s.p.to, patience, s); err != nil {
		s.client.Reset()
	}
}

func (s *session) Ready(c *engine.Conn) {
	if s.p.to == nil && c.Loop().Draining() {
		c.Close()
	}
}
func (s *session) Timeout(*engine.Conn) { s.p.timeouts.Add(1) }
func (s *session) Connected(up *engine.Conn, err error) {
	switch {
	case err != nil || s.client.Closed():
		s.client.Reset()
		if err == nil {
			up.Reset()
		}
	case s.p.back == nil:
		s.relay(up)
	default:
		if err := s.p.crew.Client(up, s.p.back, s); err != nil {
			s.p.failed <- err
			s.client.Reset()
			up.Reset()
		}
	}
}

func (s *session) Secured(c *engine.Conn, state *tls.ConnectionState, err error) {
	switch {
	case errors.Is(err, ErrPlainHTTP) && s.p.plain.Load() != nil:
		(*s.p.plain.Load())(c)
	case err != nil:
		s.p.failed <- err
		if !c.Closed() {
			c.Reset()
		}
		s.client.Reset()
	case c == s.client && s.p.secured.Load() != nil:
		(*s.p.secured.Load())(c)
	case c == s.client:
		s.p.states <- state
		s.connect()
	default:
		s.p.states <- state
		s.relay(c)
	}
}

func (s *session) relay(up *engine.Conn) {
	if s.client.Closed() {
		up.Reset()
		return
	}
	s.p.relays.Add(1)
	s.Start(s.client, up, time.Minute, s)
}

func (s *session) Ended(_ *engine.Relay, err error) {
	s.p.relays.Add(-1)
	s.p.ended <- err
}

// upstream serves every connection with f on a goroutine, and closes it.
func upstream(t testing.TB, f func(c *net.TCPConn)) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return ln.Addr()
}

func echo(c *net.TCPConn) {
	if _, err := io.Copy(c, c); err == nil {
		_ = c.CloseWrite()
	}
}

// tlsEcho is echo over TLS.
func tlsEcho(cfg *tls.Config) func(*net.TCPConn) {
	return func(raw *net.TCPConn) {
		c := tls.Server(strict{raw}, cfg)
		if _, err := io.Copy(c, c); err == nil {
			_ = c.CloseWrite()
		}
	}
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// strict is a connection whose end is an error for crypto/tls, which is content with a FIN between two records otherwise.
type strict struct{ *net.TCPConn }

var errFIN = errors.New("FIN without close_notify")

func (s strict) Read(p []byte) (int, error) {
	n, err := s.TCPConn.Read(p)
	if err == io.EOF {
		err = errFIN
	}
	return n, err
}

// raw is the socket below c.
func raw(c *tls.Conn) *net.TCPConn { return c.NetConn().(strict).TCPConn }

func dialTLS(t testing.TB, addr string, cfg *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(strict{dial(t, addr)}, cfg)
	must(t, c.Handshake())
	return c
}

func exchange(t testing.TB, c net.Conn, say string) {
	t.Helper()
	_, err := io.WriteString(c, say)
	must(t, err)
	b := make([]byte, len(say))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != say {
		t.Fatalf("%q came back as %q, %v", say, b, err)
	}
}

// next waits for one of ch.
func next[T any](t testing.TB, ch chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came in %v", patience)
		panic("unreachable")
	}
}

// tinySendBuffer shrinks the send buffer of the socket from local to peer, which is one of this process: the kernel takes
// less than a record at once then.
func tinySendBuffer(t testing.TB, local, peer net.Addr) {
	t.Helper()
	is := func(sa unix.Sockaddr, err error, a net.Addr) bool {
		v4, ok := sa.(*unix.SockaddrInet4)
		return err == nil && ok && netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port)) == a.(*net.TCPAddr).AddrPort()
	}
	for fd := range 1 << 10 {
		sa, err := unix.Getsockname(fd)
		if !is(sa, err, local) {
			continue
		}
		if sa, err = unix.Getpeername(fd); is(sa, err, peer) {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error("the socket was not found")
}
