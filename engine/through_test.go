package engine

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"
)

// passer passes on exactly n bytes from its upstream to its client by Through, and closes both.
type passer struct {
	to       []Addr
	n        int64
	client   *Conn
	up       *Conn
	rest     []byte
	off      int
	rests    int
	done     chan error
	withCopy Layer
}

func (p *passer) Accept(c *Conn) {
	p.client = c
	c.SetHandler(p)
	if _, err := c.Loop().Dial(p.to, time.Minute, p); err != nil {
		p.end(err)
	}
}

func (p *passer) Connected(up *Conn, err error) {
	if p.up = up; err != nil {
		p.end(err)
		return
	}
	if p.withCopy != nil {
		up.SetLayer(p.withCopy)
	}
	p.Ready(up)
}

func (p *passer) Timeout(*Conn) {}

func (p *passer) Ready(*Conn) {
	for p.up != nil && !p.up.Dialling() && p.done != nil {
		l := p.client.Loop()
		if p.rest != nil {
			n, err := p.client.Write(p.rest[p.off:])
			if p.off += n; err == ErrAgain {
				return
			} else if err != nil {
				p.end(err)
				return
			}
			l.PutBuffer(p.rest)
			p.rest, p.off = nil, 0
		}
		if p.n == 0 {
			p.end(nil)
			return
		}
		moved, rest, err := l.Through(p.up, p.client, p.n)
		p.n -= int64(moved)
		if p.rest = rest; rest != nil {
			p.rests++
		}
		if err == ErrAgain {
			return
		} else if err != nil {
			p.end(err)
			return
		}
	}
}

func (p *passer) end(err error) {
	if p.up != nil {
		p.up.Close()
	}
	p.client.Close()
	p.done <- err
	p.done = nil
}

// Through moves no more than it is told, whole and in order, whether the reader is fast or slow; it keeps nothing.
func TestThroughMovesExactlyWhatItIsTold(t *testing.T) {
	data := make([]byte, 6<<20)
	_, _ = rand.Read(data)
	f := func(name string, n int64, slow bool, want int64, wantErr error) {
		t.Helper()
		from := upstream(t, func(c *net.TCPConn) { _, _ = c.Write(data) })
		e := newEngine(t, Config{Loops: 1})
		done := make(chan error, 1)
		p := &passer{to: []Addr{NewAddr(from.(*net.TCPAddr).AddrPort())}, n: n, done: done}
		ln, err := e.Listen("127.0.0.1:0", 0, p)
		must(t, err)
		c := client(t, ln.Bound())
		l := e.Loops()[0]
		if slow { // until the sender has filled all there is between, and something was left over
			eventually(t, "the client's socket is full", func() (full bool) {
				on(l, func() { full = p.rests > 0 })
				return full
			})
		}
		got, err := io.ReadAll(c)
		if int64(len(got)) != want || !bytes.Equal(got, data[:len(got)]) {
			t.Errorf("%s: got %d bytes (%v), want the first %d", name, len(got), err, want)
		}
		if err := <-done; err != wantErr {
			t.Errorf("%s: %v, want %v", name, err, wantErr)
		}
		on(l, func() {
			if l.held != 0 || len(l.pipes.free) != l.pipesOpen {
				t.Errorf("%s: %d bytes held, %d of %d pipes in the pool", name, l.held, len(l.pipes.free), l.pipesOpen)
			}
		})
		if n := l.Counters().Spliced.Load(); n != uint64(want) {
			t.Errorf("%s: %d bytes spliced, want %d", name, n, want)
		}
	}
	f("all", int64(len(data)), false, int64(len(data)), nil)
	f("a part", 3<<20+17, false, 3<<20+17, nil)
	f("a part, slowly", 5<<20+17, true, 5<<20+17, nil)
	f("more than there is", 7<<20, false, int64(len(data)), io.EOF)
}

// idle is a layer that nothing comes through.
type idle struct{}

func (idle) Read(*Conn, []byte) (int, error)  { return 0, ErrAgain }
func (idle) Write(*Conn, []byte) (int, error) { return 0, ErrAgain }
func (idle) CloseWrite(*Conn) error           { return nil }
func (idle) Pending() bool                    { return false }
func (idle) Flush(*Conn)                      {}
func (idle) Released(*Conn)                   {}
func (idle) Await(*Conn) error                { return ErrAgain }

func TestThroughALayerIsACopy(t *testing.T) {
	from := upstream(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("hello")) })
	e := newEngine(t, Config{Loops: 1})
	done := make(chan error, 1)
	p := &passer{to: []Addr{NewAddr(from.(*net.TCPAddr).AddrPort())}, n: 5, done: done, withCopy: idle{}}
	ln, err := e.Listen("127.0.0.1:0", 0, p)
	must(t, err)
	c := client(t, ln.Bound())
	if err := <-done; err != ErrCopy {
		t.Errorf("%v, want %v", err, ErrCopy)
	}
	_, _ = io.ReadAll(c)
}

// uploader passes on n bytes from its client to its upstream, and takes what the client says after them itself.
type uploader struct {
	to         []Addr
	n          int64
	want       int // bytes after them
	client, up *Conn
	rest       []byte
	off, rests int
	dialling   error // what Through said while the upstream was dialled
	next       []byte
	done       chan error
}

func (p *uploader) Accept(c *Conn) {
	p.client = c
	c.SetHandler(p)
	var err error
	if p.up, err = c.Loop().Dial(p.to, time.Minute, p); err != nil {
		p.end(err)
		return
	}
	// As its event would have it, whose connection is served after those that were accepted.
	p.up.state |= writable
	c.LookAgain()
	_, _, p.dialling = c.Loop().Through(c, p.up, p.n)
	p.up.state &^= writable
}

func (p *uploader) Connected(up *Conn, err error) {
	if err != nil {
		p.end(err)
		return
	}
	p.Ready(up)
}

func (p *uploader) Timeout(*Conn) {}

func (p *uploader) Ready(*Conn) {
	l := p.client.Loop()
	for p.done != nil && !p.up.Dialling() {
		var err error
		switch {
		case p.rest != nil:
			var n int
			n, err = p.up.Write(p.rest[p.off:])
			if p.off += n; p.off == len(p.rest) {
				l.PutBuffer(p.rest)
				p.rest, p.off = nil, 0
			}
		case p.n > 0:
			var moved int
			moved, p.rest, err = l.Through(p.client, p.up, p.n)
			if p.n -= int64(moved); p.rest != nil {
				p.rests++
			}
		case len(p.next) < p.want:
			var n int
			n, err = p.client.Read(l.Scratch())
			p.next = append(p.next, l.Scratch()[:n]...)
		default:
			err = io.EOF
		}
		if err == ErrAgain {
			return
		} else if err != nil {
			p.end(err)
		}
	}
}

func (p *uploader) end(err error) {
	p.up.Close()
	p.client.Close()
	p.done <- err
	p.done = nil
}

// The other way round, as a gateway uploads: the next request, right behind the body, stays in the client's socket.
func TestThroughLeavesWhatFollows(t *testing.T) {
	body := make([]byte, 12<<20+17)
	_, _ = rand.Read(body)
	next := []byte("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	f := func(name string, n int, slow bool) {
		t.Helper()
		read, took := make(chan struct{}), make(chan []byte, 1)
		to := upstream(t, func(c *net.TCPConn) {
			<-read
			b, _ := io.ReadAll(c)
			took <- b
		})
		e := newEngine(t, Config{Loops: 1})
		l := e.Loops()[0]
		done := make(chan error, 1)
		p := &uploader{to: []Addr{NewAddr(to.(*net.TCPAddr).AddrPort())}, n: int64(n), want: len(next), done: done}
		ln, err := e.Listen("127.0.0.1:0", 0, p)
		must(t, err)
		var c *net.TCPConn
		on(l, func() { // so that a byte is there when the connection is accepted
			c = client(t, ln.Bound())
			_, err := c.Write(body[:1])
			must(t, err)
		})
		go func() { _, _ = c.Write(append(body[1:n:n], next...)) }()
		if slow {
			eventually(t, "the upstream's socket is full", func() (full bool) {
				on(l, func() { full = p.rests > 0 })
				return full
			})
		}
		close(read)
		if got := <-took; !bytes.Equal(got, body[:n]) {
			t.Errorf("%s: the upstream got %d bytes, want %d", name, len(got), n)
		}
		if err := <-done; err != io.EOF || !bytes.Equal(p.next, next) || p.dialling != ErrAgain {
			t.Errorf("%s: %v; %q after the body; %v while the upstream was dialled", name, err, p.next, p.dialling)
		}
		on(l, func() {
			if l.held != 0 || len(l.pipes.free) != l.pipesOpen {
				t.Errorf("%s: %d bytes held, %d of %d pipes in the pool", name, l.held, len(l.pipes.free), l.pipesOpen)
			}
		})
	}
	f("a byte", 1, false)
	f("a turn's worth", throughTurn, false)
	f("a body", len(body), false)
	f("a body, slowly", len(body), true)
}

// Neither nothing nor a closed connection is passed on: its descriptor may be another's.
func TestThroughOfNothing(t *testing.T) {
	p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("hello"))
		echo(c)
	}), 0)
	l := p.engine.Loops()[0]
	c := client(t, p.Bound())
	_, err := io.ReadFull(c, make([]byte, 5))
	must(t, err)
	on(l, func() {
		s := p.last.Load()
		s.b.LookAgain()
		if n, rest, err := l.Through(s.b, s.a, 0); n != 0 || rest != nil || err != nil {
			t.Errorf("no bytes: %d, %q, %v", n, rest, err)
		}
		s.b.Close()
		s.b.state |= readable
		if _, _, err := l.Through(s.b, s.a, 1); err != ErrClosed {
			t.Errorf("from a closed connection: %v", err)
		}
		if _, _, err := l.Through(s.a, s.b, 1); err != ErrClosed {
			t.Errorf("to a closed connection: %v", err)
		}
		s.Abort(nil)
	})
}
