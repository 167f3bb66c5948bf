package lb

import (
	"errors"
	"math"
	"slices"
	"time"

	"sluice/engine"
)

// Why there is no endpoint.
var (
	ErrNoEndpoint = errors.New("no endpoint is up")
	ErrFull       = errors.New("every endpoint has as many connections as it may")
	ErrShed       = errors.New("the cluster has as much in flight as it can answer in time")
)

// query is one pick: who asks, and who is out of the question. It lives on the stack.
type query struct {
	*table
	id      int // the loop's
	loop    *loopState
	hash    uint64
	now     time.Duration // on the loop's clock; for ewma alone
	tried   []*Endpoint
	checked bool    // not everyone may be picked: see may
	bound   float64 // what an endpoint may have in flight for each unit of its weight; 0: any number
	full    bool    // somebody was left out for its max
}

// may says whether the i-th member is not out of the question.
func (q *query) may(i int) bool {
	if !q.checked {
		return true
	}
	if q.out(i) {
		return false
	}
	if !q.limited {
		return true
	}
	m := &q.members[i]
	in := m.InFlight()
	if m.max > 0 && in >= m.max || q.dials && !q.limits.connects(m.Endpoint, q.id) {
		q.full = true
		return false
	}
	return q.bound == 0 || float64(in) < math.Ceil(q.bound*float64(m.weight))
}

// out says that the i-th member has been tried.
func (q *query) out(i int) bool { return slices.Contains(q.tried, q.members[i].Endpoint) }

// relax raises the bound to where the least busy of those who are not out of the question for another reason has room: it
// is over all endpoints, and some may be left out. It says whether there is anybody.
func (q *query) relax() bool {
	if q.bound == 0 {
		return false
	}
	q.bound = 0
	least := math.Inf(1)
	for i := range q.members {
		if q.may(i) {
			m := &q.members[i]
			least = min(least, float64(m.InFlight()+1)/float64(m.weight))
		}
	}
	if math.IsInf(least, 1) {
		return false
	}
	q.bound = least * (1 - 1e-12) // what rounding adds must not make room for one more
	return true
}

// most is what the i-th member may have in flight.
func (q *query) most(i int) int64 {
	most := int64(math.MaxInt64)
	m := &q.members[i]
	if m.max > 0 {
		most = m.max
	}
	if q.bound > 0 {
		most = min(most, int64(math.Ceil(q.bound*float64(m.weight))))
	}
	return most
}

// first is the first member from the i-th on that may be picked, going round; -1 if there is none.
func (q *query) first(i int) int {
	for range q.members {
		if i >= len(q.members) {
			i = 0
		}
		if q.may(i) {
			return i
		}
		i++
	}
	return -1
}

// choose is the index of the member for q; -1 if there is none.
func (q *query) choose() int {
	if len(q.members) == 0 {
		return -1
	}
	switch q.kind {
	case byTurn:
		return q.roundRobin()
	case byLoad:
		return q.leastConn()
	case byChance:
		return q.random()
	case byTwo:
		return q.lessBusy()
	case bySpeed:
		return q.faster()
	case bySource:
		return q.sourceHash()
	case bySlot:
		return q.slot()
	case byPoint:
		return q.ringed()
	}
	return q.highest()
}

// ask fills in q, which is empty. In place: a copy of what was just written costs 20 ns.
func (q *query) ask(c *Cluster, t *table, l *engine.Loop, hash uint64, tried []*Endpoint) {
	q.id = l.ID()
	q.table, q.loop, q.hash, q.tried, q.checked = t, &c.shared.loops[q.id], hash, tried, t.limited || len(tried) > 0
	if t.bounded > 0 {
		q.bound = t.bounded * float64(c.shared.inFlight()+1) / t.weights
	}
	if t.kind == bySpeed {
		q.now = l.Now()
	}
}

// Pick chooses an endpoint for loop l; nil if there is none. hash places it for the pickers that hash. Endpoints in
// tried are left out. It allocates nothing and takes no lock.
func (c *Cluster) Pick(l *engine.Loop, hash uint64, tried []*Endpoint) *Endpoint {
	t := c.table.Load()
	if len(t.slots) > 0 && !t.limited && len(tried) == 0 {
		return t.members[t.slots[hash%uint64(len(t.slots))]].Endpoint // what the rest comes to, in a third of the time
	}
	var q query
	q.ask(c, t, l, hash, tried)
	i := q.choose()
	if i < 0 && q.relax() {
		i = q.choose()
	}
	if i < 0 {
		return nil
	}
	return q.members[i].Endpoint
}

// Take is Pick that counts the session or exchange in; Endpoint.End counts it out. The error is ErrNoEndpoint,
// ErrFull or ErrShed. Bounds on what endpoints have in flight hold also against Takes of other loops.
func (c *Cluster) Take(l *engine.Loop, hash uint64, tried []*Endpoint) (*Endpoint, error) {
	if !c.admits(l) {
		return nil, ErrShed
	}
	var q query
	q.ask(c, c.table.Load(), l, hash, tried)
	if len(tried) == 0 {
		c.earn(q.loop)
	}
	for {
		i := q.choose()
		switch {
		case i >= 0 && !q.limited:
			q.members[i].Begin(l)
			return q.members[i].Endpoint, nil
		case i >= 0:
			if q.members[i].begin(l, q.most(i)) {
				return q.members[i].Endpoint, nil
			}
			// Another loop took the last place. Whoever loses so often as not to come to an end lets others in.
		case q.relax():
		case q.full:
			q.overflow()
			return nil, ErrFull
		default:
			return nil, ErrNoEndpoint
		}
	}
}
