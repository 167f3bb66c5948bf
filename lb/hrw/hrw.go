// Package hrw is rendezvous hashing: a key belongs to the endpoint with the highest random weight for it (Thaler and
// Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 6(1), 1998). With
// weights w the score is -w/ln(u), u being uniform from 0 to 1 and drawn from the hash of key and endpoint: the
// logarithmic method (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", SPAA 2005).
//
// Nothing moves needlessly: an endpoint that leaves takes its own keys with it and no others, one that comes takes
// keys from all by their weights and moves none between the others. For that its shares are less even than maglev's:
// one of n slots has 1/√n for a standard deviation.
//
// Keys fall into slots, and who has a slot is computed ahead, so that a pick is one look-up, as with maglev. A table is
// a pure function of the endpoints' names and weights: nodes that know the same endpoints agree.
package hrw

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

const (
	// DefaultSize is maglev's: as many slots, the same memory for a pick to look at.
	DefaultSize = 65537

	maxSize = 1 << 24
	// maxEndpoints have a slot's 16 bits for their indices.
	maxEndpoints = 1<<16 - 1
	// block of slots that a build goes through with one endpoint after the other: 10 KiB, which stay in the L1 cache.
	block = 1024
)

// Endpoint is what may be placed on. Weight is relative; 0 places nothing on it. Of several with one name the heaviest
// counts.
type Endpoint struct {
	Name   string
	Weight int
}

// Table maps hashes to endpoints. It is immutable.
type Table struct {
	size      int
	slots     []uint16  // the owner's index; empty if nobody has a weight
	costs     []float64 // the owner's, of each slot, for Update
	names     []string  // of all endpoints, as New was given them
	contended []contender
}

// contender is an endpoint that may own slots.
type contender struct {
	hash   uint64 // of the name
	weight float64
	index  int
}

// New fills a table of size slots. Endpoints are told apart by name alone, and their order does not matter to who has
// which slot. It takes time by size × endpoints; see Update.
func New(endpoints []Endpoint, size int) (*Table, error) {
	t, err := empty(endpoints, size)
	if err != nil {
		return nil, err
	}
	t.open()
	t.contend(t.contended)
	return t, nil
}

// empty is a table without its slots.
func empty(endpoints []Endpoint, size int) (*Table, error) {
	if size < 2 || size > maxSize {
		return nil, fmt.Errorf("table size %d is not from 2 to %d", size, maxSize)
	}
	if len(endpoints) > maxEndpoints {
		return nil, fmt.Errorf("%d endpoints do not fit a table for %d", len(endpoints), maxEndpoints)
	}
	t := &Table{size: size, names: make([]string, len(endpoints))}
	heaviest := make(map[string]int, len(endpoints))
	for i, e := range endpoints {
		t.names[i] = e.Name
		if j, ok := heaviest[e.Name]; e.Weight > 0 && (!ok || e.Weight > endpoints[j].Weight) {
			heaviest[e.Name] = i
		}
	}
	t.contended = make([]contender, 0, len(heaviest))
	for name, i := range heaviest {
		t.contended = append(t.contended, contender{xxhash.Sum64String(name), float64(endpoints[i].Weight), i})
	}
	// The likely owners first: those that come later are dismissed by one comparison.
	slices.SortFunc(t.contended, func(a, b contender) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), strings.Compare(t.names[a.index], t.names[b.index]))
	})
	return t, nil
}

// open makes slots that anybody would win.
func (t *Table) open() {
	if len(t.contended) == 0 {
		return
	}
	t.slots, t.costs = make([]uint16, t.size), make([]float64, t.size)
	for i := range t.costs {
		t.costs[i] = math.Inf(1)
	}
}

// contend lets those of the list win the slots in which they beat the owner.
func (t *Table) contend(list []contender) {
	for from := 0; from < len(t.slots); from += block {
		to := min(from+block, len(t.slots))
		for _, c := range list {
			t.contendFor(from, to, c)
		}
	}
}

func (t *Table) contendFor(from, to int, c contender) {
	costs, slots := t.costs[from:to], t.slots[from:to]
	reach, each := c.weight*slack, 1/c.weight
	for i := range costs {
		u := draw(c.hash, from+i)
		if u > costs[i]*reach {
			continue // for nearly all: 2 ns, of which the time of a build consists
		}
		if cost := exponential(u) * each; t.beats(cost, c.index, costs[i], int(slots[i])) {
			costs[i], slots[i] = cost, uint16(c.index)
		}
	}
}

// beats is whether a has a slot rather than b. Of those who are equal it is the first by name.
func (t *Table) beats(cost float64, a int, than float64, b int) bool {
	return cost < than || cost == than && t.names[a] < t.names[b]
}

// Lookup is the index of the endpoint for a hash, as New was given them; -1 if there is none.
func (t *Table) Lookup(hash uint64) int {
	if len(t.slots) == 0 {
		return -1
	}
	return int(t.slots[hash%uint64(len(t.slots))])
}

// Slots is the table itself, for those who compare tables. Not to be changed.
func (t *Table) Slots() []uint16 { return t.slots }

// Next is the index of the endpoint that has the hash's slot if those that skip says are not there, -1 if all are
// skipped. It asks for the owner, and then only for those that would have the slot so far, for each once at most. It
// takes time by the endpoints if the owner is skipped (BenchmarkNext).
func (t *Table) Next(hash uint64, skip func(i int) bool) int {
	if len(t.slots) == 0 {
		return -1
	}
	slot := int(hash % uint64(len(t.slots)))
	owner := int(t.slots[slot])
	if !skip(owner) {
		return owner
	}
	best, least := -1, math.Inf(1)
	for _, c := range t.contended {
		u := draw(c.hash, slot)
		if u > float64(least*c.weight)*slack || c.index == owner {
			continue
		}
		cost := exponential(u) * (1 / c.weight)
		if (best < 0 || t.beats(cost, c.index, least, best)) && !skip(c.index) {
			best, least = c.index, cost
		}
	}
	return best
}
