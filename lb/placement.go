package lb

import (
	"encoding/binary"
	"fmt"
	"time"

	"sluice/engine"
	"sluice/lb/discovery"
)

// Placement says where keys belong in a cluster that has all its endpoints up. It is immutable.
type Placement struct {
	c     *Cluster
	table *table
}

// NewPlacement builds the placement of a valid configuration whose picker hashes.
func NewPlacement(cfg Config) (*Placement, error) {
	c := &Cluster{cfg: cfg.withDefaults(), shared: newShared(nil)}
	if !c.cfg.Picker.Hashes() {
		return nil, fmt.Errorf("cluster %s: %s does not place by keys: any endpoint may get any session", cfg.Name, c.cfg.Picker)
	}
	c.cfg.Limits = Limits{}
	c.members = make([]member, len(cfg.Endpoints))
	for i, e := range cfg.Endpoints {
		ep := &Endpoint{address: e.Address}
		ep.healthy.Store(true)
		ep.addrs.Store(&[]engine.Addr{}) // wherever it is
		ep.leaving.Store(e.State != "" && e.State != discovery.Ready)
		w := 1
		if e.Weight != nil {
			w = *e.Weight
		}
		c.members[i] = member{Endpoint: ep, weight: w, cfg: e}
	}
	if _, err := c.rebuild(time.Time{}); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
	}
	return &Placement{c, c.table.Load()}, nil
}

// Share is an endpoint's part of the keys as its weight would have it, 0 to 1; none for those that get no keys.
func (p *Placement) Share() map[string]float64 {
	out := map[string]float64{}
	for i := range p.table.members {
		m := &p.table.members[i]
		out[m.address] = float64(m.weight) / p.table.weights
	}
	return out
}

// Of is the address of the endpoint that the n-th of many keys belongs to; empty if there are none.
func (p *Placement) Of(n uint64) string {
	var key [8]byte
	binary.LittleEndian.PutUint64(key[:], n)
	q := query{table: p.table, hash: p.c.hash(key[:])} // no loop: nothing of one decides
	i := q.choose()
	if i < 0 {
		return ""
	}
	return p.table.members[i].address
}
