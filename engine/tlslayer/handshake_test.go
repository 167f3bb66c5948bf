package tlslayer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine"
)

// pieces writes in pieces of n bytes, each a segment of its own.
type pieces struct {
	net.Conn
	n int
}

func (p pieces) Write(b []byte) (int, error) {
	for at := 0; at < len(b); at += p.n {
		if _, err := p.Conn.Write(b[at:min(at+p.n, len(b))]); err != nil {
			return at, err
		}
	}
	return len(b), nil
}

// holder lets so many writes pass, and keeps what comes after them until it is released.
type holder struct {
	net.Conn
	pass int
	kept []byte
}

func (h *holder) Write(b []byte) (int, error) {
	if h.pass--; h.pass >= 0 {
		return h.Conn.Write(b)
	}
	h.kept = append(h.kept, b...)
	return len(b), nil
}

func (h *holder) release() error {
	_, err := h.Conn.Write(h.kept)
	return err
}

// stopper writes its first n bytes, and nothing more.
type stopper struct {
	net.Conn
	n    int
	done chan struct{} // is closed when it has, if it is not nil
}

func (s *stopper) Write(b []byte) (int, error) {
	n := min(s.n, len(b))
	s.n -= n
	_, err := s.Conn.Write(b[:n])
	if s.done != nil {
		close(s.done)
		s.done = nil
	}
	return len(b), err
}

func TestHandshakeInPieces(t *testing.T) {
	for _, v := range versions {
		for _, n := range []int{1, 7, 4096} {
			p := newProxy(t, Config{Running: 1}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
			cfg := clientConfig()
			v.set(cfg)
			c := tls.Client(pieces{dial(t, p.Bound()), n}, cfg)
			exchange(t, c, "hello")
			both(t, c, noise(2<<10))
		}
	}
}

func TestDataAndEndRightAfterTheHandshake(t *testing.T) {
	for _, v := range versions {
		p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
		cfg := clientConfig()
		v.set(cfg)
		h := &holder{Conn: dial(t, p.Bound()), pass: 1 << 30}
		if cfg.MinVersion == tls.VersionTLS13 {
			h.pass = 1 // the client is the last to speak: its Finished goes out with the data
		}
		c := tls.Client(h, cfg)
		must(t, c.Handshake())
		h.pass = 0
		say := noise(60 << 10) // more than a handshake reads ahead
		_, err := c.Write(say)
		must(t, err)
		must(t, c.CloseWrite())
		must(t, h.Conn.SetDeadline(time.Now().Add(patience))) // CloseWrite has set another
		must(t, h.release())
		must(t, h.Conn.(*net.TCPConn).CloseWrite())
		if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, say) {
			t.Errorf("%s: %d bytes of %d came back, %v", v.name, len(b), len(say), err)
		}
	}
}

// Whoever reads what is Readable, when it is told to, has what came with the last flight.
func TestDataOfTheLastFlightIsReadable(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	heard := make(chan string, 1)
	p.secured.Store(new(func(c *engine.Conn) {
		c.SetHandler(readyFunc(func(c *engine.Conn) {
			if !c.Readable() {
				return
			}
			if n, _ := c.Read(c.Loop().Scratch()); n > 0 {
				heard <- string(c.Loop().Scratch()[:n])
				c.Close()
			}
		}))
	}))
	cfg := clientConfig()
	cfg.MinVersion = tls.VersionTLS13
	h := &holder{Conn: dial(t, p.Bound()), pass: 1}
	c := tls.Client(h, cfg)
	must(t, c.Handshake())
	_, err := io.WriteString(c, "hello")
	must(t, err)
	must(t, h.release())
	if s := next(t, heard); s != "hello" {
		t.Errorf("heard %q", s)
	}
}

func TestHalfAHandshakeTimesOut(t *testing.T) {
	const each = 8
	p := newProxy(t, Config{Running: 1, Timeout: 500 * time.Millisecond}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
	all := []*net.TCPConn{}
	for _, n := range []int{0, 1, 6, 200} {
		for range each {
			c := dial(t, p.Bound())
			all = append(all, c)
			cfg := clientConfig()
			cfg.MinVersion = tls.VersionTLS13
			go func() { _ = tls.Client(&stopper{Conn: c, n: n}, cfg).Handshake() }()
		}
	}
	for i := range each { // in the middle
		c := dial(t, p.Bound())
		all = append(all, c)
		cfg := clientConfig()
		versions[i%len(versions)].set(cfg)
		go func() { _ = tls.Client(&holder{Conn: c, pass: 1}, cfg).Handshake() }()
	}
	eventually(t, "all are under way", func() bool { return p.crew.Counters().UnderWay.Load() == 5*each })
	// None of them keeps another from its handshake.
	exchange(t, dialTLS(t, p.Bound(), clientConfig()), "hello")
	for range all {
		if k := Classify(next(t, p.failed)); k != Timeout {
			t.Errorf("failed by %v", k)
		}
	}
	if n := p.crew.Counters().Server.Failed(Timeout); n != 5*each {
		t.Errorf("%d timeouts counted, of %d", n, 5*each)
	}
	eventually(t, "the goroutines return", func() bool { return p.crew.Counters().UnderWay.Load() == 0 })
}

func TestHandshakesBeyondTheBoundAreShed(t *testing.T) {
	p := newProxy(t, Config{Handshakes: 3, Running: 1}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
	settled := dialTLS(t, p.Bound(), clientConfig())
	exchange(t, settled, "hello")
	silent := []*net.TCPConn{}
	for range 3 {
		silent = append(silent, dial(t, p.Bound()))
	}
	eventually(t, "they are under way", func() bool { return p.crew.Counters().UnderWay.Load() == 3 })
	for range 20 {
		if c, err := net.Dial("tcp", p.Bound()); err == nil { // it may be reset as soon
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("one more was not shed: %v", err)
			}
			c.Close()
		}
		if k := Classify(next(t, p.failed)); k != Shed {
			t.Errorf("failed by %v", k)
		}
	}
	if n := p.crew.Counters().Server.Failed(Shed); n != 20 {
		t.Errorf("%d counted", n)
	}
	exchange(t, settled, "hello again")
	must(t, silent[0].Close())
	eventually(t, "there is room again", func() bool { return p.crew.Counters().UnderWay.Load() == 2 })
	exchange(t, dialTLS(t, p.Bound(), clientConfig()), "hello")
}

func TestHandshakesBeyondTheQueueAreShed(t *testing.T) {
	proceed := make(chan struct{})
	var running, most atomic.Int64
	cert := certificate(t, "edge.test")
	p := newProxy(t, Config{Running: 2, Queue: 5}, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-proceed
		return &cert, nil
	}}, nil, upstream(t, echo), engine.ListenOptions{})
	done := make(chan error, 7)
	for range 7 {
		c := tls.Client(dial(t, p.Bound()), clientConfig())
		go func() { done <- c.Handshake() }()
	}
	eventually(t, "the queue is full", func() bool { return p.crew.Counters().Queued.Load() == 5 && running.Load() == 2 })
	for range 10 {
		if err := tls.Client(dial(t, p.Bound()), clientConfig()).Handshake(); err == nil {
			t.Error("one more was served")
		}
		if k := Classify(next(t, p.failed)); k != Shed {
			t.Errorf("failed by %v", k)
		}
	}
	close(proceed)
	for range 7 {
		if err := next(t, done); err != nil {
			t.Errorf("one that was queued: %v", err)
		}
	}
	if n := most.Load(); n > 2 {
		t.Errorf("%d ran at a time", n)
	}
}

func TestHandshakesAreShedWhileMemoryIsShort(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
	held := map[*engine.Loop][]byte{}
	each := func(f func(l *engine.Loop)) {
		for _, l := range p.engine.Loops() {
			done := make(chan struct{})
			l.Post(func() { f(l); close(done) })
			<-done
		}
	}
	each(func(l *engine.Loop) { held[l] = l.GetBuffer(int(p.engine.Memory())) })
	if c, err := net.Dial("tcp", p.Bound()); err == nil {
		defer c.Close()
	}
	if k := Classify(next(t, p.failed)); k != Shed {
		t.Errorf("failed by %v", k)
	}
	each(func(l *engine.Loop) { l.PutBuffer(held[l]) })
	exchange(t, dialTLS(t, p.Bound(), clientConfig()), "hello")
}

func TestPlainHTTPIsLeftToTheOwner(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	p.plain.Store(new(func(c *engine.Conn) {
		b := make([]byte, 64)
		n, _ := c.Read(b)
		_, _ = c.Write(append([]byte("you said "), b[:n]...))
		c.Close()
	}))
	for _, say := range []string{"GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PROPFIND /x HTTP/1.1\r\n"} {
		c := dial(t, p.Bound())
		_, err := io.WriteString(c, say)
		must(t, err)
		if b, err := io.ReadAll(c); err != nil || string(b) != "you said "+say {
			t.Errorf("%q, %v", b, err)
		}
	}
	if n := p.crew.Counters().Server.Failed(PlainHTTP); n != 3 {
		t.Errorf("%d counted", n)
	}
}

func TestGarbageIsRefused(t *testing.T) {
	alert := string(protocolVersion)
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	for _, x := range []struct{ name, say, hear string }{
		{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", ""},
		{"zeroes", strings.Repeat("\x00", 64), ""},
		{"a record of TLS 2", "\x16\x04\x00\x00\x10\x01\x00\x00\x0c", alert},
		{"SSL 2", "\x80\x2e\x01\x00\x02" + strings.Repeat("x", 43), alert},
		{"an empty record", "\x16\x03\x01\x00\x00\x01\x00", ""},
		{"too long a record", "\x16\x03\x01\xff\xff\x01\x00", ""},
		{"no ClientHello", "\x16\x03\x01\x00\x10\x02\x00\x00\x0c", ""},
		{"data", "\x17\x03\x03\x00\x10" + strings.Repeat("x", 16), ""},
		{"no method", "GETTING/ HTTP/1.1", ""},
	} {
		c := dial(t, p.Bound())
		_, err := io.WriteString(c, x.say)
		must(t, err)
		if b, err := io.ReadAll(c); string(b) != x.hear || err != nil { // no reset, which can overtake the alert
			t.Errorf("%s: answered by %q, %v", x.name, b, err)
		}
		if k := Classify(next(t, p.failed)); k != NotTLS {
			t.Errorf("%s: failed by %v", x.name, k)
		}
	}
}
