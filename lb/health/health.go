// Package health checks endpoints actively: it connects to them, asks them over HTTP or gRPC, or exchanges bytes with
// them, and says when they come up or go down. It runs in goroutines, off the loops, and knows nothing of clusters.
package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Config describes the checks of a cluster's endpoints. They are of one kind: http, grpc or expect, or if none of these
// is given a TCP connection that needs only be accepted.
type Config struct {
	HTTP   *HTTP   `yaml:"http"`
	GRPC   *GRPC   `yaml:"grpc"`
	Expect *Expect `yaml:"expect"`
	// Port of the endpoint's host that is checked; 0: the endpoint's own. An endpoint on a unix socket has none, and is
	// checked where it is.
	Port int `yaml:"port"`
	// Interval between two checks of an endpoint; 0: 2 s. Each time it is up to a fifth shorter, so that the checks of many
	// endpoints, and of many nodes, do not march in step.
	Interval time.Duration `yaml:"interval"`
	// IntervalDown is the interval while an endpoint is down, for finding sooner, or asking less often, that it is
	// back; 0: Interval.
	IntervalDown time.Duration `yaml:"interval_down"`
	// Timeout of one check, from the look-up of the endpoint's name to the answer's last byte; 0: 1 s.
	Timeout time.Duration `yaml:"timeout"`
	// Rise and Fall are how many checks in a row must agree to bring an endpoint up (0: 2) or down (0: 3).
	Rise int `yaml:"rise"`
	Fall int `yaml:"fall"`
	// MaxInFlight bounds the cluster's checks at any one time; 0: 64, which is soon through with 2,000 endpoints that
	// answer within milliseconds, and still checks 64 a second of endpoints that never answer. What has to wait for its
	// turn is checked late, and nothing else comes of it.
	MaxInFlight int `yaml:"max_in_flight"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) { c.build(report) }

// build makes a Checker of c. It is of use only if nothing was reported.
func (c *Config) build(report func(path, message string)) *Checker {
	ch := &Checker{
		port:     c.Port,
		interval: or(c.Interval, 2*time.Second),
		timeout:  or(c.Timeout, time.Second),
		rise:     or(c.Rise, 2),
		fall:     or(c.Fall, 3),
	}
	ch.intervalDown = or(c.IntervalDown, ch.interval)
	under := func(key string) func(path, message string) {
		return func(path, message string) { report(key+"."+path, message) }
	}
	first := ""
	kind := func(key string, given bool) bool {
		if given && first != "" {
			report(key, "is one kind of check too many: there is "+first)
		}
		if given && first == "" {
			first = key
		}
		return given
	}
	if kind("http", c.HTTP != nil) {
		ch.ask = c.HTTP.build(under("http"))
	}
	if kind("grpc", c.GRPC != nil) {
		ch.ask = c.GRPC.build(under("grpc"))
	}
	if kind("expect", c.Expect != nil) {
		ch.ask = c.Expect.build(under("expect"))
	}
	if c.Port < 0 || c.Port > 65535 {
		report("port", fmt.Sprintf("port %d: 1 to 65535, or 0 for the endpoint's own", c.Port))
	}
	for _, d := range []struct {
		key string
		bad bool
	}{
		{"interval", c.Interval < 0}, {"interval_down", c.IntervalDown < 0}, {"timeout", c.Timeout < 0},
		{"rise", c.Rise < 0}, {"fall", c.Fall < 0}, {"max_in_flight", c.MaxInFlight < 0},
	} {
		if d.bad {
			report(d.key, "must not be negative")
		}
	}
	ch.gate = make(gate, max(1, or(c.MaxInFlight, 64)))
	return ch
}

// Checker checks the endpoints of one cluster. Safe for concurrent use.
type Checker struct {
	ask                    probe // nil: to be connected is enough
	port                   int
	interval, intervalDown time.Duration
	timeout                time.Duration
	rise, fall             int
	gate                   gate
}

// Target is an endpoint to check.
type Target struct {
	// Address is host:port, [v6]:port or unix:/path.
	Address string
	// Preface is sent first on every connection, for endpoints that want to hear something before anything else: a
	// PROXY protocol header.
	Preface []byte
	// TLS is asked for each check how to speak it; nil: it is not spoken.
	TLS func() *tls.Config
	// Needed says that no other endpoint is up, so that one good check is enough, whatever Rise is; nil: there are others.
	Needed func() bool
}

// New builds the Checker of a configuration.
func New(cfg Config) (*Checker, error) {
	var errs []error
	ch := cfg.build(func(path, message string) { errs = append(errs, fmt.Errorf("%s: %s", path, message)) })
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return ch, nil
}

// Run checks t until ctx ends, and calls report each time that it changes, with why it went down, or nil. healthy is
// what it is believed to be at the start.
func (ch *Checker) Run(ctx context.Context, t Target, healthy bool, report func(up bool, why error)) {
	interval := func() time.Duration {
		if healthy {
			return ch.interval
		}
		return ch.intervalDown
	}
	// Checks of many endpoints are spread over the interval, from the first one on.
	wait := rand.N(interval()/4 + 1)
	for against := 0; ; wait = jitter(interval()) {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := ch.check(ctx, t)
		if ctx.Err() != nil {
			return
		}
		if up := err == nil; up == healthy {
			against = 0
			continue
		}
		against++
		if healthy && against >= ch.fall || !healthy && (against >= ch.rise || t.Needed != nil && t.Needed()) {
			healthy, against = !healthy, 0
			report(healthy, err)
		}
	}
}

// jitter is d, or up to a fifth less.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/5+1) }

// check is one check of t. Its time begins when it has a place among those in flight.
func (ch *Checker) check(ctx context.Context, t Target) error {
	if err := ch.gate.enter(ctx); err != nil {
		return err
	}
	defer ch.gate.leave()
	ctx, cancel := context.WithTimeout(ctx, ch.timeout)
	defer cancel()
	return t.probe(ctx, ch.port, ch.ask)
}

// gate holds one token for each check in flight.
type gate chan struct{}

// enter waits for a place, as long as ctx goes on.
func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
