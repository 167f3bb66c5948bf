package gw

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine"
	"sluice/gw/filter"
)

// Stats are a listener's totals; they outlive a reload. Safe for concurrent use.
type Stats struct {
	Loops  []Counters
	mu     sync.Mutex
	routes map[string]*RouteStats
	// refusals are *refusals by *filter.Refusal, which are few: each filter has its own. shadowed are those of filters in
	// shadow mode.
	refused, shadowed sync.Map
}

// refusals are those of one filter and reason.
type refusals struct {
	total  atomic.Uint64
	logged atomic.Uint64 // as of the last line in the log
	next   atomic.Int64  // on the exact clock: when there may be another
}

// refusalOf counts one in all, which is s.refused or s.shadowed.
func refusalOf(all *sync.Map, r *filter.Refusal) *refusals {
	n, ok := all.Load(r)
	if !ok {
		n, _ = all.LoadOrStore(r, new(refusals))
	}
	of := n.(*refusals)
	of.total.Add(1)
	return of
}

// logEvery bounds the log: a flood of refusals is not to become a flood of lines.
const logEvery = time.Second

// log says whether the refusal just counted is to be in the log, and how many there were since the last that was, with it.
func (of *refusals) log(now time.Duration) (since uint64, ok bool) {
	t := int64(now)
	next := of.next.Load()
	if t < next || !of.next.CompareAndSwap(next, t+int64(logEvery)) {
		return 0, false
	}
	total := of.total.Load()
	return total - of.logged.Swap(total), true
}

// Refusals are how often filters have refused, by who and why.
func (s *Stats) Refusals() map[filter.Refusal]uint64 { return totals(&s.refused) }

// Shadowed is how often filters in shadow mode would have.
func (s *Stats) Shadowed() map[filter.Refusal]uint64 { return totals(&s.shadowed) }

func totals(all *sync.Map) map[filter.Refusal]uint64 {
	out := map[filter.Refusal]uint64{}
	all.Range(func(k, n any) bool {
		out[*k.(*filter.Refusal)] += n.(*refusals).total.Load()
		return true
	})
	return out
}

// Route is what is counted for a route of that name.
func (s *Stats) Route(name string) *RouteStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.routes[name]
	if r == nil {
		if s.routes == nil {
			s.routes = map[string]*RouteStats{}
		}
		r = &RouteStats{loops: make([]atomic.Pointer[RouteCounters], len(s.Loops))}
		s.routes[name] = r
	}
	return r
}

// Routes are the totals of the routes that have had requests, by name.
func (s *Stats) Routes() map[string]RouteTotal {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]RouteTotal{}
	for name, r := range s.routes {
		if t := r.total(); t.Responses != [6]uint64{} {
			out[name] = t
		}
	}
	return out
}

// Counters is one loop's share, written by it alone.
type Counters struct {
	_ [64]byte
	// Requests have got a response of each class, 1xx excluded but 101: [2] counts 2xx.
	Responses [6]engine.Counter
	// Refused requests were malformed or against a limit; Aborted exchanges ended without a whole response.
	Refused, Aborted, Retries, Timeouts engine.Counter
	// Shed requests were answered 503 for want of memory, or of room in a cluster that limits itself.
	Shed engine.Counter
	// Hedges went to a second endpoint; Mirrored copies to another cluster, of which MirrorFailed came to nothing.
	Hedges, Mirrored, MirrorFailed engine.Counter
	// Tunnels were begun by an upgrade or CONNECT.
	Tunnels, TunnelsEnded engine.Counter
	_                     [64]byte
}

// RouteStats are a route's counters by loop. A loop's are made with its first request.
type RouteStats struct {
	loops []atomic.Pointer[RouteCounters]
}

// RouteCounters is one loop's share, written by it alone.
type RouteCounters struct {
	_         [64]byte
	Responses [6]engine.Counter // by class
	// Took counts the exchanges by how long they took, those of Buckets[i] or less and more than the one before in Took[i];
	// Nanoseconds is their sum.
	Took        [len(Buckets) + 1]engine.Counter
	Nanoseconds engine.Counter
	_           [64]byte
}

// Buckets are the bounds of the histogram of durations.
var Buckets = [...]time.Duration{500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second}

// total adds up the loops.
func (s *RouteStats) total() (sum RouteTotal) {
	for i := range s.loops {
		c := s.loops[i].Load()
		if c == nil {
			continue
		}
		for k := range c.Responses {
			sum.Responses[k] += c.Responses[k].Load()
		}
		for k := range c.Took {
			sum.Took[k] += c.Took[k].Load()
		}
		sum.Nanoseconds += c.Nanoseconds.Load()
	}
	return sum
}

// RouteTotal is RouteCounters, added up.
type RouteTotal struct {
	Responses   [6]uint64
	Took        [len(Buckets) + 1]uint64
	Nanoseconds uint64
}

func (s *RouteStats) count(loop, status int, took time.Duration) {
	c := s.loops[loop].Load()
	if c == nil {
		c = &RouteCounters{}
		s.loops[loop].Store(c)
	}
	c.Responses[status/100].Inc()
	i := 0
	for i < len(Buckets) && took > Buckets[i] {
		i++
	}
	c.Took[i].Inc()
	c.Nanoseconds.Add(uint64(max(took, 0)))
}
