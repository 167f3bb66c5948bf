package cli

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"strings"
	"syscall"
	"testing"

	"sluice/lb/proxyproto"
)

// terminates is a listener that terminates TLS and goes on to plain endpoints, or, where the name is secure.test, to such that
// speak TLS. LISTENER is more of it, SECURE of the latter cluster.
const terminates = `listeners:
  - name: edge
    address: "127.0.0.1:0"
    protocol: tls
    tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}]}
    cluster: plain
    sni: [{names: [secure.test, "*.secure.test"], cluster: secure}]
clusters:
  - {name: plain, endpoints: [address: PLAIN]}
  - {name: secure, tls: {ca: DIR/ca.pem}, endpoints: [address: SECURE]}
engine: {loops: 1}
`

// far is a listener that an edge dials, the accepted connections by turns.
type far struct {
	t       testing.TB
	address string
	conns   chan net.Conn
}

func listenFar(t testing.TB, cfg *tls.Config) far {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := far{t, ln.Addr().String(), make(chan net.Conn, 16)}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if cfg != nil {
				s := tls.Server(&tap{TCPConn: c.(*net.TCPConn)}, cfg)
				go func() {
					_ = s.Handshake() // a client that waits to be spoken to would wait for ever
					f.conns <- s
				}()
				continue
			}
			f.conns <- c
		}
	}()
	return f
}

func (f far) next() net.Conn {
	f.t.Helper()
	select {
	case c := <-f.conns:
		f.t.Cleanup(func() { c.Close() })
		return c
	case <-within():
		f.t.Fatal("nobody comes")
		return nil
	}
}

// meet is a client's connection through the edge, and its other end.
func (e edge) meet(p pki, name string, f far) (*tls.Conn, net.Conn) {
	e.t.Helper()
	cfg := p.client()
	cfg.ServerName = name
	cfg.InsecureSkipVerify = true
	c := e.dial("edge", cfg)
	return c, f.next()
}

func sessionsBefore(t testing.TB, p pki, plain, secure far) edge {
	t.Helper()
	text := strings.NewReplacer("PLAIN", plain.address, "SECURE", secure.address).Replace(terminates)
	return startEdge(t, p.in(text))
}

// eachFar runs a test with endpoints in clear and of TLS.
func eachFar(t *testing.T, f func(t *testing.T, client *tls.Conn, far net.Conn)) {
	p := newPKI(t)
	plain, secure := listenFar(t, nil), listenFar(t, shows(p.host))
	e := sessionsBefore(t, p, plain, secure)
	for name, to := range map[string]far{"a.test": plain, "secure.test": secure, "x.secure.test": secure} {
		t.Run(name, func(t *testing.T) {
			c, s := e.meet(p, name, to)
			f(t, c, s)
		})
	}
}

func read(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("%q, want %q: %v", got[:n], want, err)
	}
}

func say(t testing.TB, w io.Writer, what string) {
	t.Helper()
	_, err := io.WriteString(w, what)
	must(t, err)
}

// closeWrite ends one direction.
func closeWrite(t testing.TB, c net.Conn) {
	t.Helper()
	must(t, c.(interface{ CloseWrite() error }).CloseWrite())
}

// ends reads the end of a direction, as a clean one.
func ends(t testing.TB, c io.Reader) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes and %v, want io.EOF", n, err)
	}
	if s, ok := c.(*tls.Conn); ok && !s.NetConn().(*tap).notified() {
		t.Error("no close_notify came before the end")
	}
}

// Either side may end its direction first: the other goes on, and its end is clean too.
func TestHalfClosesAreRelayedThroughTLS(t *testing.T) {
	for name, flip := range map[string]bool{"client first": false, "endpoint first": true} {
		t.Run(name, func(t *testing.T) {
			eachFar(t, func(t *testing.T, client *tls.Conn, far net.Conn) {
				var first, second net.Conn = client, far
				if flip {
					first, second = far, client
				}
				say(t, first, "question")
				closeWrite(t, first)
				read(t, second, "question")
				ends(t, second)
				say(t, second, "answer")
				read(t, first, "answer")
				say(t, second, ", and more")
				closeWrite(t, second)
				read(t, first, ", and more")
				ends(t, first)
			})
		})
	}
}

// A direction that is cut off, by FIN without close_notify or by RST, is not passed on as one that has ended.
func TestTruncationIsPassedOnAsReset(t *testing.T) {
	cuts := map[string]func(t *testing.T, c net.Conn){
		"FIN": func(t *testing.T, c net.Conn) { closeWrite(t, c.(*tls.Conn).NetConn()) },
		"RST": func(t *testing.T, c net.Conn) {
			if s, ok := c.(*tls.Conn); ok {
				c = s.NetConn()
			}
			must(t, c.(interface{ SetLinger(int) error }).SetLinger(0))
			c.Close()
		},
	}
	for how, cut := range cuts {
		t.Run("by the client "+how, func(t *testing.T) {
			eachFar(t, func(t *testing.T, client *tls.Conn, far net.Conn) {
				say(t, client, "part")
				read(t, far, "part")
				cut(t, client)
				if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the endpoint reads %v", err)
				}
			})
		})
		t.Run("by the endpoint "+how, func(t *testing.T) {
			eachFar(t, func(t *testing.T, client *tls.Conn, far net.Conn) {
				if _, plain := far.(*net.TCPConn); plain && how == "FIN" {
					return // that is an end
				}
				say(t, far, "part")
				read(t, client, "part")
				cut(t, far)
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client reads %v", err)
				}
			})
		})
	}
}

// Transfers far beyond what buffers hold are whole, both directions at once, each reader slower than its writer.
func TestLargeTransfersThroughTLSAreWhole(t *testing.T) {
	const size = 32 << 20
	data := make([]byte, size)
	rand.New(rand.NewSource(2)).Read(data)
	want := sha256.Sum256(data)
	eachFar(t, func(t *testing.T, client *tls.Conn, far net.Conn) {
		done := make(chan error, 4)
		for _, c := range []net.Conn{client, far} {
			go func() {
				_, err := io.Copy(c, bytes.NewReader(data))
				if err == nil {
					err = c.(interface{ CloseWrite() error }).CloseWrite()
				}
				done <- err
			}()
			go func() {
				sum := sha256.New()
				n, err := io.CopyBuffer(sum, struct{ io.Reader }{c}, make([]byte, 3000))
				if err == nil && !bytes.Equal(sum.Sum(nil), want[:]) {
					err = fmt.Errorf("%d bytes, not those that were sent", n)
				}
				done <- err
			}()
		}
		for range 4 {
			must(t, <-done)
		}
	})
}

// The endpoint is told in the PROXY header what the client has asked for, and what was agreed on.
func TestPROXYHeadersTellOfTLS(t *testing.T) {
	p := newPKI(t)
	address, headers := precededOrigin(t, shows(p.host))
	plain := listenFar(t, nil)
	e := startEdge(t, p.in(strings.NewReplacer("PLAIN", plain.address, "SECURE", address).Replace(
		strings.NewReplacer("cluster: plain\n", "cluster: plain\n    send_proxy_protocol: v2\n", "DIR/host.key}]", "DIR/host.key}], alpn: [b, http/1.1]").Replace(terminates))))

	cfg := p.client()
	cfg.ServerName, cfg.InsecureSkipVerify, cfg.NextProtos = "A.TEST", true, []string{"a", "http/1.1", "b"}
	client := e.dial("edge", cfg)
	far := plain.next()
	say(t, client, "x")
	b := make([]byte, proxyproto.MaxSize)
	n, err := io.ReadAtLeast(far, b, 16)
	must(t, err)
	for !bytes.HasSuffix(b[:n], []byte("x")) {
		m, err := far.Read(b[n:])
		must(t, err)
		n += m
	}
	var h proxyproto.Header
	if _, err := proxyproto.Scan(b[:n], &h); err != nil || string(h.SNI) != "a.test" || string(h.ALPN) != "b" || h.Source.String() != client.LocalAddr().String() {
		t.Errorf("%q, %q from %v: %v", h.SNI, h.ALPN, h.Source, err)
	}

	cfg.ServerName = "secure.test"
	secured := e.dial("edge", cfg)
	if resp, _ := asked(t, secured, getRoot); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if h := <-headers; string(h.SNI) != "secure.test" || string(h.ALPN) != "b" || h.Source.String() != secured.LocalAddr().String() {
		t.Errorf("before TLS: %q from %v", h.SNI, h.Source)
	}
}

// Without a cluster for the others, a client that asks for another name gets nothing.
func TestNamesThatNoClusterHasAreNotServed(t *testing.T) {
	p := newPKI(t)
	secure := listenFar(t, shows(p.host))
	e := startEdge(t, p.in(strings.NewReplacer("    cluster: plain\n", "", "PLAIN", secure.address, "SECURE", secure.address).Replace(terminates)))
	c := e.dial("edge", p.client())
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("served")
	}
	n := e.current.Load().named("edge").tcp
	if got := n.Loops[0].NoName.Load(); got != 1 {
		t.Errorf("%d are counted", got)
	}
}

// A listener of TLS ends sessions that nothing moves on, and says so by close_notify.
func TestIdleSessionsOfTLSEnd(t *testing.T) {
	p := newPKI(t)
	plain := listenFar(t, nil)
	e := startEdge(t, p.in(strings.NewReplacer("cluster: plain\n", "cluster: plain\n    session_timeout: 50ms\n", "PLAIN", plain.address, "SECURE", plain.address).Replace(terminates)))
	client, far := e.meet(p, "a.test", plain)
	_ = far.SetDeadline(deadline())
	ends(t, client)
	ends(t, far)
}
