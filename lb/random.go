package lb

// alias is a column of Walker's alias table (Vose 1991): a weighted draw is one random column and one comparison.
type alias struct {
	keep  uint32 // the column is its own member's below this, of 2^32
	other uint16 // and this one's from there on
}

func newAlias(members []member) []alias {
	n, total := len(members), uint64(0)
	for i := range members {
		total += uint64(members[i].weight)
	}
	out := make([]alias, n)
	// share[i] is the i-th weight in units of which a column holds total.
	share := make([]uint64, n)
	var small, large []int
	put := func(i int) {
		if share[i] < total {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for i := range members {
		share[i] = uint64(members[i].weight) * uint64(n)
		put(i)
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small, large = small[:len(small)-1], large[:len(large)-1]
		out[s] = alias{keep: uint32(float64(share[s]) / float64(total) * (1 << 32)), other: uint16(l)}
		share[l] -= total - share[s]
		put(l)
	}
	for _, i := range append(small, large...) {
		out[i] = alias{other: uint16(i)} // a column of its own
	}
	return out
}

// draw is a member at random, by weight.
func (q *query) draw() int {
	r := q.loop.rand()
	i := int(r >> 32 * uint64(len(q.alias)) >> 32)
	if a := &q.alias[i]; uint32(r) >= a.keep {
		return int(a.other)
	}
	return i
}

// random is draw among those who may be picked: whom it does not meet in a few draws it takes in turn.
func (q *query) random() int {
	for range 4 {
		if i := q.draw(); q.may(i) {
			return i
		}
	}
	return q.first(q.loop.below(len(q.members)))
}

// two are two members at random, which are the same one if there is no other. -1 if there is none.
func (q *query) two() (a, b int) {
	if a = q.random(); a < 0 {
		return -1, -1
	}
	for range 4 {
		if b = q.draw(); b != a && q.may(b) {
			return a, b
		}
	}
	if b = q.first(a + 1); b >= 0 { // it has nearly all of the weight, or they are few
		return a, b
	}
	return a, a // somebody took the last place meanwhile
}

// lessBusy is the better of two choices (Mitzenmacher 2001): nearly as even as knowing all, and no herd runs to the one
// that looks idle.
func (q *query) lessBusy() int {
	a, b := q.two()
	if a == b {
		return a
	}
	x, y := &q.members[a], &q.members[b]
	if y.InFlight()*int64(x.weight) < x.InFlight()*int64(y.weight) {
		return b
	}
	return a
}
