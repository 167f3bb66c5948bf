package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// callers opens a connection for each request. It does not stand on gnet, whose client dials through net in a goroutine
// and then duplicates the descriptor: net alone is the cheaper.
type callers struct {
	g        *Generator
	request  []byte
	tally    *tally
	interval int64
	first    int64
	turn     atomic.Int64 // of the open loop
}

func newCallers(g *Generator) *callers {
	return &callers{g: g, tally: newTally(), request: g.aim.Scenario.request(g.aim.Address), interval: g.interval(1)}
}

func (k *callers) tallied() *tally { return k.tally }
func (k *callers) close()          {}

func (k *callers) start() {
	k.first = k.g.now()
	for range k.g.aim.Conns {
		k.g.spawn(k.run)
	}
}

func (k *callers) run() {
	buf := make([]byte, 64<<10)
	for refused := 0; !k.g.stopped(); {
		due := k.g.now()
		if k.interval > 0 {
			due = k.first + k.turn.Add(1)*k.interval
			if wait := due - k.g.now(); wait > 0 {
				t := time.NewTimer(time.Duration(wait))
				select {
				case <-t.C:
				case <-k.g.stop:
					t.Stop()
					return
				}
				k.tally.slipped(k.g.now() - due)
			}
		}
		n, err := k.call(buf)
		if err == nil {
			k.tally.done(k.g.now()-due, n)
			refused = 0
			continue
		}
		if k.g.stopped() {
			return
		}
		k.tally.failed(kindOf(err))
		// One that fails may be bad luck; a row of them is a target that is gone.
		if refused++; refused == 10 {
			k.g.fail(fmt.Errorf("%w: %w", errTarget, err))
			return
		}
	}
}

// call is one connection: its bytes received.
func (k *callers) call(buf []byte) (int, error) {
	c, err := k.g.dial(context.Background())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(k.request); err != nil {
		return 0, err
	}
	if k.g.aim.Scenario.Load == PerConnPP {
		return io.ReadFull(c, buf[:pingSize])
	}
	return k.response(c, buf)
}

// response reads one response whose head fits buf.
func (k *callers) response(c net.Conn, buf []byte) (int, error) {
	got := 0
	for {
		n, err := c.Read(buf[got:])
		got += n
		if i := bytes.Index(buf[:got], []byte("\r\n\r\n")); i >= 0 {
			length, err := k.tally.head(buf[:i+2])
			if err != nil {
				return got, err
			}
			left := int64(length - (got - i - 4))
			if left > 0 {
				_, err = io.CopyN(io.Discard, c, left)
			}
			return i + 4 + length, err
		}
		if err != nil {
			return got, err
		}
		if got == len(buf) {
			return got, fmt.Errorf("a response head without an end")
		}
	}
}
