package limit

import (
	"context"
	"math/bits"
	"sync/atomic"
)

// Quotas over calendar windows: a Tally is what each key has taken in one window, by itself and, as a TallyLedger has told in the
// background, by other processes. Nothing comes back, and nothing is forgotten: a window has a tally of its own.
//
// What one does not know yet is what the others have taken since its last round. So n processes give no more than
//
//	limit + (n-1)·(what a key asks of one of them in the time of a round)
//
// where a round is due, besides every interval, as soon as a process has given a four-hundredth of the limit;
// and a process that is started anew gives, before its first round, what is asked of it in that time.

// A cell has a key and two counts. Cells stand in groups; a key may be in any cell of its group, and is looked for from the one on
// that its hash names. There are two for each key that the tally is made for.
const tallyGroup = 32

type tallyCell struct {
	key    atomic.Uint64 // 0: none yet. It never changes again.
	count  atomic.Int64  // all that is known to be taken
	untold atomic.Int64  // what of it the ledger does not know
}

// Tally counts what keys take. Safe for concurrent use, without locks.
type Tally struct {
	groups  [][tallyGroup]tallyCell
	shared  []atomic.Int64  // by group: what those have taken that have found no cell; nobody is told
	dirty   []atomic.Uint64 // a bit by group
	used    atomic.Int64
	crowded atomic.Uint64
}

// NewTally is a tally for so many keys, of 48 bytes each. A group's keys that are too many share one count.
func NewTally(keys int) *Tally {
	n := (2*keys + tallyGroup - 1) / tallyGroup
	return &Tally{groups: make([][tallyGroup]tallyCell, n), shared: make([]atomic.Int64, n), dirty: make([]atomic.Uint64, (n+63)/64)}
}

// Used is how many keys have a cell, Room how many cells there are, and Crowded how many times a key has found none.
func (t *Tally) Used() int { return int(t.used.Load()) }

// Room is the number of cells.
func (t *Tally) Room() int { return len(t.groups) * tallyGroup }

// Crowded is how many times a key has found no cell.
func (t *Tally) Crowded() uint64 { return t.crowded.Load() }

// Take takes cost units, more than 0, of the limit that key has, or none. left is what is left then; due says that it
// is time for a round: nothing was known of the key, or a share of the limit has not been told. key is a hash as that of Table.Take.
func (t *Tally) Take(key uint64, cost, limit int64) (left int64, ok, due bool) {
	key = max(key, 1)
	group, _ := bits.Mul64(key, uint64(len(t.groups)))
	c, due := t.find(int(group), key)
	at := &t.shared[group]
	if c != nil {
		at = &c.count
	}
	for {
		was := at.Load()
		if cost > limit-was {
			return max(0, limit-was), false, due
		}
		if at.CompareAndSwap(was, was+cost) {
			if c != nil {
				share := max(1, limit/shares)
				if is := c.untold.Add(cost); is >= share && is-cost < share {
					due = true
				}
				t.mark(int(group))
			}
			return limit - was - cost, true, due
		}
	}
}

// find is key's cell, which may be a new one; nil: there is no room. As cells are given once and in order, two that look for the
// same key at once find the same.
func (t *Tally) find(group int, key uint64) (c *tallyCell, first bool) {
	g := &t.groups[group]
	for k := range uint64(tallyGroup) {
		c := &g[(key+k)%tallyGroup]
		is := c.key.Load()
		if is == 0 {
			if c.key.CompareAndSwap(0, key) {
				t.used.Add(1)
				return c, true
			}
			is = c.key.Load()
		}
		if is == key {
			return c, false
		}
	}
	t.crowded.Add(1)
	return nil, false
}

func (t *Tally) mark(group int) {
	if w, bit := &t.dirty[group/64], uint64(1)<<(group%64); w.Load()&bit == 0 {
		w.Or(bit)
	}
}

// TallyLedger is where processes that share a window write what they have given.
type TallyLedger interface {
	// Add adds what each has taken, and fills in Total. It ends with ctx.
	Add(ctx context.Context, sums []Sum) error
}

// Sum is what a key has taken.
type Sum struct {
	Key uint64
	// Taken is what is new, of this process; Total what all have taken.
	Taken, Total int64

	cell *tallyCell
}

// Report tells the ledger what was taken since the last time, and has the tally know what it answers. What could not be told is told
// the next time: if the ledger has it in spite of an error, it is there twice. told says that something was. One call at a time.
func (t *Tally) Report(ctx context.Context, ledger TallyLedger) (told bool, err error) {
	sums := make([]Sum, 0, round)
	flush := func() error {
		if len(sums) == 0 {
			return nil
		}
		if err := ledger.Add(ctx, sums); err != nil {
			for _, s := range sums {
				s.cell.untold.Add(s.Taken)
				group, _ := bits.Mul64(s.Key, uint64(len(t.groups)))
				t.mark(int(group))
			}
			return err
		}
		for _, s := range sums {
			// What was taken since is in nobody's Total yet. A ledger that has lost something is not believed.
			for is := s.Total + s.cell.untold.Load(); ; {
				was := s.cell.count.Load()
				if was >= is || s.cell.count.CompareAndSwap(was, is) {
					break
				}
			}
		}
		sums, told = sums[:0], true
		return nil
	}
	for i := range t.dirty {
		word := &t.dirty[i]
		if word.Load() == 0 {
			continue
		}
		for left := word.Swap(0); left != 0; left &= left - 1 {
			g := &t.groups[i*64+bits.TrailingZeros64(left)]
			for n := range g {
				c := &g[n]
				if taken := c.untold.Swap(0); taken > 0 {
					sums = append(sums, Sum{Key: c.key.Load(), Taken: taken, cell: c})
				}
			}
			if len(sums) > round-tallyGroup {
				if err := flush(); err != nil {
					word.Or(left)
					return told, err
				}
			}
		}
	}
	return told, flush()
}
