package tlslayer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"sluice/engine"
)

// secured makes a pair: a client, and the proxy's side of it, which has no upstream.
func secured(t *testing.T, p *proxy, cfg *tls.Config) (*tls.Conn, *engine.Conn) {
	t.Helper()
	ours := make(chan *engine.Conn, 1)
	p.secured.Store(new(func(c *engine.Conn) { ours <- c }))
	c := dialTLS(t, p.Bound(), cfg)
	return c, next(t, ours)
}

// on runs f on the loop of c and waits for it.
func on(c *engine.Conn, f func()) {
	done := make(chan struct{})
	c.Loop().Post(func() { f(); close(done) })
	<-done
}

func TestCloseDeliversWhatWaits(t *testing.T) {
	for _, v := range versions {
		for _, half := range []bool{false, true} {
			cfg := clientConfig()
			v.set(cfg)
			p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
			c, ours := secured(t, p, cfg)
			tinySendBuffer(t, c.RemoteAddr(), c.LocalAddr())
			say := noise(2 << 20)
			var took int
			on(ours, func() {
				for took < len(say) {
					n, err := ours.Write(say[took:])
					if took += n; err != nil || !ours.Writable() {
						break
					}
				}
				if took == len(say) || ours.Writable() {
					t.Error("nothing waits")
				}
				if half {
					_ = ours.CloseWrite()
				} else {
					ours.Close()
					if !ours.Closed() {
						t.Error("it is not closed for its owner")
					}
					if _, err := ours.Write(say); err != engine.ErrClosed {
						t.Errorf("a write then: %v", err)
					}
				}
			})
			if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, say[:took]) {
				t.Errorf("%s: %d bytes of %d were delivered, %v", v.name, len(b), took, err)
			}
			if n, err := raw(c).Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%s: no FIN follows: %d, %v", v.name, n, err)
			}
			if half {
				_, err := io.WriteString(c, "still here")
				must(t, err)
				eventually(t, "the other direction goes on", func() (ok bool) {
					on(ours, func() {
						b := make([]byte, 16)
						n, _ := ours.Read(b)
						ok = string(b[:n]) == "still here"
					})
					return ok
				})
				on(ours, ours.Close)
			}
		}
	}
}

func TestCloseWhileNothingIsReadIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the engine's linger time")
	}
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	_, ours := secured(t, p, clientConfig())
	on(ours, func() {
		for ours.Writable() {
			_, _ = ours.Write(make([]byte, 1<<20))
		}
		ours.Close()
	})
	if p.engine.Open() != 1 {
		t.Error("the socket went at once")
	}
	eventually(t, "the socket is closed", func() bool { return p.engine.Open() == 0 && p.Listener.Open() == 0 })
}

func TestCloseSaysGoodbye(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	c, ours := secured(t, p, clientConfig())
	on(ours, ours.Close)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if b, err := io.ReadAll(raw(c)); err != nil || len(b) != 0 {
		t.Errorf("%d bytes after close_notify, %v", len(b), err)
	}
}

func TestReadTellsTruncation(t *testing.T) {
	for _, cut := range []bool{false, true} {
		p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
		c, ours := secured(t, p, clientConfig())
		want := io.EOF
		if cut {
			want = io.ErrUnexpectedEOF
		} else {
			must(t, c.CloseWrite())
		}
		must(t, raw(c).CloseWrite())
		var err error
		eventually(t, "it ends", func() bool {
			on(ours, func() { _, err = ours.Read(make([]byte, 1)) })
			return err != engine.ErrAgain
		})
		on(ours, func() {
			_, again := ours.Read(make([]byte, 1))
			if err != want || again != want || ours.Broken() != cut {
				t.Errorf("%v, and again %v, broken: %v", err, again, ours.Broken())
			}
			ours.Reset()
		})
	}
}

// What is decrypted and not read keeps the connection readable, and has it called.
func TestReadInPieces(t *testing.T) {
	for _, v := range versions {
		cfg := clientConfig()
		v.set(cfg)
		p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
		say := noise(100 << 10)
		heard := make(chan []byte, 1)
		var all []byte
		p.secured.Store(new(func(c *engine.Conn) {
			c.SetHandler(readyFunc(func(c *engine.Conn) {
				// One read for each call, as a handler does that relies on being called.
				b := make([]byte, 1000)
				awaited := c.Await()
				n, err := c.Read(b)
				if (awaited == nil) != (n > 0) || awaited != nil && awaited != err {
					t.Errorf("Await has said %v, and Read %d, %v", awaited, n, err)
				}
				if all = append(all, b[:n]...); n == len(b) && !c.Readable() {
					t.Error("not readable after a full read")
				}
				if err == io.EOF {
					c.Close()
					heard <- all
				} else if err != nil && err != engine.ErrAgain {
					t.Error(err)
				}
			}))
		}))
		c := dialTLS(t, p.Bound(), cfg)
		_, err := c.Write(say)
		must(t, err)
		must(t, c.CloseWrite())
		if b := next(t, heard); !bytes.Equal(b, say) {
			t.Errorf("%s: %d bytes were heard, of %d", v.name, len(b), len(say))
		}
	}
}

type readyFunc func(c *engine.Conn)

func (f readyFunc) Ready(c *engine.Conn)          { f(c) }
func (f readyFunc) Timeout(*engine.Conn)          {}
func (f readyFunc) Connected(*engine.Conn, error) {}

func TestGarbageAfterTheHandshake(t *testing.T) {
	for _, v := range versions {
		for _, x := range []struct{ name, say, alert string }{
			{"a record that does not decrypt", "\x17\x03\x03\x00\x40" + strings.Repeat("x", 64), "bad record MAC"},
			{"too long a record", "\x17\x03\x03\x60\x00" + strings.Repeat("x", 64), "oversized record"},
			{"no record", "GET / HTTP/1.1\r\n\r\n", ""},
		} {
			cfg := clientConfig()
			v.set(cfg)
			p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
			c := dialTLS(t, p.Bound(), cfg)
			exchange(t, c, "hello")
			_, err := io.WriteString(raw(c), x.say)
			must(t, err)
			if err := next(t, p.ended); err == nil || !strings.Contains(err.Error(), x.alert) {
				t.Errorf("%s, %s: the relay ended with %v", v.name, x.name, err)
			}
			_, err = c.Read(make([]byte, 1))
			if err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%s, %s: the client was told %v", v.name, x.name, err)
			}
		}
	}
}
