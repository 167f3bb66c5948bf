package tlslayer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"sluice/engine"
)

// versions are the configurations that what is about records is tried with.
var versions = []struct {
	name string
	set  func(*tls.Config)
}{
	{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
	{"TLS 1.2 CBC", func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	}},
	{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }},
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// both runs say up and hears it back, at the same time, and ends in the order of a good client.
func both(t *testing.T, c interface {
	net.Conn
	CloseWrite() error
}, say []byte) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := c.Write(say); err != nil {
			t.Error(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	heard, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	if !bytes.Equal(heard, say) {
		t.Errorf("%d bytes came back of %d, or others", len(heard), len(say))
	}
	all.Wait()
}

func TestRelayTerminates(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			cfg := clientConfig()
			v.set(cfg)
			p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
			c := dialTLS(t, p.Bound(), cfg)
			exchange(t, c, "hello")
			both(t, c, noise(8<<20))
			if err := next(t, p.ended); err != nil {
				t.Errorf("the relay ended with %v", err)
			}
			for _, l := range p.engine.Loops() {
				if n := l.Counters().Spliced.Load(); n > 0 {
					t.Errorf("%d bytes were spliced", n)
				}
			}
		})
	}
}

func TestRelayOriginates(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			cfg := clientConfig()
			v.set(cfg)
			p := newProxy(t, Config{}, nil, cfg, upstream(t, tlsEcho(serverConfig(t))), engine.ListenOptions{})
			both(t, dial(t, p.Bound()), noise(8<<20))
			if err := next(t, p.ended); err != nil {
				t.Errorf("the relay ended with %v", err)
			}
		})
	}
}

func TestRelayTLSToTLSThroughTinyBuffers(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			cfg := clientConfig()
			v.set(cfg)
			backend := serverConfig(t)
			p := newProxy(t, Config{}, serverConfig(t), cfg, upstream(t, func(c *net.TCPConn) {
				tinySendBuffer(t, c.RemoteAddr(), c.LocalAddr())
				tlsEcho(backend)(c)
			}), engine.ListenOptions{})
			c := dialTLS(t, p.Bound(), cfg)
			tinySendBuffer(t, c.RemoteAddr(), c.LocalAddr())
			both(t, c, noise(2<<20))
			if err := next(t, p.ended); err != nil {
				t.Errorf("the relay ended with %v", err)
			}
		})
	}
}

// A long chain is more than a handshake reads ahead.
func TestLongCertificateChains(t *testing.T) {
	long := certificate(t, "edge.test")
	for range 200 {
		long.Certificate = append(long.Certificate, authority().cert.Raw)
	}
	server := &tls.Config{Certificates: []tls.Certificate{long}, ClientAuth: tls.RequireAnyClientCert}
	client := clientConfig()
	client.Certificates = []tls.Certificate{long}
	for _, v := range versions {
		cfg := client.Clone()
		v.set(cfg)
		p := newProxy(t, Config{}, server, cfg, upstream(t, tlsEcho(server)), engine.ListenOptions{})
		c := dialTLS(t, p.Bound(), cfg)
		exchange(t, c, "hello")
		must(t, c.Close())
	}
}

func TestClientThatNeverReadsStallsItsSender(t *testing.T) {
	const room = 64 << 20 // beyond all buffers
	sent := make(chan int, 1)
	p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, func(c *net.TCPConn) {
		n, _ := c.Write(make([]byte, room))
		sent <- n
	}), engine.ListenOptions{})
	c := dialTLS(t, p.Bound(), clientConfig())
	eventually(t, "ciphertext waits", func() bool { return p.engine.Held() > 0 })
	eventually(t, "all stands still", func() bool {
		for _, l := range p.engine.Loops() {
			if l.Held() > 2*engine.LargeBuffer {
				t.Fatalf("%d bytes are held for one connection", l.Held())
			}
		}
		return p.relays.Load() == 1
	})
	must(t, raw(c).SetLinger(0))
	must(t, raw(c).Close())
	if err := next(t, p.ended); err == nil {
		t.Error("a reset was taken for a good end")
	}
	if n := next(t, sent); n == room {
		t.Error("all of it was taken from the sender")
	}
}

func TestHalfCloseReadsOn(t *testing.T) {
	// The upstream ends first, and hears the client's rest afterwards.
	heard := make(chan string, 1)
	f := func(write func([]byte) (int, error), closeWrite func() error, r io.Reader) {
		_, _ = write([]byte("all that I have"))
		_ = closeWrite()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		heard <- string(b)
	}
	cfg := serverConfig(t)
	plain := upstream(t, func(c *net.TCPConn) { f(c.Write, c.CloseWrite, c) })
	secure := upstream(t, func(raw *net.TCPConn) {
		c := tls.Server(strict{raw}, cfg)
		f(c.Write, c.CloseWrite, c)
	})
	for _, back := range []*tls.Config{nil, clientConfig()} {
		to := plain
		if back != nil {
			to = secure
		}
		p := newProxy(t, Config{}, serverConfig(t), back, to, engine.ListenOptions{})
		c := dialTLS(t, p.Bound(), clientConfig())
		if b, err := io.ReadAll(c); err != nil || string(b) != "all that I have" {
			t.Fatalf("%q, %v", b, err)
		}
		_, err := io.WriteString(c, "and I have this")
		must(t, err)
		must(t, c.Close())
		if s := next(t, heard); s != "and I have this" {
			t.Errorf("the upstream heard %q", s)
		}
		if err := next(t, p.ended); err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	}
}

func TestTruncationResetsTheOtherSide(t *testing.T) {
	ended := make(chan error, 1)
	p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}), engine.ListenOptions{})
	for _, clean := range []bool{true, false} {
		c := dialTLS(t, p.Bound(), clientConfig())
		_, err := io.WriteString(c, "some of it")
		must(t, err)
		if clean {
			must(t, c.CloseWrite())
		}
		must(t, raw(c).CloseWrite())
		up, err := next(t, ended), next(t, p.ended)
		if clean && (up != nil || err != nil) {
			t.Errorf("after close_notify: upstream %v, relay %v", up, err)
		}
		if !clean && (up == nil || !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("without close_notify: upstream %v, relay %v", up, err)
		}
	}
}
