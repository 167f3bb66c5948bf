package engine

import (
	"fmt"
	"net/netip"
)

// Limits bound what a listener accepts. 0 is no bound.
type Limits struct {
	// MaxConn bounds the connections that the listener has open; those beyond wait in the kernel's backlog.
	MaxConn int `yaml:"maxconn"`
	// AcceptRate bounds how many are accepted over time, in bursts of up to one second's worth; those beyond wait in
	// the backlog.
	AcceptRate Rate `yaml:"accept_rate"`
	// MaxConnPerSource bounds the open connections of one IPv4 address or IPv6 /64; those beyond are reset.
	MaxConnPerSource int `yaml:"maxconn_per_source"`
}

// Validate reports what is wrong with l, by the path of the key.
func (l Limits) Validate(report func(path, message string)) {
	if l.MaxConn < 0 {
		report("maxconn", "must not be negative")
	}
	if l.AcceptRate < 0 || l.AcceptRate > maxRate {
		report("accept_rate", fmt.Sprintf("%v: up to %v", l.AcceptRate, Rate(maxRate)))
	}
	if n := l.MaxConnPerSource; n < 0 || n > maxPerSource {
		report("maxconn_per_source", fmt.Sprintf("%d connections: up to %d", n, maxPerSource))
	}
}

// Terms are what new connections meet. They are exchanged as one.
type Terms struct {
	Limits
	// Admit says whether connections from an address are taken; those that are not are reset. It is called on all loops
	// and must not block. nil takes all, and a UNIX socket's clients have no address to be asked about.
	Admit   func(netip.Addr) bool
	Handler Acceptor
}

// ListenerCounters are a listener's totals on one loop.
type ListenerCounters struct {
	_ [64]byte
	// Denied connections were reset because Terms.Admit said so, Refused ones because their source had its share open.
	Denied, Refused Counter
	// Untracked connections were taken although there was no room to count their source's.
	Untracked Counter
	// Paused counts how often accepting stopped at maxconn or the accept rate; it is tried again ten times a second.
	Paused Counter
	_      [64]byte
}

// Set is SetTerms with no more than a bound on the open connections.
func (ln *Listener) Set(maxConn int, h Acceptor) {
	ln.SetTerms(Terms{Limits: Limits{MaxConn: maxConn}, Handler: h})
}

// SetTerms exchanges what new connections meet, those that wait in the backlog included; those that are open keep what
// they started with. One goroutine at a time may call it, at any time.
func (ln *Listener) SetTerms(t Terms) {
	if t.MaxConnPerSource > 0 && ln.sources.Load() == nil {
		n := ln.engine.maxConn
		if n == 0 {
			n = maxSources
		}
		ln.sources.Store(newSources(n))
	}
	ln.terms.Store(&t)
}

// Total sums a counter over the loops. Safe from any goroutine.
func (ln *Listener) Total(of func(*ListenerCounters) *Counter) (n uint64) {
	for _, a := range ln.acceptors {
		n += of(&a.count).Load()
	}
	return n
}

func (ln *Listener) full(maxConn int64) bool {
	e := ln.engine
	return maxConn > 0 && ln.open.Load() >= maxConn || e.maxConn > 0 && e.open.Load() >= e.maxConn
}

// admit says whether a connection from address is taken, and where its source was counted.
func (a *acceptor) admit(address netip.Addr, t *Terms) (source uint32, ok bool) {
	if !address.IsValid() { // a UNIX socket's client
		return 0, true
	}
	if t.Admit != nil && !t.Admit(address) {
		a.count.Denied.Inc()
		return 0, false
	}
	if t.MaxConnPerSource > 0 {
		if source, ok = a.sources.Load().enter(address, t.MaxConnPerSource); !ok {
			a.count.Refused.Inc()
			return 0, false
		}
		if source == 0 {
			a.count.Untracked.Inc()
		}
	}
	return source, true
}
