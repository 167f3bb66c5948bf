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
				t.Errorf("%s: %d buffers held, %d of %d pipes in the pool", name, l.held, len(l.pipes.free), l.pipesOpen)
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
