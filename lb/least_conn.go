package lb

import "math"

// leastConn is the endpoint with the fewest in flight for its weight; equals take turns.
//
// The loop knows whose turn it is from a tournament of all, in which it plays again the matches of those whose number has
// changed. That makes a pick a matter of log n and not of n: to go through the counters of 100 endpoints, on a cache line
// each, takes five times as long (BenchmarkPick: 180 ns, and now 33).
func (q *query) leastConn() int {
	q.loop.turn++
	if len(q.tried) > 0 || q.dials {
		return q.leastOf()
	}
	s := &q.loop.least
	s.update(q)
	for again := false; ; {
		i := s.first()
		k := q.rank(i)
		switch {
		case k > s.rank(i):
			s.play(i, k, s.place(i)) // others have taken it meanwhile
		case k < noRoom:
			// It stands as if it were taken, and behind its equals.
			s.turns++
			s.last = i
			s.play(i, q.rankWith(i, q.members[i].InFlight()+1), s.turns)
			return i
		case again:
			q.full = true
			return -1
		default:
			again = true
			s.playAll(q) // others may have left one meanwhile
		}
	}
}

// leastOf goes through all, beginning at another one each time.
func (q *query) leastOf() int {
	n := len(q.members)
	at := int(q.loop.turn) % n
	best, rank := -1, uint32(noRoom)
	for range n {
		if k := q.rank(at); (best < 0 || k < rank) && q.may(at) {
			best, rank = at, k
		}
		if at++; at == n {
			at = 0
		}
	}
	return best
}

// noRoom is the rank of an endpoint that has as many as it may.
const noRoom = math.MaxUint32

// rank orders members by what they would have in flight for each unit of weight if they were taken.
func (q *query) rank(i int) uint32 { return q.rankWith(i, q.members[i].InFlight()) }

// rankWith is rank if the i-th member had so many in flight. It is the quotient in floating point, of 6 bits for the
// exponent, from 2^-24 on, and 26 for the mantissa. Quotients that are equal stay so, since division is rounded
// correctly; different ones may become equal where the difference is less than one in 2^26.
func (q *query) rankWith(i int, in int64) uint32 {
	m := &q.members[i]
	if m.max > 0 && in >= m.max {
		return noRoom
	}
	bits := math.Float64bits(float64(in+1) / float64(m.weight))
	return uint32(min((bits-(1023-24)<<52)>>26, noRoom-1))
}

// tournament is what a loop remembers of the members of a table between picks. Owned by the loop.
type tournament struct {
	table *table // whose members play
	// tree has the members' keys in its second half, and in each of the other places but the 0-th the lesser of the two keys
	// at twice its index and one after that. A key is a rank, a place among equals (16 bits) and the member's index (16 bits).
	tree  []uint64
	turns uint32 // the place that was given last
	last  int    // the member picked last: it may have been taken or not
	next  int    // the member that is looked at with the next pick, whatever other loops have done
	ended [64]uint32
	ends  uint32 // how many there are in ended
}

// lateTurns is where the places begin that are given to those who were picked; before are the initial ones.
const lateTurns = 1 << 15

// end notes that a session of the i-th member of some table has ended on this loop.
func (s *tournament) end(i uint32) {
	if int(s.ends) < len(s.ended) {
		s.ended[s.ends] = i
		s.ends++
	}
}

// update plays what has changed since the last pick, as far as the loop knows.
func (s *tournament) update(q *query) {
	if s.table != q.table || int(s.ends) == len(s.ended) || s.turns == math.MaxUint16 {
		s.playAll(q)
		return
	}
	s.look(q, s.last)
	for _, i := range s.ended[:s.ends] {
		s.look(q, int(i))
	}
	s.ends = 0
	if s.next++; s.next >= len(q.members) {
		s.next = 0
	}
	s.look(q, s.next)
}

// playAll has everyone play anew. Of equals the first are those after the loop's place in the round.
func (s *tournament) playAll(q *query) {
	n := len(q.members)
	s.table, s.last, s.ends, s.turns = q.table, 0, 0, lateTurns
	if cap(s.tree) < 2*n {
		s.tree = make([]uint64, 2*n)
	}
	s.tree = s.tree[:2*n]
	place := n - int(q.loop.turn)%n
	for i := range n {
		if place == n {
			place = 0
		}
		s.tree[n+i] = key(q.rank(i), uint32(place*(lateTurns-1)/max(n, lateTurns-1)), i)
		place++
	}
	for at := n - 1; at > 0; at-- {
		s.tree[at] = min(s.tree[2*at], s.tree[2*at+1])
	}
}

// look plays the i-th member if its rank is another one than it was. There may be no such member any more.
func (s *tournament) look(q *query, i int) {
	if i >= len(s.tree)/2 {
		return
	}
	if k := q.rank(i); k != s.rank(i) {
		s.play(i, k, s.place(i))
	}
}

// play gives a member another key.
func (s *tournament) play(i int, rank, place uint32) {
	tree := s.tree
	at := len(tree)/2 + i
	k := key(rank, place, i)
	tree[at] = k
	for at > 1 {
		k = min(k, tree[at^1])
		at /= 2
		tree[at] = k
	}
}

func key(rank, place uint32, i int) uint64 {
	return uint64(rank)<<32 | uint64(place)<<16 | uint64(i)
}

func (s *tournament) first() int        { return int(s.tree[1] & math.MaxUint16) }
func (s *tournament) rank(i int) uint32 { return uint32(s.tree[len(s.tree)/2+i] >> 32) }
func (s *tournament) place(i int) uint32 {
	return uint32(s.tree[len(s.tree)/2+i] >> 16 & math.MaxUint16)
}
