package filter

import "sluice/gw/limit/redis"

// Gauges is implemented by filters that have something to show besides refusals: Gauges calls each for every value, of a metric
// named sluice_NAME. labels are pairs of names and values, of which none comes from a client. Filters that share what they show,
// wherever they stand, have a label name: of equal labels the largest value is to be shown, once. Those without it are to be told
// apart by where they stand. A name that ends in _total is a counter's. Safe for concurrent use.
type Gauges interface {
	Gauges(each func(name string, value float64, labels ...string))
}

// Gauges implements Gauges.
func (f *rateLimit) Gauges(each func(name string, value float64, labels ...string)) {
	labels := []string{"filter", "rate_limit"}
	if f.name != "" {
		labels = append(labels, "name", f.name)
	}
	each("limit_entries", float64(f.table.Used(f.now())), labels...)
	each("limit_capacity", float64(f.table.Room()), labels...)
	each("limit_crowded_total", float64(f.table.Crowded()), labels...)
	f.keyGauges(each, labels)
	if f.shared != nil {
		nodeGauges(f.shared.node, each, labels)
	}
}

// Gauges implements Gauges.
func (f *quota) Gauges(each func(name string, value float64, labels ...string)) {
	labels := []string{"filter", "quota", "name", f.counts.label}
	used, room, crowded := 0, 0, f.counts.crowded.Load()
	if w := f.counts.current.Load(); w != nil {
		used, room, crowded = w.tally.Used(), w.tally.Room(), crowded+w.tally.Crowded()
	}
	each("limit_entries", float64(used), labels...)
	each("limit_capacity", float64(room), labels...)
	each("limit_crowded_total", float64(crowded), labels...)
	f.keyGauges(each, labels)
	nodeGauges(f.counts.node, each, labels)
}

// Gauges implements Gauges.
func (f *concurrency) Gauges(each func(name string, value float64, labels ...string)) {
	f.keyGauges(each, []string{"filter", "concurrency"})
}

// keyGauges are those of expressions.
func (k *keyer) keyGauges(each func(name string, value float64, labels ...string), labels []string) {
	if k.program != nil {
		each("limit_key_errors_total", float64(k.failed.Load()), labels...)
	}
}

// nodeErrors are the kinds of errors that are shown: 1 for the last, until the server answers again.
var nodeErrors = []string{"timeout", "tls", "answer", "connection"}

func nodeGauges(n *redis.Node, each func(name string, value float64, labels ...string), labels []string) {
	s := n.State()
	up := 1.
	if s.Down {
		up = 0
	}
	each("limit_redis_up", up, labels...)
	kind := redis.Kind(s.Err)
	for _, k := range nodeErrors {
		is := 0.
		if k == kind {
			is = 1
		}
		each("limit_redis_error", is, append(labels[:len(labels):len(labels)], "kind", k)...)
	}
	each("limit_redis_charges_total", float64(s.Charges), labels...)
	each("limit_redis_rounds_total", float64(s.Rounds), labels...)
	each("limit_redis_failures_total", float64(s.Failures), labels...)
	each("limit_redis_round_seconds", s.Took.Seconds(), labels...)
	each("limit_redis_lag_seconds", s.Lag.Seconds(), labels...)
}
