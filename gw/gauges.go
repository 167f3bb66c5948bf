package gw

import "sluice/gw/filter"

// Gauges calls each for what the filters show of their state, with labels in pairs: those that count under a name of their own as
// often as they are listed, the others with their route, which is empty for the listener's own, and their place in its list.
func (g *Gateway) Gauges(each func(name string, value float64, route string, place int, labels []string)) {
	show := func(f filter.Filter, route string, place int) {
		if s, ok := f.(filter.Gauges); ok {
			s.Gauges(func(name string, value float64, labels ...string) { each(name, value, route, place, labels) })
		}
	}
	for i, f := range g.common {
		show(f, "", i)
	}
	for _, t := range g.targets {
		for i, f := range t.filters[t.own:] {
			show(f, t.name, i)
		}
	}
}
