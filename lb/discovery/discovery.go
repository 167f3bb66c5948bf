// Package discovery finds the endpoints of a cluster: in a watched file, in DNS or in Consul.
//
//	file ─┐
//	dns  ─┼─► ask ──► set of endpoints ──► differs from the last one? ──► report
//	consul┘    ▲                             │
//	           └──── a while later ◄─────────┘
//
// A source that fails changes nothing: the last good set stays, however long it takes. Only what a source says in good
// order can empty a cluster. All of it runs on a goroutine of its own, off the loops, and knows nothing of clusters.
package discovery

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"time"
)

// Config names the source of a cluster's endpoints: one at most.
type Config struct {
	File   *File   `yaml:"file"`
	DNS    *DNS    `yaml:"dns"`
	Consul *Consul `yaml:"consul"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	first := ""
	for _, s := range []struct {
		key      string
		given    bool
		validate func(func(path, message string))
	}{{"file", c.File != nil, c.File.validate}, {"dns", c.DNS != nil, c.DNS.validate}, {"consul", c.Consul != nil, c.Consul.validate}} {
		if !s.given {
			continue
		}
		if first == "" {
			first = s.key
		} else {
			report(s.key, "a cluster's endpoints have one source: "+first+" is given as well")
		}
		s.validate(func(path, message string) { report(s.key+"."+path, message) })
	}
}

// Run finds endpoints until ctx ends, and reports the whole set each time that it differs from the one reported
// before: sorted by address, each address once. Nothing is reported before something good is known, and no failure is
// ever reported as a set; it is logged when it begins and when it is over. The sets are report's to keep, and nobody's
// to change.
func (c *Config) Run(ctx context.Context, log *slog.Logger, report func([]Endpoint)) {
	switch {
	case c.File != nil:
		follow(ctx, log.With("source", "file", "path", c.File.Path), newFileSource(c.File), report)
	case c.DNS != nil:
		follow(ctx, log.With("source", "dns", "name", c.DNS.Name), newDNSSource(c.DNS), report)
	case c.Consul != nil:
		follow(ctx, log.With("source", "consul", "service", c.Consul.Service), newConsulSource(c.Consul), report)
	default:
		<-ctx.Done()
	}
}

// source is where endpoints come from.
type source interface {
	// ask is one question. set is nil if there is nothing new to be known: nothing has changed, or all failed. A set
	// with an error is good as far as it goes: the source has done what it could for what failed. wait is how long
	// to wait before asking again.
	ask(ctx context.Context) (set []Endpoint, wait time.Duration, err error)
	// sayAgain is whether another error than the one before is worth another line of the log.
	sayAgain() bool
}

// follow asks s until ctx ends.
func follow(ctx context.Context, log *slog.Logger, s source, report func([]Endpoint)) {
	var last []Endpoint
	known, said := false, ""
	for {
		set, wait, err := s.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if set != nil {
			if set = canonical(set); !known || !reflect.DeepEqual(set, last) {
				known, last = true, set
				report(set)
			}
		}
		state := ""
		switch {
		case err == nil:
		case s.sayAgain():
			state = err.Error()
		case set != nil:
			state = "in part"
		default:
			state = "wholly"
		}
		if state != said {
			switch said = state; {
			case err == nil:
				log.Info("discovery is good again", "endpoints", len(last))
			case set != nil:
				log.Warn("discovery failed in part", "error", err, "endpoints", len(last))
			case known:
				log.Warn("discovery failed: the last good endpoints are kept", "error", err, "endpoints", len(last))
			default:
				log.Warn("discovery failed: no endpoints are known yet", "error", err)
			}
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// sleep waits for d; it says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// backoff is the wait before a failure is tried again: it doubles from first to most, a tenth of it up to chance, so
// that a server that comes back is not met by everybody at once.
type backoff struct{ first, most, now time.Duration }

// The waits of sources on the network. A second is short beside any health check's and long beside a question; after
// half a minute's wait nobody should have to restart a process to have it look again.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

func (b *backoff) next() time.Duration {
	b.now = min(max(b.first, 2*b.now), b.most)
	return b.now - rand.N(b.now/10+1)
}

func (b *backoff) reset() { b.now = 0 }

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
