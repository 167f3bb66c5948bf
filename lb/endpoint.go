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
	address  string
	addrs    atomic.Pointer[[]engine.Addr]
	healthy  atomic.Bool
	inFlight atomic.Int64
	gone     atomic.Bool
	local    []Local
	stop     context.CancelFunc
}

// Local is an endpoint's state on one loop: written by it alone, its counters read by anyone.
type Local struct {
	_ [64]byte
	// Idle are the connections kept warm, the latest used last.
	Idle []*engine.Conn
	// Requests counts sessions (tcp) and exchanges (http) that were given to the endpoint.
	Requests engine.Counter
	// ConnectErrors counts dials that failed, Failures what went wrong after: resets, garbage, timeouts.
	ConnectErrors, Failures engine.Counter
	// Sent and Received count bytes to and from the endpoint.
	Sent, Received engine.Counter
	_              [64]byte
}

func newEndpoint(address string, loops int, log *slog.Logger) *Endpoint {
	ep := &Endpoint{address: address, local: make([]Local, loops), stop: func() {}}
	ep.healthy.Store(true)
	if !needsDNS(address) {
		if addrs, err := engine.Resolve(context.Background(), address); err == nil {
			ep.addrs.Store(&addrs)
		}
		return ep
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { ep.resolve(ctx, log) })
	ep.stop = func() { cancel(); done.Wait() }
	return ep
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
			ep.addrs.Store(&addrs)
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

// InFlight is how many sessions and exchanges it has now.
func (ep *Endpoint) InFlight() int64 { return ep.inFlight.Load() }

// Local is the endpoint's state on loop l.
func (ep *Endpoint) Local(l *engine.Loop) *Local { return &ep.local[l.ID()] }

// Gone says that no configuration names the endpoint any more: nothing is to be kept warm to it.
func (ep *Endpoint) Gone() bool { return ep.gone.Load() }

// Total sums a counter over the loops.
func (ep *Endpoint) Total(of func(*Local) *engine.Counter) (n uint64) {
	for i := range ep.local {
		n += of(&ep.local[i]).Load()
	}
	return n
}

// Begin counts a session or exchange in, and End out.
func (ep *Endpoint) Begin(l *engine.Loop) {
	ep.inFlight.Add(1)
	ep.local[l.ID()].Requests.Inc()
}

// End is Begin's counterpart.
func (ep *Endpoint) End() { ep.inFlight.Add(-1) }
