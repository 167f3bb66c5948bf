package route

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strconv"
)

// Unreachable reports, by index, matches that no request ever reaches: those that mean the same as an earlier one, and
// those of which a route with the same host and path comes first and wants no more. It does not compare different paths: it
// does not see that a template or a regexp is for all that another path is for. Matches that are not valid are passed over.
func Unreachable(matches []Match, report func(i int, message string)) {
	c := newCompiler()
	seen := make(map[string]int, len(matches))
	byPlace := map[string]int{}
	var places [][]*rule
	for i, m := range matches {
		r, err := c.rule(m, i)
		if err != nil {
			continue
		}
		key := r.key()
		if _, dup := seen[key]; dup {
			report(i, "a second route for "+m.String())
			continue
		}
		seen[key] = i
		if !r.plain { // one that is plain comes last at its place
			n, ok := byPlace[string(r.place())]
			if !ok {
				n = len(places)
				byPlace[string(r.place())] = n
				places = append(places, nil)
			}
			places[n] = append(places[n], r)
		}
	}
	seed := maphash.MakeSeed()
	for _, rules := range places {
		slices.SortFunc(rules, compare)
		wants, grants := make([]uint64, len(rules)), make([]uint64, len(rules))
		for i, r := range rules {
			wants[i], grants[i] = r.signature(seed)
		}
		for i, r := range rules {
			for k, first := range rules[:i] {
				// A place may have thousands of routes: what the bits tell is not looked at.
				if wants[k]&^grants[i] == 0 && first.covers(r) {
					report(r.index, fmt.Sprintf("is never reached: #%d, %s, comes first and takes all of its requests", first.index, first.match))
					break
				}
			}
		}
	}
}

// signature has two bits for each condition that r has, and grants for each that follows from one.
func (r *rule) signature(seed maphash.Seed) (wants, grants uint64) {
	bits := func(s string) uint64 {
		h := maphash.String(seed, s)
		return 1<<(h&63) | 1<<(h>>6&63)
	}
	for i := range r.conditions {
		c := &r.conditions[i]
		wants |= bits(c.key())
		grants |= bits(c.key())
		if !c.absent {
			grants |= bits((&condition{kind: c.kind, name: c.name}).key())
		}
	}
	return wants, grants
}

// covers says that every request for which b holds is one for which r holds, their hosts and paths being the same.
func (r *rule) covers(b *rule) bool {
	lacks := func(m string) bool { return !slices.Contains(r.methods, m) }
	if len(r.methods) > 0 && (len(b.methods) == 0 || slices.ContainsFunc(b.methods, lacks)) {
		return false
	}
	for i := range r.conditions {
		c := &r.conditions[i]
		if !slices.ContainsFunc(b.conditions, func(d condition) bool { return d.implies(c) }) {
			return false
		}
	}
	outside := func(p netip.Prefix) bool {
		return !slices.ContainsFunc(r.sources, func(in netip.Prefix) bool { return in.Bits() <= p.Bits() && in.Contains(p.Addr()) })
	}
	return len(r.sources) == 0 || len(b.sources) > 0 && !slices.ContainsFunc(b.sources, outside)
}

// implies says that c holds whenever d does, as far as it shows without trying a regexp.
func (d *condition) implies(c *condition) bool {
	if d.kind != c.kind || d.name != c.name || d.absent != c.absent {
		return false
	}
	return !c.equals && c.regexp == nil || d.key() == c.key()
}

// key is the same for matches that mean the same, for all that is spelt in one way only.
func (r *rule) key() string {
	b := r.place()
	for _, m := range r.methods {
		b = strconv.AppendQuote(append(b, 'm'), m)
	}
	all := make([]string, len(r.conditions))
	for i := range r.conditions {
		all[i] = r.conditions[i].key()
	}
	slices.Sort(all)
	for _, s := range slices.Compact(all) {
		b = strconv.AppendQuote(append(b, 'c'), s)
	}
	for _, p := range r.sources {
		b = p.AppendTo(append(b, 's'))
	}
	return string(b)
}

// place is the host and the path of a key.
func (r *rule) place() []byte {
	b := []byte{byte(r.hostClass), byte(r.pathClass)}
	b = strconv.AppendQuote(b, r.host)
	if r.pathClass == byTemplate { // whatever its variables are called
		for _, s := range r.template {
			if b = append(b, s.form); s.form == literal {
				b = strconv.AppendQuote(b, s.text)
			}
		}
	} else {
		b = strconv.AppendQuote(b, r.path)
	}
	return b
}

func (c *condition) key() string {
	b := strconv.AppendQuote([]byte{byte(c.kind)}, c.name)
	switch {
	case c.absent:
		b = append(b, '!')
	case c.equals:
		b = strconv.AppendQuote(append(b, '='), c.value)
	case c.regexp != nil:
		b = strconv.AppendQuote(append(b, '~'), c.regexp.String())
	}
	return string(b)
}
