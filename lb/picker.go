package lb

import (
	"net/netip"
	"slices"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"sluice/engine"
	"sluice/lb/maglev"
)

// table is what pickers look at: the endpoints that are up, and what was prepared of them. It is immutable.
type table struct {
	members  []member
	schedule []uint16
	maglev   *maglev.Table
}

// Pick chooses an endpoint for loop l; nil if there is none. hash places it for the pickers that hash. Endpoints in
// tried are left out. It allocates nothing and takes no lock.
func (c *Cluster) Pick(l *engine.Loop, hash uint64, tried []*Endpoint) *Endpoint {
	t := c.table.Load()
	n := len(t.members)
	if n == 0 {
		return nil
	}
	switch c.cfg.Picker {
	case LeastConn:
		return c.leastConn(t, l, tried)
	case SourceHash:
		at := int(hash % uint64(len(t.schedule)))
		for i := range t.schedule {
			if ep := t.members[t.schedule[(at+i)%len(t.schedule)]].Endpoint; !slices.Contains(tried, ep) {
				return ep
			}
		}
	case Maglev:
		hash %= uint64(len(t.maglev.Slots())) // so that hash+i does not overflow and misses no slot
		ep := t.members[t.maglev.Lookup(hash)].Endpoint
		// The slot after a dead endpoint's belongs to a random other: its clients spread over all.
		for i := uint64(1); len(tried) > 0 && i < uint64(len(t.maglev.Slots())) && slices.Contains(tried, ep); i++ {
			ep = t.members[t.maglev.Lookup(hash+i)].Endpoint
		}
		if len(tried) == 0 || !slices.Contains(tried, ep) {
			return ep
		}
	default:
		turn := &c.turns[l.ID()]
		at := int(turn.n)
		for i := range t.schedule {
			if at >= len(t.schedule) {
				at = 0
			}
			ep := t.members[t.schedule[at]].Endpoint
			at++
			if i == 0 && len(tried) == 0 {
				turn.n = uint32(at) // a retry does not use up a turn, or the next session would start at the dead one again
				return ep
			}
			if !slices.Contains(tried, ep) {
				return ep
			}
		}
	}
	return nil
}

// leastConn is the endpoint with the fewest in flight for its weight. The scan starts at another one each time, so
// that equals take turns.
func (c *Cluster) leastConn(t *table, l *engine.Loop, tried []*Endpoint) *Endpoint {
	turn := &c.turns[l.ID()]
	turn.n++
	var best member
	var load int64
	for i := range t.members {
		m := t.members[(int(turn.n)+i)%len(t.members)]
		if len(tried) > 0 && slices.Contains(tried, m.Endpoint) {
			continue
		}
		// a/b < c/d without division; one more in flight, as it would be.
		in := m.InFlight() + 1
		if best.Endpoint == nil || in*int64(best.weight) < load*int64(m.weight) {
			best, load = m, in
		}
	}
	return best.Endpoint
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
	weight := func(m member) int { return m.weight / common }
	if total/common > maxSchedule {
		weight = func(m member) int { return max(1, m.weight*maxSchedule/total) }
	}
	credit := make([]int, len(members))
	round := 0
	for _, m := range members {
		round += weight(m)
	}
	out := make([]uint16, round)
	for k := range out {
		best := 0
		for i, m := range members {
			if credit[i] += weight(m); credit[i] > credit[best] {
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

// HashAddr hashes a client's address, and its port too if that is to count.
func HashAddr(a netip.AddrPort, withPort bool) uint64 {
	key := struct {
		ip   [16]byte
		port [2]byte
	}{ip: a.Addr().As16()}
	n := len(key.ip)
	if withPort {
		key.port = [2]byte{byte(a.Port() >> 8), byte(a.Port())}
		n += len(key.port)
	}
	return xxhash.Sum64(unsafe.Slice((*byte)(unsafe.Pointer(&key)), n))
}
