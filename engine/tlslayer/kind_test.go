package tlslayer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"sluice/engine"
)

func TestClassify(t *testing.T) {
	for _, x := range []struct {
		err  error
		want Kind
	}{
		{errors.New("anything"), Other},
		{&Error{Kind: Version, Err: io.EOF}, Version},
		{fmt.Errorf("name: %w", ErrNoCertificate), NoCertificate},
		{ErrTimeout, Timeout}, {ErrShed, Shed}, {ErrPlainHTTP, PlainHTTP}, {ErrNotTLS, NotTLS},
		{tls.RecordHeaderError{}, NotTLS},
		{&tls.CertificateVerificationError{Err: io.EOF}, BadCertificate},
		{&net.OpError{Op: "remote error", Err: io.EOF}, Refused},
		{&net.OpError{Op: "local error", Err: errors.New("bad record MAC")}, Other},
		{io.EOF, Reset}, {io.ErrUnexpectedEOF, Reset}, {cut{}, Reset},
		{os.NewSyscallError("read", syscall.ECONNRESET), Reset},
	} {
		if k := Classify(x.err); k != x.want {
			t.Errorf("%v is %v, want %v", x.err, k, x.want)
		}
	}
	for _, k := range Kinds() {
		if k.String() == "" {
			t.Errorf("kind %d has no name", k)
		}
	}
}

func TestServerTellsWhyItFailed(t *testing.T) {
	nameless := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
	refusing := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, fmt.Errorf("%s: %w", h.ServerName, ErrNoCertificate)
	}}
	mutual := serverConfig(t)
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, authority().roots
	perName := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return mutual, nil }}
	newer := serverConfig(t)
	newer.MinVersion = tls.VersionTLS13
	stranger := certificate(t, "stranger.test")
	stranger.Certificate = [][]byte{append([]byte(nil), stranger.Certificate[0]...)}
	stranger.Certificate[0][len(stranger.Certificate[0])-1] ^= 1 // the signature

	older := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	for _, x := range []struct {
		name   string
		server *tls.Config
		client func(*tls.Config)
		want   Kind
	}{
		{"no certificate, of its own", nameless, nil, NoCertificate},
		{"no certificate, of its own, TLS 1.2", nameless, older, NoCertificate},
		{"no certificate, by the owner's error", refusing, nil, NoCertificate},
		{"too old", newer, older, Version},
		{"client without a certificate", mutual, nil, BadCertificate},
		{"client without a certificate, TLS 1.2", mutual, older, BadCertificate},
		{"client without a certificate, by name", perName, nil, BadCertificate},
		{"client with a bad certificate", mutual, func(c *tls.Config) { c.Certificates = []tls.Certificate{stranger} }, BadCertificate},
		{"client with a bad certificate, TLS 1.2", mutual, func(c *tls.Config) {
			older(c)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
		}, BadCertificate},
		{"client trusts nobody", serverConfig(t), func(c *tls.Config) { c.RootCAs = nil }, Refused},
		{"no cipher in common", serverConfig(t), func(c *tls.Config) {
			older(c)
			c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}, Other},
	} {
		p := newProxy(t, Config{}, x.server, nil, nil, engine.ListenOptions{})
		cfg := clientConfig()
		if x.client != nil {
			x.client(cfg)
		}
		c := tls.Client(dial(t, p.Bound()), cfg)
		err := c.Handshake()
		if err == nil { // in TLS 1.3 the client is done before it hears
			_, err = c.Read(make([]byte, 1))
		}
		if op, ok := errors.AsType[*net.OpError](err); x.want != Refused && (!ok || op.Op != "remote error") {
			t.Errorf("%s: the client was told %v", x.name, err)
		}
		err = next(t, p.failed)
		if k := Classify(err); k != x.want || p.crew.Counters().Server.Failed(k) != 1 {
			t.Errorf("%s: failed by %v, want %v: %v", x.name, k, x.want, err)
		}
	}
}

func TestClientTellsWhyItFailed(t *testing.T) {
	newer := serverConfig(t)
	newer.MinVersion = tls.VersionTLS13
	for _, x := range []struct {
		name   string
		server func(*net.TCPConn)
		client func(*tls.Config)
		want   Kind
	}{
		{"endpoint nobody trusts", tlsEcho(serverConfig(t)), func(c *tls.Config) { c.RootCAs = nil }, BadCertificate},
		{"endpoint of another name", tlsEcho(serverConfig(t)), func(c *tls.Config) { c.ServerName = "other.test" }, BadCertificate},
		{"endpoint too new", tlsEcho(newer), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, Version},
		{"endpoint without TLS", func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 mail.test ESMTP\r\n"); echo(c) }, func(*tls.Config) {}, NotTLS},
		{"endpoint that closes", func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1<<16)) }, func(*tls.Config) {}, Reset},
		{"endpoint that says nothing", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, func(*tls.Config) {}, Timeout},
	} {
		cfg := clientConfig()
		x.client(cfg)
		p := newProxy(t, Config{Timeout: patience / 40}, nil, cfg, upstream(t, x.server), engine.ListenOptions{})
		dial(t, p.Bound())
		err := next(t, p.failed)
		if k := Classify(err); k != x.want || p.crew.Counters().Client.Failed(k) != 1 {
			t.Errorf("%s: failed by %v, want %v: %v", x.name, k, x.want, err)
		}
	}
}

func TestKindOfAnUncommonEnd(t *testing.T) {
	err := os.NewSyscallError("read", syscall.EHOSTUNREACH)
	h := handshake{ended: err, wrote: true, cfg: &tls.Config{ClientAuth: tls.RequireAnyClientCert}}
	if k := h.kind(err); k != Reset {
		t.Errorf("failed by %v", k)
	}
}

func TestClientThatGoesInTheMiddle(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	for _, n := range []int{0, 1, 6, 200, 1 << 20} {
		for _, reset := range []bool{false, true} {
			var c *net.TCPConn
			if n == 1<<20 { // the ClientHello is whole
				c = halfway(t, p.Bound())
			} else {
				c = dial(t, p.Bound())
				wrote := make(chan struct{})
				s := &stopper{Conn: c, n: n, done: wrote}
				go func() { _ = tls.Client(s, clientConfig()).Handshake() }()
				next(t, wrote)
			}
			eventually(t, "it is under way", func() bool { return p.crew.Counters().UnderWay.Load() == 1 })
			if reset {
				must(t, c.SetLinger(0))
			}
			c.Close()
			if k := Classify(next(t, p.failed)); k != Reset {
				t.Errorf("after %d bytes, reset %v: failed by %v", n, reset, k)
			}
			eventually(t, "it is over", func() bool { return p.crew.Counters().UnderWay.Load() == 0 })
		}
	}
}

func TestStateTellsWhatWasAgreed(t *testing.T) {
	server := serverConfig(t)
	server.NextProtos = []string{"h2", "http/1.1"}
	server.ClientAuth, server.ClientCAs = tls.VerifyClientCertIfGiven, authority().roots
	p := newProxy(t, Config{}, server, nil, upstream(t, echo), engine.ListenOptions{})
	for _, v := range versions {
		client := clientConfig()
		v.set(client)
		client.NextProtos = []string{"http/1.1"}
		client.Certificates = []tls.Certificate{certificate(t, "client.test")}
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for _, again := range []bool{false, true} {
			c := dialTLS(t, p.Bound(), client)
			exchange(t, c, "hello") // and takes the ticket
			must(t, c.Close())
			state := next(t, p.states)
			if state.NegotiatedProtocol != "http/1.1" || state.ServerName != "edge.test" || state.DidResume != again ||
				len(state.VerifiedChains) != 1 || state.PeerCertificates[0].Subject.CommonName != "client.test" {
				t.Errorf("%s: %+v", v.name, state)
			}
		}
	}
	n := &p.crew.Counters().Server
	if n.TLS12.Load() != 4 || n.TLS13.Load() != 2 || n.Resumed.Load() != 3 {
		t.Errorf("%d of TLS 1.2, %d of 1.3, %d resumed", n.TLS12.Load(), n.TLS13.Load(), n.Resumed.Load())
	}
}
