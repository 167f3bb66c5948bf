package lb

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine"
)

// Endpoint is one address of a cluster, and what is known of it. Safe for all loops; what a loop keeps for itself is
// in its Local.
type Endpoint struct {
	address string
	addrs   atomic.Pointer[[]engine.Addr]
	shared  *shared
	local   []Local
	changed atomic.Pointer[func()]
	tls     atomic.Pointer[endpointTLS] // what TLSConfig has made
	place   atomic.Uint32               // among the members of the newest table

	_        [64]byte // what every session writes is apart from what every pick reads
	inFlight atomic.Int64
	_        [64]byte

	connections, pending atomic.Int64 // see Link
	reclaiming           atomic.Bool

	healthy atomic.Bool // as the checks say
	ejected atomic.Bool // as its answers say
	leaving atomic.Bool // takes nothing new: it drains, is in maintenance or gone
	passive passive
	speed   speed
	// Up, Down and Ejections count changes.
	Up, Down, Ejections atomic.Uint64

	// Guarded by the cluster's mutex.
	since time.Time   // when it came up; the zero value if it has been up from the start
	until time.Time   // when its ejection ends
	times int         // ejections in a row
	drain *time.Timer // aborts what goes on with it
	stop  func()      // ends the resolving of its name; nil: that does not go on
}

// Local is an endpoint's state on one loop: written by it alone, its counters read by anyone.
type Local struct {
	_ [64]byte
	// Idle are the connections kept warm, the latest used last.
	Idle []*engine.Conn
	// Requests counts sessions (tcp, udp) and exchanges (http) that were given to the endpoint.
	Requests engine.Counter
	// ConnectErrors counts dials that failed, Failures what went wrong after: resets, garbage, timeouts.
	ConnectErrors, Failures engine.Counter
	Overflow                Overflow
	// Sent and Received count bytes to and from the endpoint.
	Sent, Received engine.Counter
	held           *Held          // the first of a list
	took, timed    engine.Counter // nanoseconds, of how many measures: see Cluster.Timed
	_              [64]byte
}

func newEndpoint(address string, s *shared, log *slog.Logger) *Endpoint {
	ep := &Endpoint{address: address, shared: s, local: make([]Local, len(s.loops))}
	ep.healthy.Store(true)
	if !needsDNS(address) {
		if addrs, err := engine.Resolve(context.Background(), address); err == nil {
			ep.addrs.Store(&addrs)
		}
		return ep
	}
	ep.follow(log)
	return ep
}

// follow has the endpoint's name resolved, if it is one, until unfollow. Who calls either holds the cluster's mutex.
func (ep *Endpoint) follow(log *slog.Logger) {
	if ep.stop != nil || !needsDNS(ep.address) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { ep.resolve(ctx, log) })
	ep.stop = func() { cancel(); done.Wait() }
}

func (ep *Endpoint) unfollow() {
	if ep.stop != nil {
		ep.stop()
		ep.stop = nil
	}
}

func needsDNS(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if strings.HasPrefix(address, "unix:") || err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}

// resolveEvery is how long a name's addresses are believed; resolveRetry how soon a failure is tried again.
const (
	resolveEvery = 30 * time.Second
	resolveRetry = time.Second
)

// resolve keeps the addresses of a name up to date; a failure keeps the last good ones.
func (ep *Endpoint) resolve(ctx context.Context, log *slog.Logger) {
	for failed := false; ; {
		addrs, err := engine.Resolve(ctx, ep.address)
		wait := resolveEvery
		if err == nil {
			first := ep.addrs.Swap(&addrs) == nil
			if changed := ep.changed.Load(); first && changed != nil {
				(*changed)()
			}
			failed = false
		} else {
			if wait = resolveRetry; !failed && ctx.Err() == nil {
				log.Warn("endpoint cannot be resolved", "endpoint", ep.address, "error", err)
			}
			failed = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// String is the endpoint's address as configured.
func (ep *Endpoint) String() string { return ep.address }

// Addrs are the socket addresses to dial; none if its name has not been resolved yet.
func (ep *Endpoint) Addrs() []engine.Addr {
	if a := ep.addrs.Load(); a != nil {
		return *a
	}
	return nil
}

// Healthy says what the checks found last; true if there are none.
func (ep *Endpoint) Healthy() bool { return ep.healthy.Load() }

// Ejected says that the endpoint is left out for what it did to sessions and exchanges.
func (ep *Endpoint) Ejected() bool { return ep.ejected.Load() }

// Leaving says that nothing new is given to the endpoint: it drains, is in maintenance, or no configuration names it
// any more. Nothing is to be kept warm to it.
func (ep *Endpoint) Leaving() bool { return ep.leaving.Load() }

// Usable says that the endpoint is up, as far as is known. Its cluster may still have reason to prefer others.
func (ep *Endpoint) Usable() bool {
	return ep.Healthy() && !ep.Ejected() && !ep.Leaving() && ep.addrs.Load() != nil
}

// InFlight is how many sessions and exchanges it has now.
func (ep *Endpoint) InFlight() int64 { return ep.inFlight.Load() }

// Local is the endpoint's state on loop l.
func (ep *Endpoint) Local(l *engine.Loop) *Local { return &ep.local[l.ID()] }

// Total sums a counter over the loops.
func (ep *Endpoint) Total(of func(*Local) *engine.Counter) (n uint64) {
	for i := range ep.local {
		n += of(&ep.local[i]).Load()
	}
	return n
}

// Begin counts a session or exchange in, as Take does.
func (ep *Endpoint) Begin(l *engine.Loop) {
	ep.inFlight.Add(1)
	ep.begun(l)
}

// begin is Begin while fewer than most are in flight.
func (ep *Endpoint) begin(l *engine.Loop, most int64) bool {
	for {
		n := ep.inFlight.Load()
		if n >= most {
			return false
		}
		if ep.inFlight.CompareAndSwap(n, n+1) {
			ep.begun(l)
			return true
		}
	}
}

func (ep *Endpoint) begun(l *engine.Loop) {
	ep.local[l.ID()].Requests.Inc()
	s := &ep.shared.loops[l.ID()]
	s.inFlight.Store(s.inFlight.Load() + 1)
}

// End is the counterpart of Begin and Take, on the same loop.
func (ep *Endpoint) End(l *engine.Loop) {
	ep.inFlight.Add(-1)
	s := &ep.shared.loops[l.ID()]
	s.inFlight.Store(s.inFlight.Load() - 1)
	s.least.end(ep.place.Load())
	ep.left()
}

// closeIdle ends the connections kept warm, on every loop.
func (ep *Endpoint) closeIdle() {
	for _, l := range ep.shared.engine {
		l.Post(func() {
			n := ep.Local(l)
			for n.hangUp() {
			}
			n.Idle = nil
		})
	}
}
