package filter

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gw/limit"
	"sluice/gw/limit/redis"
)

// quotaWindow is a window and what was taken in it.
type quotaWindow struct {
	start, end time.Time
	tally      *limit.Tally
}

// quotaCounts are a quota's counts, for all filters that have the same. For all loops at once.
type quotaCounts struct {
	name    string // by which all processes call it
	label   string // the configuration's name
	per     Per
	zone    *time.Location
	keys    int
	now     func() time.Time
	node    *redis.Node
	current atomic.Pointer[quotaWindow]
	crowded atomic.Uint64 // of tallies that were before

	mu   sync.Mutex
	past []*quotaWindow // that may have something that was not told
	anew time.Time      // of the node alone: when the last full tally was left
}

// allQuotaCounts are those in use. A filter that is closed gives its use back.
var allQuotaCounts shared[string, *quotaCounts]

// takeQuotaCounts are a configuration's counts, and their key.
func takeQuotaCounts(cfg *Quota, keys int) (*quotaCounts, string) {
	zone, _ := time.LoadLocation(cfg.Timezone)
	interval := cfg.Redis.Interval
	if interval == 0 {
		interval = defaultInterval
	}
	name := fmt.Sprintf("%q %s %s", cfg.Name, cfg.Per, zone)
	key := fmt.Sprintf("%s %d %s %v", name, keys, cfg.Redis.ID(), interval)
	return allQuotaCounts.take(key, func() *quotaCounts {
		q := &quotaCounts{name: name, label: cfg.Name, per: cfg.Per, zone: zone, keys: keys, now: time.Now}
		q.node = redis.Start(cfg.Redis.Config, name, interval, q.report)
		return q
	}), key
}

func (q *quotaCounts) close(key string) {
	if allQuotaCounts.give(key) {
		q.node.Close()
	}
}

// at is the window that is now.
func (q *quotaCounts) at(now time.Time) *quotaWindow {
	for {
		w := q.current.Load()
		if w != nil && !now.Before(w.start) && now.Before(w.end) {
			return w
		}
		q.replace(w, now)
	}
}

// replace puts an empty tally, of the window that is now, in the place of w, unless another has been put there. Nobody needs to
// know what was taken in w here: it is told.
func (q *quotaCounts) replace(w *quotaWindow, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.current.Load() != w {
		return
	}
	next := &quotaWindow{tally: limit.NewTally(q.keys)}
	next.start, next.end = q.per.window(now.In(q.zone))
	q.current.Store(next)
	if w != nil {
		q.past = append(q.past, w)
		q.crowded.Add(w.tally.Crowded())
	}
}

// report tells what was taken in all windows. A past one that has nothing to tell is forgotten.
func (q *quotaCounts) report(ctx context.Context, to *redis.Ledger) (told bool, err error) {
	q.mu.Lock()
	all := slices.Clone(q.past)
	q.mu.Unlock()
	past := len(all)
	current := q.current.Load()
	if current != nil {
		all = append(all, current)
	}
	var empty []*quotaWindow
	for i, w := range all {
		some, err := w.tally.Report(ctx, redis.Window{Ledger: to, Start: w.start, End: w.end})
		told = told || some
		if err != nil {
			return told, err
		}
		if i < past && !some {
			empty = append(empty, w)
		}
	}
	q.mu.Lock()
	q.past = slices.DeleteFunc(q.past, func(w *quotaWindow) bool { return slices.Contains(empty, w) })
	q.mu.Unlock()
	// The server knows all that a full tally knows: it is left, and those keys that come again are asked for.
	if now := time.Now(); current != nil && current.tally.Crowded() > 0 && now.Sub(q.anew) > time.Second {
		q.anew = now
		q.replace(current, q.now())
	}
	return told, nil
}
