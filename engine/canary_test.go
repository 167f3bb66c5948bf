package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Every connection says its own number over and over, and hears it again from an echoing upstream. At a random point
// one of the ends resets or closes it. No byte of one connection may show up on another, and nothing may be left.
func TestTenThousandConnectionsReset(t *testing.T) {
	const conns, atOnce = 10_000, 64
	var mixed atomic.Int64
	p := newProxy(t, Config{Loops: 2}, upstream(t, func(c *net.TCPConn) {
		// The upstream too checks that a connection carries one number only, and ends some of them.
		r := rand.New(rand.NewPCG(1, uint64(c.RemoteAddr().(*net.TCPAddr).Port)))
		limit := r.IntN(400 << 10)
		buf := make([]byte, 64<<10)
		var id [8]byte
		for at := 0; ; {
			n, err := c.Read(buf)
			for i := range n {
				if at < 8 {
					id[at] = buf[i]
				} else if buf[i] != id[at%8] {
					mixed.Add(1)
					return
				}
				at++
			}
			if r.IntN(2) == 0 && at > limit {
				_ = c.SetLinger(0)
				return
			}
			if err != nil {
				return
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	}), time.Minute)
	before := openFDs(t)

	var wg sync.WaitGroup
	next := make(chan uint64)
	for range atOnce {
		wg.Go(func() {
			for id := range next {
				if err := canary(p.Bound(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range uint64(conns) {
		next <- i
	}
	close(next)
	wg.Wait()

	if n := mixed.Load(); n > 0 {
		t.Errorf("%d connections upstream saw bytes of others", n)
	}
	eventually(t, "all sessions end", func() bool { return p.engine.Open() == 0 && p.relays.Load() == 0 })
	if n := p.Open(); n != 0 {
		t.Errorf("the listener counts %d open connections", n)
	}
	pipes := 0
	for _, l := range p.engine.Loops() {
		on(l, func() {
			pipes += len(l.pipes.free)
			if l.held != 0 || len(l.pipes.free) != l.pipesOpen {
				t.Errorf("loop %d: %d bytes held, %d of %d pipes in the pool", l.id, l.held, len(l.pipes.free), l.pipesOpen)
			}
			if l.wheel.linked != 0 {
				t.Errorf("loop %d: %d timers linked", l.id, l.wheel.linked)
			}
		})
	}
	eventually(t, "all descriptors are closed", func() bool { return openFDs(t) <= before+2*pipes })
}

// canary runs one connection; its error is a byte of another one.
func canary(addr string, id uint64) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var mark [8]byte
	binary.LittleEndian.PutUint64(mark[:], id)
	size := 8
	if id%8 == 0 {
		size = 256 << 10 // enough to be spliced
	}
	say := bytes.Repeat(mark[:], size/8)
	if id%3 == 0 {
		_ = c.SetLinger(0)
	}
	ends := rand.IntN(4 * size)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sent := 0; sent < 4*size; sent += size {
			if _, err := c.Write(say); err != nil {
				return
			}
		}
		_ = c.CloseWrite()
	}()
	defer func() { c.Close(); <-done }()
	buf := make([]byte, 64<<10)
	for at := 0; ; {
		n, err := c.Read(buf)
		for i := range n {
			if buf[i] != mark[(at+i)%8] {
				return errors.New("a byte of another connection")
			}
		}
		if at += n; at > ends || err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return err
			}
			return nil
		}
	}
}
