package tune

import (
	"cmp"
	"slices"

	"sluice/tune/host"
)

// Placement is the processor of each loop: those of the node that packets come in on first, there the first thread of each
// core before the second ones; then those of the nodes that are nearest. Isolated processors are for those that are
// pinned to them: they are taken first if there are enough. More loops than processors share them.
func Placement(f *host.Facts, loops int) []int {
	near := nicNode(f)
	isolated, _ := host.ParseList(f.Text("sys/devices/system/cpu/isolated").Text)
	all := slices.Clone(f.Allowed)
	if len(isolated) >= loops {
		if kept := slices.DeleteFunc(slices.Clone(all), func(cpu int) bool { return !slices.Contains(isolated, cpu) }); len(kept) >= loops {
			all = kept
		}
	}
	if len(all) == 0 {
		return nil
	}
	rank := func(cpu int) (distance, thread int) {
		c, _ := f.CPU(cpu)
		thread = max(0, slices.Index(c.Siblings, cpu))
		for _, n := range f.Nodes {
			if i := slices.IndexFunc(f.Nodes, func(n host.Node) bool { return n.ID == c.Node }); n.ID == near && i >= 0 && i < len(n.Distance) {
				distance = n.Distance[i]
			}
		}
		return distance, thread
	}
	slices.SortFunc(all, func(a, b int) int {
		da, ta := rank(a)
		db, tb := rank(b)
		return cmp.Or(cmp.Compare(da, db), cmp.Compare(ta, tb), cmp.Compare(a, b))
	})
	places := make([]int, loops)
	for i := range places {
		places[i] = all[i%len(all)]
	}
	return places
}

// nicNode is the node of the fastest interface that is up; -1 if there is none that tells.
func nicNode(f *host.Facts) int {
	node, speed := -1, -1
	for _, n := range f.NICs {
		if n.Up && n.Device && n.Node >= 0 && n.Speed > speed {
			node, speed = n.Node, n.Speed
		}
	}
	return node
}

// local are the processors that the process may use on an interface's node; all that it may use, if there is but one node
// or it is not known.
func local(f *host.Facts, n *host.NIC) []int {
	if n.Node < 0 || len(f.Nodes) < 2 {
		return f.Allowed
	}
	return slices.DeleteFunc(slices.Clone(f.Allowed), func(cpu int) bool { return f.NodeOf(cpu) != n.Node })
}
