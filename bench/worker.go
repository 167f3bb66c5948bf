package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/panjf2000/gnet/v2"
)

// worker is one gnet event loop of the closed loop, with the connections that last. All but start and close happens on
// that loop.
type worker struct {
	gnet.BuiltinEventEngine
	g       *Generator
	client  *gnet.Client
	loop    gnet.EventLoop
	request []byte
	batch   []byte // request, as often as it is pipelined
	tally   *tally
	conns   []*caller
	size    int  // of conns, once all are open
	started bool // the load has begun
	asking  int  // idle connections that have asked
	lost    int  // connections closed since the last answer
}

// caller is a connection of the closed loop.
type caller struct {
	reader
	w     *worker
	c     gnet.Conn
	asked []int64 // when the requests under way were sent, the oldest first
}

func newWorker(ctx context.Context, g *Generator, conns int) (*worker, error) {
	w := &worker{g: g, tally: newTally(), size: conns}
	w.request = g.aim.Scenario.request(g.aim.Address)
	w.batch = bytes.Repeat(w.request, g.aim.Pipeline)
	var err error
	if w.client, err = gnet.NewClient(w, gnet.WithNumEventLoop(1), gnet.WithLockOSThread(true), gnet.WithLogger(silent{}),
		gnet.WithReadBufferCap(256<<10)); err != nil {
		return nil, err
	}
	if err := w.client.Start(); err != nil {
		return nil, err
	}
	for range conns {
		s := &caller{w: w, reader: w.reader()}
		if err := w.connect(ctx, s); err != nil {
			_ = w.client.Stop()
			return nil, err
		}
		w.conns = append(w.conns, s)
	}
	return w, nil
}

func (w *worker) connect(ctx context.Context, s *caller) error {
	c, err := w.g.dial(ctx)
	if err != nil {
		return err
	}
	_, err = w.client.EnrollContext(c, s)
	return err
}

// OnOpen implements gnet.EventHandler.
func (w *worker) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	if s, ok := c.Context().(*caller); ok {
		s.c = c
		if w.loop == nil {
			w.loop = c.EventLoop()
		}
	}
	return nil, gnet.None
}

func (w *worker) tallied() *tally { return w.tally }

func (w *worker) start() {
	_ = w.loop.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		w.started = true
		if w.g.aim.Scenario.Load == Idle {
			w.askNext()
			return nil
		}
		for _, s := range w.conns {
			if s.c != nil { // else it is closed already, and on its way back
				s.send(w.g.now(), w.g.aim.Pipeline)
			}
		}
		return nil
	}))
}

func (w *worker) reader() reader {
	return reader{tally: w.tally, ping: w.g.aim.Scenario.Load == PingPong}
}

// askNext has the next idle connection send its one request, when the one before was answered: what a burst would leave
// behind is not what idle connections cost.
func (w *worker) askNext() {
	for w.asking < len(w.conns) {
		s := w.conns[w.asking]
		w.asking++
		if s.c != nil {
			s.send(w.g.now(), 1)
			return
		}
	}
}

func (w *worker) close() { _ = w.client.Stop() }

// send asks n times.
func (s *caller) send(due int64, n int) {
	for range n {
		s.asked = append(s.asked, due)
	}
	_, _ = s.c.Write(s.w.batch[:n*len(s.w.request)])
}

// OnTraffic implements gnet.EventHandler.
func (w *worker) OnTraffic(c gnet.Conn) gnet.Action {
	s := c.Context().(*caller)
	b, _ := c.Peek(-1)
	all, answered := len(b), 0
	for len(b) > 0 {
		n, whole, err := s.read(b)
		b = b[n:]
		if err != nil {
			w.g.fail(fmt.Errorf("%w: %w", errTarget, err))
			return gnet.Close
		}
		if whole {
			answered++
			w.lost = 0
			if len(s.asked) == 0 {
				w.g.fail(fmt.Errorf("%w: an answer that nobody asked for", errTarget))
				return gnet.Close
			}
			w.tally.done(w.g.now()-s.asked[0], s.size)
			s.asked = s.asked[:copy(s.asked, s.asked[1:])]
			s.size = 0
		} else if n == 0 {
			break
		}
	}
	discard(c, all-len(b))
	switch {
	case answered == 0:
		return gnet.None
	case s.last:
		return gnet.Close
	case w.g.aim.Scenario.Load == Idle:
		w.askNext()
	default:
		s.send(w.g.now(), answered)
	}
	return gnet.None
}

// OnClose implements gnet.EventHandler: a connection that the target has closed is opened again.
func (w *worker) OnClose(c gnet.Conn, err error) gnet.Action {
	s, ok := c.Context().(*caller)
	if !ok || w.g.stopped() {
		return gnet.None
	}
	if len(s.asked) > 0 {
		if err == nil {
			err = io.EOF
		}
		w.tally.failed(kindOf(err))
	}
	if w.g.aim.Scenario.Load == Idle {
		w.tally.failed("idle connection closed")
	}
	*s = caller{w: w, reader: w.reader()}
	if w.lost++; w.lost > 10+3*w.size {
		w.g.fail(fmt.Errorf("%w: it closes every connection without an answer", errTarget))
		return gnet.None
	}
	w.g.spawn(func() {
		err := w.connect(context.Background(), s)
		if err != nil {
			w.g.fail(fmt.Errorf("%w: %w", errTarget, err))
			return
		}
		_ = w.loop.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
			// Closed again already, or start will see it, or it has nothing to do.
			if s.c != nil && w.started && w.g.aim.Scenario.Load != Idle {
				s.send(w.g.now(), w.g.aim.Pipeline)
			}
			return nil
		}))
	})
	return gnet.None
}
