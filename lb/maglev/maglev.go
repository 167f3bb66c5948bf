// Package maglev is the consistent hashing of "Maglev: A Fast and Reliable Software Network Load Balancer" (Eisenbud
// et al., NSDI 2016, section 3.4). A table is a pure function of the endpoints' names and weights: nodes that know the
// same endpoints agree on every placement without a word between them.
package maglev

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// DefaultSize is the paper's smaller table: at 655 endpoints and below, shares are within 1 % of each other.
const DefaultSize = 65537

// Endpoint is what may be placed on. Weight is relative; 0 places nothing on it.
type Endpoint struct {
	Name   string
	Weight int
}

// Table maps hashes to endpoints. It is immutable.
type Table struct {
	slots []uint16
}

// New fills a table of size slots, which must be prime and at least the number of endpoints, by the paper's
// population: the endpoints take turns, as often as their weights say, and each takes the next free slot in an order
// of its own. Endpoints are told apart by name alone, and their order does not matter to who has which slot.
func New(endpoints []Endpoint, size int) (*Table, error) {
	if size < 2 || size > 1<<24 || !big.NewInt(int64(size)).ProbablyPrime(0) {
		return nil, fmt.Errorf("table size %d is not a prime from 2 to %d", size, 1<<24)
	}
	if len(endpoints) > 1<<16 || len(endpoints) > size {
		return nil, fmt.Errorf("%d endpoints do not fit a table of %d", len(endpoints), size)
	}
	order := byName(endpoints)
	n := len(order)
	if n == 0 {
		return &Table{}, nil
	}
	top := 0
	for _, i := range order {
		top = max(top, endpoints[i].Weight)
	}
	// permutation[i][j] = (offset + j·skip) mod M, walked and not stored.
	m := uint64(size)
	at, skip, turn := make([]uint64, n), make([]uint64, n), make([]int, n)
	for k, i := range order {
		name := endpoints[i].Name
		at[k] = hash(name, offsetSeed) % m
		skip[k] = hash(name, skipSeed)%(m-1) + 1
	}
	slots := make([]uint16, size)
	taken := make([]bool, size)
	for left := size; left > 0; {
		for k, i := range order {
			// A lighter endpoint sits out rounds in proportion.
			if turn[k] += endpoints[i].Weight; turn[k] < top {
				continue
			}
			turn[k] -= top
			for taken[at[k]] {
				if at[k] += skip[k]; at[k] >= m {
					at[k] -= m
				}
			}
			slots[at[k]], taken[at[k]] = uint16(i), true
			if left--; left == 0 {
				break
			}
		}
	}
	return &Table{slots}, nil
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

const (
	offsetSeed = "offset:"
	skipSeed   = "skip:"
)

func hash(name, seed string) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(seed)
	_, _ = d.WriteString(name)
	return d.Sum64()
}

// byName lists the indices of those with a weight, in the order of their names.
func byName(endpoints []Endpoint) []int {
	order := make([]int, 0, len(endpoints))
	for i := range endpoints {
		if endpoints[i].Weight > 0 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(endpoints[a].Name, endpoints[b].Name) })
	return order
}
