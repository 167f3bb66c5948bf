package limit

import (
	"math/bits"
	"sync/atomic"
)

// A key has a cell per limit: its hash and one instant. Cells stand in groups of eight cache lines; a key may be in any cell of
// its group, and is looked for from the line on that its hash names. There are two cells for each key that the table is made
// for, so that a group of 32, half full on average, is too small for about one in 10⁵ keys.
//
// A cell whose bucket is full again says no more than one that is not there: it is the next new key's. If a key finds neither
// that nor an empty cell, then all of its group are in debt, and it shares one bucket with the others that have found nothing:
// together they have what one key may have. So a table that is overrun with new keys leaves those that it knows as they are, and
// lets through, of the rest, the limit times the number of groups.
const (
	lineCells  = 4
	groupCells = 8 * lineCells
	// minGroups make a table of whole pages, whose cells are aligned to cache lines.
	minGroups = 64
)

// MaxLimits is how many limits a table may have.
const MaxLimits = 4

// What a cell's key is when it is none.
const (
	empty uint64 = iota // never used: no key is behind it
	dead                // a second cell of a key that had one
	firstKey
)

type cell struct {
	key  atomic.Uint64
	full atomic.Int64 // the instant at which the bucket is full
}

type group [groupCells]cell

// Table is some limits and where each key stands with them. Safe for concurrent use, without locks.
type Table struct {
	limits  []Limit
	groups  []group
	shared  []atomic.Int64 // by group and limit: the bucket of those that have no cell
	crowded atomic.Uint64
	spent   *spent // nil: nobody is told
}

// NewTable is a table of limits, 1 to MaxLimits, for so many keys at a time, of 32 bytes each and limit. It is of that size from
// the beginning, but the system gives memory only to what is used.
func NewTable(keys int, limits ...Limit) *Table {
	n := max(minGroups, (2*keys*len(limits)+groupCells-1)/groupCells)
	return &Table{limits: limits, groups: make([]group, n), shared: make([]atomic.Int64, n*len(limits))}
}

// Crowded is how many times a key has found no cell, and shared a bucket.
func (t *Table) Crowded() uint64 { return t.crowded.Load() }

// Room is the number of cells, one for each key and limit.
func (t *Table) Room() int { return len(t.groups) * groupCells }

// sampled is how many groups Used looks at, at most: 2 MiB.
const sampled = 4096

// Used is about how many cells are in use at the instant now: of keys whose bucket is not full. It is counted in a part of a large
// table.
func (t *Table) Used(now int64) int {
	n, step := 0, (len(t.groups)+sampled-1)/sampled
	seen := 0
	for i := 0; i < len(t.groups); i += step {
		seen++
		for k := range t.groups[i] {
			if t.groups[i][k].full.Load() > now {
				n++
			}
		}
	}
	return n * len(t.groups) / seen
}

// Take takes cost units, more than 0, from each of key's buckets, or from none. key is a hash whose bits are all as good, and
// that no client can foresee; now is in nanoseconds from an instant before the first call, more than 0. Calls that are a little out
// of order err on the side of the bound.
func (t *Table) Take(key uint64, now, cost int64) Verdict {
	group, _ := bits.Mul64(key, uint64(len(t.groups)))
	if len(t.limits) == 1 {
		var p permit
		t.take(&p, group, key, 0, now, cost)
		return p.Verdict
	}
	return t.takeAll(group, key, now, cost)
}

// takeAll looks at all buckets before it takes from any: what one of them refuses is not to cost the others. It is given back only
// if somebody else came between.
func (t *Table) takeAll(group, key uint64, now, cost int64) (v Verdict) {
	for i := range t.limits {
		at, _ := t.find(group, name(key, i), i, now)
		one, _ := t.limits[i].judge(at.Load(), now, cost)
		one.Limit = i
		if i == 0 || one.tighter(v) {
			v = one
		}
	}
	if !v.OK {
		return v
	}
	var taken [MaxLimits]permit
	for i := range t.limits {
		p := &taken[i]
		if t.take(p, group, key, i, now, cost); !p.OK {
			for k := range taken[:i] {
				p := &taken[k]
				p.undo()
				if p.cell >= 0 && t.spent != nil {
					t.spent.units[p.cell].Add(-cost)
				}
			}
			return p.Verdict
		}
		if i == 0 || p.tighter(v) {
			v = p.Verdict
		}
	}
	return v
}

// permit is what was taken from a bucket, if it is OK.
type permit struct {
	Verdict
	at      *atomic.Int64
	cell    int // of all groups; negative: shared
	was, is int64
}

// undo gives it back, unless others have taken since: then it is lost.
func (p *permit) undo() { p.at.CompareAndSwap(p.is, p.was) }

// take takes from the bucket of limit i, and fills in p: to return it cost two fifths of the time (BenchmarkTake).
func (t *Table) take(p *permit, group, key uint64, i int, now, cost int64) {
	key = name(key, i)
	for {
		p.at, p.cell = t.find(group, key, i, now)
		t.limits[i].take(p, now, cost)
		p.Limit = i
		if p.cell < 0 {
			t.crowded.Add(1)
			return
		}
		if t.cell(p.cell).key.Load() == key {
			if p.OK && t.spent != nil {
				t.spent.add(p.cell, i, cost)
			}
			return
		}
		// The cell has become another key's after find, or has been merged: if that key now lacks something, it has too little,
		// not too much.
		if p.OK {
			p.undo()
		}
	}
}

// cell is the cell of that number.
func (t *Table) cell(n int) *cell { return &t.groups[n/groupCells][n%groupCells] }

// name is the key of limit i's cell, in the same group and from the same line on as that of the others.
func name(key uint64, i int) uint64 {
	key = key&^(3<<8) | uint64(i)<<8
	if key < firstKey {
		key += firstKey
	}
	return key
}

// limitOf is which limit a name is of.
func limitOf(name uint64) int { return int(name >> 8 & 3) }

// find is key's bucket, which may be a new one, and its cell; negative if the bucket is shared.
func (t *Table) find(group, key uint64, i int, now int64) (*atomic.Int64, int) {
	g := &t.groups[group]
	home := key * lineCells
	for {
		var free *cell
		var was uint64
		for k := range uint64(groupCells) {
			at := (home + k) % groupCells
			c := &g[at]
			is := c.key.Load()
			if is == key {
				return &c.full, int(group*groupCells + at)
			}
			if free == nil && (is == empty || c.full.Load() <= now && !t.unreported(group*groupCells+at)) {
				free, was = c, is
			}
			if is == empty {
				break
			}
		}
		if free == nil {
			return &t.shared[int(group)*len(t.limits)+i], -1
		}
		if free.key.CompareAndSwap(was, key) {
			g.settle(key, home, now) // and look for it again, as it may stand elsewhere
		}
	}
}

// settle leaves one of the cells that are key's, which has just got one. Two that look for a cell at once see the same cells in the same
// order, but not at the same instant, so each may get one: then the first in that order stays, and takes over what the others
// owe. Who has taken from one of those sees afterwards that it is not the key's any more.
func (g *group) settle(key, home uint64, now int64) {
	var first *cell
	for k := range uint64(groupCells) {
		c := &g[(home+k)%groupCells]
		switch {
		case c.key.Load() != key:
		case first == nil:
			first = c
		case c.key.CompareAndSwap(key, dead):
			if owed := c.full.Load() - now; owed > 0 {
				first.owe(owed, now)
			}
		}
	}
}

// owe moves the instant at which c is full.
func (c *cell) owe(more, now int64) {
	for {
		was := c.full.Load()
		if c.full.CompareAndSwap(was, max(was, now)+more) {
			return
		}
	}
}
