package lb

import (
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"sluice/engine"
)

// Outlier ejects endpoints for what they do to sessions and exchanges, for a time that grows from ejection to ejection.
type Outlier struct {
	// Failures in a row eject: connections refused or timed out, responses that do not come or are garbage, resets before
	// the first byte, 502 to 504; 0: 5. Errors are 5xx in a row; 0: they do not.
	Failures int `yaml:"consecutive_failures"`
	Errors   int `yaml:"consecutive_5xx"`
	// Latency ejects who takes so many times as long as the median endpoint, over an Interval (0: 10 s) with at least
	// MinRequests (0: 20) of its own; 0: nobody. At L4 it is the time to connect, at L7 that to a response's head.
	Latency     float64       `yaml:"latency_factor"`
	MinRequests int           `yaml:"min_requests"`
	Interval    time.Duration `yaml:"interval"`
	// EjectionTime is how long the first ejection lasts, 0: 30 s; the n-th in a row lasts n times as long, and at most
	// MaxEjectionTime, 0: 5 min.
	EjectionTime    time.Duration `yaml:"ejection_time"`
	MaxEjectionTime time.Duration `yaml:"max_ejection_time"`
	// MaxEjected is the percentage of the endpoints that may be out at a time, but always one if there are others; 0: 50.
	MaxEjected int `yaml:"max_ejected_percent"`
}

func (o *Outlier) validate(report func(path, message string)) {
	for _, n := range []struct {
		key string
		bad bool
	}{{"consecutive_failures", o.Failures < 0}, {"consecutive_5xx", o.Errors < 0}, {"min_requests", o.MinRequests < 0},
		{"interval", o.Interval < 0}, {"ejection_time", o.EjectionTime < 0}, {"max_ejection_time", o.MaxEjectionTime < 0}} {
		if n.bad {
			report(n.key, "must not be negative")
		}
	}
	if o.Latency != 0 && !(o.Latency > 1 && o.Latency < 1e6) {
		report("latency_factor", fmt.Sprintf("%v: more than 1 times the median", o.Latency))
	}
	if o.MaxEjected < 0 || o.MaxEjected > 100 {
		report("max_ejected_percent", fmt.Sprintf("%d: 0 to 100 percent", o.MaxEjected))
	}
}

func (o Outlier) withDefaults() *Outlier {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if o.Failures == 0 {
		o.Failures = 5
	}
	if o.MinRequests == 0 {
		o.MinRequests = 20
	}
	if o.MaxEjected == 0 {
		o.MaxEjected = 50
	}
	def(&o.Interval, 10*time.Second)
	def(&o.EjectionTime, 30*time.Second)
	def(&o.MaxEjectionTime, max(5*time.Minute, o.EjectionTime))
	return &o
}

// passive is what an endpoint's sessions and exchanges have shown. Safe for all loops. Each counts in a row.
type passive struct {
	connects, failures, errors atomic.Int32
	suspected                  atomic.Bool // the keeper has been told
	seen                       struct{ took, timed uint64 }
}

func (p *passive) reset() {
	p.connects.Store(0)
	p.failures.Store(0)
	p.errors.Store(0)
}

// Connected tells that a connection to ep was made, and how long that took.
func (c *Cluster) Connected(l *engine.Loop, ep *Endpoint, took time.Duration) {
	if ep.passive.connects.Load() != 0 {
		ep.passive.connects.Store(0)
	}
	c.timed(l, ep, took)
}

// ConnectFailed tells that a connection to ep was refused, or not made in time.
func (c *Cluster) ConnectFailed(l *engine.Loop, ep *Endpoint) {
	ep.Local(l).ConnectErrors.Inc()
	c.lost(l, ep)
	if o := c.cfg.Outlier; o != nil && int(ep.passive.connects.Add(1)) >= o.Failures {
		c.suspect(ep)
	}
}

// Failed tells that ep did not do its part: it did not answer, or nothing that could be passed on, or broke off.
func (c *Cluster) Failed(l *engine.Loop, ep *Endpoint) {
	ep.Local(l).Failures.Inc()
	c.lost(l, ep)
	if c.adapter != nil {
		c.adapter.failed(l.ID(), l.Now())
	}
	c.faulted(ep)
}

// lost counts a failure as if it had taken as long as a connection may: who fails fast must not look fast.
func (c *Cluster) lost(l *engine.Loop, ep *Endpoint) {
	if c.cfg.Picker == EWMA {
		ep.speed.observe(c.cfg.ConnectTimeout, l.Now())
	}
}

func (c *Cluster) faulted(ep *Endpoint) {
	if o := c.cfg.Outlier; o != nil && int(ep.passive.failures.Add(1)) >= o.Failures {
		c.suspect(ep)
	}
}

// Served tells that ep did its part; status is that of its response, or 0 at L4.
func (c *Cluster) Served(ep *Endpoint, status int) {
	o := c.cfg.Outlier
	if o == nil {
		return
	}
	p := &ep.passive
	if status > 0 && p.connects.Load() != 0 {
		p.connects.Store(0) // at L7 this is what tells of a connection
	}
	if status >= 502 && status <= 504 {
		c.faulted(ep)
	} else if p.failures.Load() != 0 {
		p.failures.Store(0)
	}
	switch {
	case status < 500:
		if p.errors.Load() != 0 {
			p.errors.Store(0)
		}
	case o.Errors > 0 && int(p.errors.Add(1)) >= o.Errors:
		c.suspect(ep)
	}
}

// Timed says that somebody wants to know how long endpoints take.
func (c *Cluster) Timed() bool {
	return c.compared() || c.measures() || c.adapter != nil
}

// compared says that the times of endpoints are compared with each other.
func (c *Cluster) compared() bool {
	return c.cfg.Picker == EWMA || c.cfg.Outlier != nil && c.cfg.Outlier.Latency > 0
}

// Answered tells how long ep took to begin its response.
func (c *Cluster) Answered(l *engine.Loop, ep *Endpoint, took time.Duration) {
	if c.measures() {
		s := &c.shared.loops[l.ID()]
		if s.latency == nil {
			s.latency = &quantile{}
		}
		s.latency.observe(took, l.Now())
	}
	if c.adapter != nil {
		c.adapter.answered(l.ID(), took, l.Now())
	}
	c.timed(l, ep, took)
}

func (c *Cluster) timed(l *engine.Loop, ep *Endpoint, took time.Duration) {
	if !c.compared() {
		return
	}
	if c.cfg.Picker == EWMA {
		ep.speed.observe(took, l.Now())
	}
	n := ep.Local(l)
	n.took.Add(uint64(max(took, 0)))
	n.timed.Inc()
}

// suspect has the keeper look at ep.
func (c *Cluster) suspect(ep *Endpoint) {
	if ep.passive.suspected.Load() || !ep.passive.suspected.CompareAndSwap(false, true) {
		return
	}
	select {
	case c.suspects <- ep:
	default:
		ep.passive.suspected.Store(false) // so many at once: the next failure tells again
	}
}

// tend ejects suspect, or nil, and those who are too slow, and lets those in again whose time is up. It returns when it
// has to look again; 0: not before something happens. changed says that the table is no longer right. The caller holds mu.
func (c *Cluster) tend(suspect *Endpoint, now time.Time) (next time.Duration, changed bool) {
	o := c.cfg.Outlier
	if o == nil {
		return 0, false
	}
	soon := func(d time.Duration) {
		if next == 0 || d < next {
			next = max(d, time.Millisecond)
		}
	}
	if suspect != nil {
		p := &suspect.passive
		p.suspected.Store(false)
		connects, failures, errors := int(p.connects.Load()), int(p.failures.Load()), int(p.errors.Load())
		if max(connects, failures) >= o.Failures || o.Errors > 0 && errors >= o.Errors { // it may have done better since
			changed = c.eject(suspect, now, slog.Group("in_a_row", "connect_errors", connects, "failures", failures, "errors", errors))
		}
	}
	if o.Latency > 0 {
		if now.Sub(c.looked) >= o.Interval {
			c.looked = now
			changed = c.ejectSlow(now) || changed
		}
		soon(c.looked.Add(o.Interval).Sub(now))
	}
	for i := range c.members {
		ep := c.members[i].Endpoint
		switch {
		case !ep.Ejected():
			// Who has been good for as long as an ejection lasts is not on its way to a longer one.
			if ep.times > 0 && now.Sub(ep.until) >= o.EjectionTime {
				ep.times--
				ep.until = now
			}
		case now.Before(ep.until):
			soon(ep.until.Sub(now))
		default:
			ep.passive.reset() // what its last sessions added
			ep.ejected.Store(false)
			ep.since = now
			changed = true
			c.log.Info("endpoint is let in again", "endpoint", ep.address)
		}
		if ep.times > 0 && !ep.Ejected() {
			soon(ep.until.Add(o.EjectionTime).Sub(now))
		}
	}
	return next, changed
}

// eject says whether it did: there is a bound on how many may be out.
func (c *Cluster) eject(ep *Endpoint, now time.Time, why slog.Attr) bool {
	o := c.cfg.Outlier
	out := 0
	mine, others := false, false
	for i := range c.members {
		m := &c.members[i]
		if m.Ejected() {
			out++
		}
		mine = mine || m.Endpoint == ep
		others = others || m.Endpoint != ep && m.Usable()
	}
	// Nobody is better off without the last one.
	if !mine || !others || ep.Ejected() || out > 0 && (out+1)*100 > o.MaxEjected*len(c.members) {
		return false
	}
	ep.passive.reset()
	ep.times++
	lasts := min(time.Duration(ep.times)*o.EjectionTime, o.MaxEjectionTime)
	ep.until = now.Add(lasts)
	ep.ejected.Store(true)
	ep.Ejections.Add(1)
	ep.closeIdle()
	c.log.Warn("endpoint is ejected", "endpoint", ep.address, "for", lasts, why)
	return true
}

// ejectSlow looks at the means of the interval that has passed.
func (c *Cluster) ejectSlow(now time.Time) (ejected bool) {
	o := c.cfg.Outlier
	type mean struct {
		ep *Endpoint
		t  time.Duration
	}
	var means []mean
	for i := range c.members {
		ep := c.members[i].Endpoint
		took := ep.Total(func(n *Local) *engine.Counter { return &n.took })
		timed := ep.Total(func(n *Local) *engine.Counter { return &n.timed })
		seen := &ep.passive.seen
		if n := timed - seen.timed; n >= uint64(o.MinRequests) && ep.Usable() {
			means = append(means, mean{ep, time.Duration((took - seen.took) / n)})
		}
		seen.took, seen.timed = took, timed
	}
	if len(means) < 3 {
		return false // of two nobody can say which is the slow one
	}
	slices.SortFunc(means, func(a, b mean) int { return int(a.t - b.t) })
	median := means[len(means)/2].t
	for _, m := range slices.Backward(means) {
		if float64(m.t) <= o.Latency*float64(median) {
			break
		}
		ejected = c.eject(m.ep, now, slog.Group("latency", "mean", m.t, "median", median)) || ejected
	}
	return ejected
}
