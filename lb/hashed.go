package lb

// slotsSearched bounds the walk along maglev's table for one that may be picked. Beyond, it is the members that are gone
// through: with most of them at their bound the walk would be long.
const slotsSearched = 256

// slot is who has the hash's slot in maglev's table. The slot after that of one who may not be picked belongs to a random
// other: its clients spread over all.
func (q *query) slot() int {
	slots := q.slots
	at := int(q.hash % uint64(len(slots)))
	for range min(len(slots), slotsSearched) {
		if m := int(slots[at]); q.may(m) {
			return m
		}
		if at++; at == len(slots) {
			at = 0
		}
	}
	return q.first(int(q.hash % uint64(len(q.members))))
}

// ringed is who has the first point on the ring at or after the hash.
func (q *query) ringed() int {
	if m := q.ring.Lookup(uint32(q.hash)); q.may(m) {
		return m
	}
	if m := q.ring.Next(uint32(q.hash), func(i int) bool { return !q.may(i) }); m >= 0 {
		return m
	}
	return q.first(int(q.hash % uint64(len(q.members)))) // the lightest have no points
}

// highest is who has the highest random weight for the hash.
func (q *query) highest() int {
	if m := q.hrw.Lookup(q.hash); q.may(m) {
		return m
	}
	return q.hrw.Next(q.hash, func(i int) bool { return !q.may(i) })
}
