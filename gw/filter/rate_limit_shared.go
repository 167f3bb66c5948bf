package filter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/gw/limit"
	"sluice/gw/limit/redis"
)

// SharedLimit has all processes that have a limit of the same name count together, in a Redis or Valkey. No request waits for it:
// each process decides by what it knows, and tells and asks every interval, and at once when it has given a four-hundredth of the
// burst or of a second's worth. In any time t, n processes let through no more than burst + rate·t + (n-1)·(what one of them is
// asked for in a round, at most rate·interval and what was free when it last asked); it is paid back later.
type SharedLimit struct {
	redis.Config `yaml:",inline"`
	// Interval is 1 ms to 10 s; 0: 20 ms.
	Interval time.Duration `yaml:"interval"`
	// OnFailure is what happens while the server does not answer, from the beginning on; empty: local.
	OnFailure OnFailure `yaml:"on_failure"`
	// Nodes is how many processes there are, for their shares in local; 0: 1.
	Nodes int `yaml:"nodes"`
}

// OnFailure is what a limit does without what it needs.
type OnFailure string

// The choices.
const (
	// Local has each process let through its own share: 1/nodes of the limit.
	Local OnFailure = "local"
	// Open lets everything through.
	Open OnFailure = "open"
	// Closed refuses everything, with 503.
	Closed OnFailure = "closed"
)

// Choices are the values that a file may have.
func (OnFailure) Choices() []string { return []string{string(Local), string(Open), string(Closed)} }

func (o OnFailure) validate(report func(path, message string)) {
	if o != "" && !slices.Contains(o.Choices(), string(o)) {
		report("on_failure", fmt.Sprintf("%q is not one of %s", string(o), strings.Join(o.Choices(), ", ")))
	}
}

func validateInterval(d time.Duration, report func(path, message string)) {
	if d != 0 && (d < time.Millisecond || d > 10*time.Second) {
		report("interval", fmt.Sprintf("interval %v: 1ms to 10s", d))
	}
}

const defaultInterval = 20 * time.Millisecond

func (s *SharedLimit) validate(name string, report func(path, message string)) {
	if name == "" {
		report("", "what processes share needs a name, in rate_limit")
	}
	s.Config.Validate(report)
	validateInterval(s.Interval, report)
	s.OnFailure.validate(report)
	if s.Nodes < 0 || s.Nodes > 10_000 {
		report("nodes", fmt.Sprintf("%d nodes: 1 to 10000", s.Nodes))
	}
}

// sharedTable is a table with the goroutine that tells of it, for all filters that have the same.
type sharedTable struct {
	table *limit.Table
	node  *redis.Node
	uses  int
}

// sharedTables are those in use, by all that makes them what they are. A filter that is closed gives its use back.
type sharedTables struct {
	mu  sync.Mutex
	all map[string]*sharedTable
}

var ledgers = sharedTables{all: map[string]*sharedTable{}}

// get is the table of a configuration and its key in s.
func (s *sharedTables) get(cfg *RateLimit, id string, fresh func() *limit.Table) (*sharedTable, string) {
	interval := cfg.Redis.Interval
	if interval == 0 {
		interval = defaultInterval
	}
	key := fmt.Sprintf("%s %s %v", id, cfg.Redis.ID(), interval)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.all[key]
	if t == nil {
		shared := &sharedTable{table: fresh()}
		t = shared
		t.table.Share(func() { shared.node.Wake() })
		t.node = redis.Start(cfg.Redis.Config, id, interval, func(ctx context.Context, to *redis.Ledger) (bool, error) {
			return shared.table.Report(ctx, to, sinceStart)
		})
		s.all[key] = t
	}
	t.uses++
	return t, key
}

// release gives a use back.
func (s *sharedTables) release(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.all[key]; t.uses > 1 {
		t.uses--
	} else {
		delete(s.all, key)
		t.node.Close()
	}
}
