package lb

// leastConn is the endpoint with the fewest in flight for its weight. The scan starts at another one each time, so
// that equals take turns.
func (q *query) leastConn() int {
	q.loop.turn++
	n := len(q.members)
	at := int(q.loop.turn) % n
	best, load, weight := -1, int64(0), int64(0)
	for range n {
		m := &q.members[at]
		// a/b < c/d without division; one more in flight, as it would be.
		in, w := m.inFlight.Load()+1, int64(m.weight)
		if (best < 0 || in*weight < load*w) && q.may(at) {
			best, load, weight = at, in, w
		}
		if at++; at == n {
			at = 0
		}
	}
	return best
}
