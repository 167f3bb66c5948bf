package limit

import (
	"context"
	"math/bits"
	"sync/atomic"
	"time"
)

// Limits that several processes share: each decides by its own table, at once, and a Ledger that all of them have is told in the
// background what was taken, and says what all have taken together. So what one does not know yet is what the others have taken
// since the last round. It is counted, and all pay it back: in any time t, n processes give no more than
//
//	burst + rate·t + (n-1)·min(a·T, rate·T + what was free at its last round)
//
// where a is the rate at which one of them is asked, and T the time of a round. A round is due every interval, and as soon as a
// process has given a share of a bucket, a four-hundredth of the burst or of what comes back in a second: so T is a few
// milliseconds where much is asked, whatever the interval is.

// Ledger is where processes that share limits write what they have given.
type Ledger interface {
	// Charge writes down what is owed for each, and fills in Ahead. It ends with ctx.
	Charge(ctx context.Context, charges []Charge) error
}

// Charge is what a key has taken from one of its buckets.
type Charge struct {
	Key uint64
	// Owed is the time in which what was taken comes back.
	Owed time.Duration
	// Ahead is the time until the bucket that all share is full.
	Ahead time.Duration

	limit, cell int
	units       int64
}

// spent is what the ledger has not been told, by cell.
type spent struct {
	units []atomic.Int64
	dirty []atomic.Uint64 // a bit by group
	share []int64         // by limit: what is to be told at once
	wake  func()
	late  bool // the last report failed; of Report alone
}

func (s *spent) add(cell, limit int, cost int64) {
	if is, share := s.units[cell].Add(cost), s.share[limit]; is >= share && is-cost < share {
		s.wake()
	}
	group := cell / groupCells
	if w, bit := &s.dirty[group/64], uint64(1)<<(group%64); w.Load()&bit == 0 {
		w.Or(bit)
	}
}

// unreported says that a cell may not change hands yet.
func (t *Table) unreported(cell uint64) bool {
	return t.spent != nil && t.spent.units[cell].Load() != 0
}

// shares is how many shares of a bucket there are.
const shares = 400

// Share has the table remember what is taken, for Report; before its first use. wake is called, from Take, when one is due; it
// does not wait. It takes 16 more bytes a key and limit.
func (t *Table) Share(wake func()) {
	t.spent = &spent{units: make([]atomic.Int64, len(t.groups)*groupCells), dirty: make([]atomic.Uint64, (len(t.groups)+63)/64), wake: wake}
	for _, l := range t.limits {
		t.spent.share = append(t.spent.share, max(1, min(l.burst, int64(time.Second)/l.step)/shares))
	}
}

// round is how many charges go to a ledger at once.
const round = 512

// Report tells the ledger of a shared table what was taken since the last time, and has the table know what it answers. What
// could not be told is told the next time; told says that something was. clock is Take's. One call at a time.
func (t *Table) Report(ctx context.Context, ledger Ledger, clock func() int64) (told bool, err error) {
	charges := make([]Charge, 0, round)
	for i := range t.spent.dirty {
		word := &t.spent.dirty[i]
		if word.Load() == 0 {
			continue
		}
		for left := word.Swap(0); left != 0; left &= left - 1 {
			charges = t.collect(charges, i*64+bits.TrailingZeros64(left))
			if len(charges) > round-groupCells {
				if err := t.charge(ctx, ledger, charges, clock); err != nil {
					word.Or(left)
					return told, err
				}
				charges, told = charges[:0], true
			}
		}
	}
	if len(charges) > 0 {
		if err := t.charge(ctx, ledger, charges, clock); err != nil {
			return told, err
		}
		told = true
	}
	t.spent.late = false
	return told, nil
}

// collect appends what was taken from a group's cells.
func (t *Table) collect(charges []Charge, group int) []Charge {
	for n := group * groupCells; n < (group+1)*groupCells; n++ {
		units := t.spent.units[n].Swap(0)
		if units <= 0 {
			if units < 0 { // given back before it was added
				t.spent.units[n].Add(units)
			}
			continue
		}
		key := t.cell(n).key.Load()
		charges = append(charges, Charge{Key: key, limit: limitOf(key), cell: n, units: units})
	}
	return charges
}

func (t *Table) charge(ctx context.Context, ledger Ledger, charges []Charge, clock func() int64) error {
	for i := range charges {
		c := &charges[i]
		l := t.limits[c.limit]
		if t.spent.late { // more than a bucket has come back meanwhile
			c.units = min(c.units, l.burst)
		}
		c.Owed = time.Duration(c.units * l.step)
	}
	if err := ledger.Charge(ctx, charges); err != nil {
		t.spent.late = true
		for _, c := range charges {
			if t.cell(c.cell).key.Load() == c.Key {
				t.spent.add(c.cell, c.limit, c.units)
			}
		}
		return err
	}
	now := clock()
	for _, c := range charges {
		cell := t.cell(c.cell)
		// What was taken since is in nobody's Ahead yet.
		full := now + int64(c.Ahead) + t.spent.units[c.cell].Load()*t.limits[c.limit].step
		for cell.key.Load() == c.Key {
			if was := cell.full.Load(); was >= full || cell.full.CompareAndSwap(was, full) {
				break
			}
		}
	}
	return nil
}
