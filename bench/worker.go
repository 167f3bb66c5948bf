package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// worker is one gnet event loop of the generator with the connections that last. All but start and close happens on
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

	// The open loop: when the next request is due, and who may send it.
	interval  int64
	next      int64
	free      []*caller
	freeSince int64 // since when free has not been empty
	due       atomic.Int64
	starved   atomic.Bool // nobody is free: the target has them all
	kicked    atomic.Bool
}

// caller is a connection of the generator.
type caller struct {
	w     *worker
	c     gnet.Conn
	asked []int64 // when the requests under way were due, the oldest first
	left  int     // of the present answer's body
	size  int     // of the answer so far, in bytes
	last  bool    // the target closes after this answer
}

func newWorker(ctx context.Context, g *Generator, conns int) (*worker, error) {
	w := &worker{g: g, tally: newTally(), interval: g.interval(g.aim.Loops), size: conns}
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
		s := &caller{w: w}
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
		now := w.g.now()
		w.started = true
		w.next = now
		w.freeSince = now
		if w.g.aim.Scenario.Load == Idle {
			w.askNext()
			return nil
		}
		for _, s := range w.conns {
			switch {
			case s.c == nil: // closed already, and on its way back
			case w.interval > 0:
				w.free = append(w.free, s)
			default:
				s.send(now, w.g.aim.Pipeline)
			}
		}
		if w.interval > 0 {
			w.dispatch(now)
			w.g.spawn(w.pace)
		}
		return nil
	}))
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
	case w.interval > 0:
		if len(w.free) == 0 {
			w.freeSince = w.g.now()
		}
		w.free = append(w.free, s)
		w.dispatch(w.g.now())
	default:
		s.send(w.g.now(), answered)
	}
	return gnet.None
}

// read takes what it can of b: how many bytes, and whether an answer is whole with them.
func (s *caller) read(b []byte) (n int, whole bool, err error) {
	switch {
	case s.w.g.aim.Scenario.Load == PingPong:
		n = min(len(b), pingSize-s.size)
		s.size += n
		return n, s.size == pingSize, nil
	case s.left > 0:
		n = min(len(b), s.left)
		s.left -= n
		s.size += n
		return n, s.left == 0, nil
	}
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		if len(b) > 64<<10 {
			err = fmt.Errorf("a response head without an end")
		}
		return 0, false, err
	}
	head := b[:i+2]
	length, err := s.w.tally.head(head)
	if err != nil {
		return 0, false, err
	}
	s.last = closes(head)
	s.left = length
	s.size = i + 4
	return i + 4, length == 0, nil
}

// head reads a response's head, which ends with CRLF: it counts a status that is none of success, and returns the
// length of the body.
func (t *tally) head(head []byte) (int, error) {
	if len(head) < 14 || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return 0, fmt.Errorf("no HTTP response: %.40q", head)
	}
	if head[9] != '2' {
		t.failed("status " + string(head[9:12]))
	}
	n := contentLength(head)
	if n < 0 {
		return 0, fmt.Errorf("a response without Content-Length, which the generator cannot read: %.200q", head)
	}
	return n, nil
}

func closes(head []byte) bool {
	return bytes.Contains(head, []byte("\r\nConnection: close")) || bytes.Contains(head, []byte("\r\nconnection: close"))
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
	if i := slices.Index(w.free, s); i >= 0 {
		w.free = slices.Delete(w.free, i, i+1)
	}
	*s = caller{w: w}
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
			switch now := w.g.now(); {
			case s.c == nil || !w.started: // closed again already, or start will see it
			case w.g.aim.Scenario.Load == Idle:
			case w.interval > 0:
				w.free = append(w.free, s)
				w.dispatch(now)
			default:
				s.send(now, w.g.aim.Pipeline)
			}
			return nil
		}))
	})
	return gnet.None
}

// dispatch sends what is due, as far as connections are free.
func (w *worker) dispatch(now int64) {
	w.kicked.Store(false)
	for w.next <= now && len(w.free) > 0 {
		s := w.free[len(w.free)-1]
		w.free = w.free[:len(w.free)-1]
		w.tally.slipped(now - max(w.next, w.freeSince))
		s.send(w.next, 1)
		w.next += w.interval
		now = w.g.now()
	}
	w.starved.Store(len(w.free) == 0)
	w.due.Store(w.next)
}

// pace wakes the loop for requests that come due while nothing else happens on it.
func (w *worker) pace() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The kernel may otherwise put a wake-up off by 50 µs.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for !w.g.stopped() {
		wait := w.due.Load() - w.g.now()
		switch {
		case wait > 0:
		case w.starved.Load() || w.kicked.Load():
			wait = int64(20 * time.Microsecond)
		default:
			w.kicked.Store(true)
			if w.loop.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
				w.dispatch(w.g.now())
				return nil
			})) != nil {
				return
			}
			continue
		}
		ts := unix.NsecToTimespec(min(wait, int64(10*time.Millisecond)))
		_ = unix.Nanosleep(&ts, nil)
	}
}
