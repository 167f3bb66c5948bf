package lb

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine"
)

// flow is a client's session with an endpoint.
type flow struct {
	engine.PacketConn
	*flows
	path       engine.Path
	hash       uint64
	ep         *Endpoint   // nil: the flow has ended
	local      *Local      // ep's, of this loop
	tried      []*Endpoint // that refused, since the last answer
	prev, next *flow
	used       time.Duration // when something was last sent or received, on the loop's clock
	began      time.Duration // on the exact clock, if somebody wants to know
	asked      uint64        // datagrams from the client
	answered   uint64        // and to it
}

var errNoAddress = errors.New("its name has not been resolved yet")

// connect takes an endpoint that has not been tried, and connects the flow to it; false if there is none, and the flow
// has the one that it had.
func (f *flow) connect() bool {
	cl := f.proxy.cluster
	for evicted := false; ; {
		ep, err := cl.Take(f.loop, f.hash, f.tried)
		if err != nil {
			return false
		}
		if ep == f.ep {
			ep.End(f.loop) // there is none better
			return true
		}
		err = errNoAddress
		if addrs := ep.Addrs(); len(addrs) > 0 {
			err = f.Connect(f.loop, &addrs[0], f)
		}
		switch {
		case err == nil:
			f.leave()
			f.ep, f.local = ep, ep.Local(f.loop)
			return true
		case !scarce(err):
			cl.ConnectFailed(f.loop, ep)
			f.tried = append(f.tried, ep)
		case evicted || !f.evict(f):
			ep.End(f.loop)
			return false
		default:
			evicted = true // now there is room
		}
		ep.End(f.loop)
	}
}

// leave counts the flow out of its endpoint.
func (f *flow) leave() {
	if f.ep != nil {
		f.ep.End(f.loop)
		f.ep = nil
	}
}

// Received implements engine.PacketConnHandler.
func (f *flow) Received(b []byte, segment int) {
	n := datagrams(len(b), segment)
	if f.answered == 0 {
		took := time.Duration(0)
		if f.began > 0 {
			took = f.loop.Clock() - f.began
		}
		f.proxy.cluster.Connected(f.loop, f.ep, took)
	}
	f.tried = f.tried[:0]
	f.use()
	f.answered += n
	f.count.ToClients.Add(n)
	f.count.BytesToClients.Add(uint64(len(b)))
	f.local.Received.Add(uint64(len(b)))
	f.socket.Reply(&f.path, b, segment)
	if r := f.proxy.responses; r > 0 && f.answered >= f.asked*uint64(r) {
		f.count.Answered.Inc()
		f.end()
	}
}

// Refused implements engine.PacketConnHandler: the flow goes on to the next endpoint.
func (f *flow) Refused(unix.Errno) {
	f.count.Refused.Inc()
	f.proxy.cluster.ConnectFailed(f.loop, f.ep)
	f.tried = append(f.tried, f.ep)
	if f.connect() {
		f.count.Retries.Inc()
		return
	}
	f.count.NoEndpoint.Add(uint64(f.Queued()))
	f.end()
}

// Lost implements engine.PacketConnHandler.
func (f *flow) Lost(n int) { f.count.Dropped.Add(uint64(n)) }

// use notes that the flow is not idle. Its place in the list changes with the loop's clock, 40 times a second at most.
func (f *flow) use() {
	if now := f.loop.Now(); now != f.used {
		f.used = now
		if f.list.next != f {
			f.unlink()
			f.link()
		}
	}
}

// link puts the flow before all others, unlink takes it out of the list.
func (f *flow) link() {
	f.prev, f.next = &f.list, f.list.next
	f.next.prev, f.list.next = f, f
}

func (f *flow) unlink() { f.prev.next, f.next.prev = f.next, f.prev }

// end ends the flow.
func (f *flow) end() {
	f.count.Ended.Inc()
	delete(f.by, f.path)
	f.unlink()
	f.release()
}

// release closes what the flow holds, and keeps it for the next one.
func (f *flow) release() {
	f.Close()
	f.leave()
	clear(f.tried)
	f.tried = f.tried[:0]
	f.asked, f.answered, f.began = 0, 0, 0
	f.prev, f.next, f.free = nil, f.free, f
}
