package lb

// roundRobin is the next in the schedule.
func (q *query) roundRobin() int {
	at := int(q.loop.turn)
	for range q.schedule {
		if at >= len(q.schedule) {
			at = 0
		}
		m := int(q.schedule[at])
		at++
		if !q.may(m) {
			continue
		}
		if len(q.tried) == 0 {
			q.loop.turn = uint32(at) // a retry does not use up a turn, or the next session would start at the dead one again
		}
		return m
	}
	return -1
}

// sourceHash is the hash's place in the schedule: simple, and blind to what changes.
func (q *query) sourceHash() int {
	at := int(q.hash % uint64(len(q.schedule)))
	for range q.schedule {
		if m := int(q.schedule[at]); q.may(m) {
			return m
		}
		if at++; at == len(q.schedule) {
			at = 0
		}
	}
	return -1
}

// maxSchedule bounds a schedule's length. Weights that need a longer one are rounded.
const maxSchedule = 1 << 14

// smooth lays out one round of smooth weighted round robin (nginx's algorithm: each turn everyone gains its weight,
// the richest is taken and pays the total), so that a pick is a step in a list.
func smooth(members []member) []uint16 {
	total, common := 0, 0
	for _, m := range members {
		total += m.weight
		common = gcd(m.weight, common)
	}
	if total == 0 {
		return nil
	}
	weight := func(m *member) int { return m.weight / common }
	if total/common > maxSchedule {
		weight = func(m *member) int { return max(1, m.weight*maxSchedule/total) }
	}
	credit := make([]int, len(members))
	round := 0
	for i := range members {
		round += weight(&members[i])
	}
	out := make([]uint16, round)
	if round == len(members) {
		for k := range out {
			out[k] = uint16(k) // all alike: what follows comes to this
		}
		return out
	}
	for k := range out {
		best := 0
		for i := range members {
			if credit[i] += weight(&members[i]); credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= round
		out[k] = uint16(best)
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
