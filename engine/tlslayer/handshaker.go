package tlslayer

import (
	"crypto/tls"
	"sync"

	"sluice/engine"
)

// Owner hears how a handshake went.
type Owner interface {
	// Secured is called once, on the connection's loop: with what was agreed, or with an *Error; and not at all if the
	// connection was closed meanwhile. The connection has the handler again that it had before, and no timeout. After
	// success a Ready follows. After an error it is closed, but for ErrPlainHTTP: then it has no layer, nothing of it has
	// been read, and what happens to it is the owner's.
	Secured(c *engine.Conn, state *tls.ConnectionState, err error)
}

// Handshaker runs the handshakes of all loops. Safe from any goroutine.
type Handshaker struct {
	cfg   Config
	count Counters

	mu      sync.Mutex
	running int
	resumed queue // have heard from their peer; first, as what is finished gives its memory back
	fresh   queue // wait to begin
}

// New is a Handshaker within the bounds of cfg, which is valid.
func New(cfg Config) *Handshaker { return &Handshaker{cfg: cfg.filled()} }

// Counters are the totals.
func (w *Handshaker) Counters() *Counters { return &w.count }

// Server begins the handshake with a client that has connected. An error is ErrShed, or engine.ErrClosed: nothing has
// begun then, and owner hears nothing. owner is never called before it returns. To be called on the loop of c; until
// Secured, c belongs to the handshake, but may be closed. cfg is shared and must not change; its callbacks run beside the
// loops, within Config.Running: what they wait for others wait for too.
func (w *Handshaker) Server(c *engine.Conn, cfg *tls.Config, owner Owner) error {
	return w.begin(c, cfg, owner, false)
}

// Client is Server for a connection that was dialled, once it is connected.
func (w *Handshaker) Client(c *engine.Conn, cfg *tls.Config, owner Owner) error {
	return w.begin(c, cfg, owner, true)
}

func (w *Handshaker) begin(c *engine.Conn, cfg *tls.Config, owner Owner, client bool) error {
	if c.Closed() {
		return engine.ErrClosed
	}
	h := &handshake{crew: w, cfg: cfg, owner: owner, client: client, before: c.Handler()}
	if w.count.UnderWay.Add(1) > int64(w.cfg.Handshakes) || c.Loop().Short() {
		w.count.UnderWay.Add(-1)
		h.totals().failed[Shed].Add(1)
		return ErrShed
	}
	h.y = &layer{conn: c, hs: h}
	c.SetLayer(h.y)
	c.SetHandler(h)
	c.SetTimeout(w.cfg.Timeout)
	c.Loop().Again(c)
	return nil
}

// enter has h run as soon as it may; false: too many wait.
func (w *Handshaker) enter(h *handshake) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.running < w.cfg.Running:
		w.running++
		go h.run()
	case w.fresh.len >= w.cfg.Queue:
		return false
	default:
		w.fresh.push(h)
		w.count.Queued.Store(int64(w.fresh.len))
	}
	return true
}

// resume wakes h, which waits for its peer, as soon as it may run.
func (w *Handshaker) resume(h *handshake) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < w.cfg.Running {
		w.running++
		h.wake <- struct{}{}
	} else {
		w.resumed.push(h)
	}
}

// leave is called by one that runs, when it waits for its peer or is done: the next one has its place.
func (w *Handshaker) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.resumed.len > 0:
		w.resumed.pop().wake <- struct{}{}
	case w.fresh.len > 0:
		go w.fresh.pop().run()
		w.count.Queued.Store(int64(w.fresh.len))
	default:
		w.running--
	}
}

// queue is first in, first out.
type queue struct {
	first, last *handshake
	len         int
}

func (q *queue) push(h *handshake) {
	if q.len == 0 {
		q.first = h
	} else {
		q.last.next = h
	}
	q.last = h
	q.len++
}

func (q *queue) pop() *handshake {
	h := q.first
	q.first, h.next = h.next, nil
	q.len--
	return h
}
