package lb

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"sluice/lb/hrw"
	"sluice/lb/maglev"
	"sluice/lb/ring"
)

// table is what picks look at: the endpoints that count at present, and what was prepared of them. Immutable, and
// shared by the loops.
type table struct {
	kind    kind
	members []member
	limited bool // members have bounds on what they have
	dials   bool // and limits on their connections
	limits  Limits
	bounded float64 // Config.BoundedLoad
	weights float64 // of all together

	ids  map[uint64]*member    // whom cookies may name, drained ones included
	kept map[*Endpoint]*member // the same

	schedule []uint16 // round_robin, source_hash
	alias    []alias  // random, p2c, ewma
	slots    []uint16 // maglev's or hrw's
	ring     *ring.Table
	hrw      *hrw.Table
}

// kind is a picker as a number, which a switch tells apart in no time.
type kind uint8

const (
	byTurn kind = iota
	byLoad
	byChance
	byTwo
	bySpeed
	bySource
	bySlot
	byPoint
	byScore
)

var kinds = map[Picker]kind{RoundRobin: byTurn, LeastConn: byLoad, Random: byChance, P2C: byTwo, EWMA: bySpeed,
	SourceHash: bySource, Maglev: bySlot, Ring: byPoint, HRW: byScore}

// member is an endpoint as one cluster sees it.
type member struct {
	*Endpoint
	weight int
	max    int64 // in flight at a time; 0: no bound
	cfg    EndpointConfig
}

// backupTier is the priority of endpoints that are marked as backup: after all that can be given.
const backupTier = 1 << 16

func (m *member) tier() int {
	if m.cfg.Backup {
		return backupTier
	}
	return m.cfg.Priority
}

// eligible are those of all members that are to be picked from: of the first tier that has a usable endpoint, the usable
// ones, and of those the ones in the preferred zone. Who drains or is in maintenance does not count.
func (c *Config) eligible(all []member) []member {
	first := tiers(filter(all, func(m *member) bool { return !m.Leaving() }))
	for _, tier := range first {
		up := filter(tier, func(m *member) bool { return m.Usable() })
		switch {
		case len(up) == 0:
			continue
		case len(up)*100 < c.Panic*len(tier):
			up = resolved(tier) // so much cannot be broken: it is rather the checks that are
		}
		return c.near(up, tier)
	}
	if c.Panic > 0 && len(first) > 0 {
		return c.near(resolved(first[0]), first[0]) // with nothing to fall back on
	}
	return nil
}

func resolved(list []member) []member {
	return filter(list, func(m *member) bool { return m.addrs.Load() != nil })
}

// near are those of up that are in the preferred zone, if enough of the zone's in tier are up, else all.
func (c *Config) near(up, tier []member) []member {
	if c.Zone == "" {
		return up
	}
	here := func(m *member) bool { return m.cfg.Zone == c.Zone }
	if n := filter(up, here); len(n) > 0 && len(n)*100 >= c.ZoneMin*len(filter(tier, here)) {
		return n
	}
	return up
}

// tiers are the members by priority, the first one first.
func tiers(all []member) [][]member {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b member) int { return a.tier() - b.tier() })
	var out [][]member
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && sorted[n].tier() == sorted[0].tier() {
			n++
		}
		out = append(out, sorted[:n])
		sorted = sorted[n:]
	}
	return out
}

func filter(list []member, keep func(*member) bool) []member {
	var out []member
	for i := range list {
		if keep(&list[i]) {
			out = append(out, list[i])
		}
	}
	return out
}

// subset chooses this process's endpoints by rendezvous hashing: what comes or goes concerns only the processes that
// had it or get it, and every endpoint is in about as many subsets. It is of those that may be picked from: the process
// has its number while there are as many.
func (c *Config) subset(all []member) []member {
	if c.Subset == 0 || len(all) <= c.Subset {
		return all
	}
	key := c.SubsetKey
	if key == "" {
		key, _ = os.Hostname()
	}
	type draw struct {
		score uint64
		i     int
	}
	draws := make([]draw, len(all))
	for i := range all {
		draws[i] = draw{xxhash.Sum64String(key + "\x00" + all[i].address), i}
	}
	slices.SortFunc(draws, func(a, b draw) int {
		return cmp.Or(cmp.Compare(b.score, a.score), strings.Compare(all[a.i].address, all[b.i].address))
	})
	draws = draws[:c.Subset]
	slices.SortFunc(draws, func(a, b draw) int { return a.i - b.i }) // the file's order
	out := make([]member, c.Subset)
	for k, d := range draws {
		out[k] = all[d.i]
	}
	return out
}

const (
	// rampScale is what weights are multiplied by where they may have to grow. Always: a table that is made of the one
	// before needs their scale to stay.
	rampScale = 100
	// rampFrom is the part of its weight that an endpoint begins with, in percent: enough to be noticed, by us and by it.
	rampFrom = 10
)

// ramp scales down the weights of members that have come up within slow start. It says whether there are any.
func ramp(members []member, slow time.Duration, now time.Time) bool {
	part := func(m *member) int {
		if m.since.IsZero() {
			return rampScale
		}
		return min(max(int(now.Sub(m.since)*rampScale/slow), rampFrom), rampScale)
	}
	if slow <= 0 {
		return false
	}
	growing := false
	for i := range members {
		p := part(&members[i])
		members[i].weight *= p
		growing = growing || p < rampScale
	}
	return growing
}

// newTable prepares picks among members. was is the table before, or nil, of which parts may serve again.
func newTable(cfg *Config, members []member, was *table) (*table, error) {
	t := &table{kind: kinds[cfg.Picker], members: members, bounded: cfg.BoundedLoad, limits: cfg.Limits,
		dials: cfg.Limits.Connections > 0 || cfg.Limits.Pending > 0}
	for i := range members {
		t.weights += float64(members[i].weight)
		t.limited = t.limited || members[i].max > 0
	}
	t.limited = t.limited || t.bounded > 0 || t.dials
	var err error
	switch cfg.Picker {
	case LeastConn:
	case Random, P2C, EWMA:
		t.alias = newAlias(members)
	case Maglev:
		var m *maglev.Table
		if m, err = maglev.New(nameAndWeight(members, func(n string, w int) maglev.Endpoint { return maglev.Endpoint{Name: n, Weight: w} }), cfg.TableSize); err == nil {
			t.slots = m.Slots()
		}
	case Ring:
		t.ring, err = ring.New(nameAndWeight(members, func(n string, w int) ring.Endpoint { return ring.Endpoint{Name: n, Weight: w} }))
	case HRW:
		eps := nameAndWeight(members, func(n string, w int) hrw.Endpoint { return hrw.Endpoint{Name: n, Weight: w} })
		if was != nil && was.hrw != nil {
			t.hrw, err = was.hrw.Update(eps)
		} else {
			t.hrw, err = hrw.New(eps, cfg.TableSize)
		}
		if err == nil {
			t.slots = t.hrw.Slots()
		}
	default:
		t.schedule = smooth(members)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func nameAndWeight[T any](members []member, f func(name string, weight int) T) []T {
	out := make([]T, len(members))
	for i := range members {
		out[i] = f(members[i].address, members[i].weight)
	}
	return out
}
