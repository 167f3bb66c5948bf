package tune

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"sluice/tune/host"
)

// WriteTopology draws a host in text: packages, their nodes, the caches that processors share, cores with the interrupts
// and loops that are on them; then the way of a packet, by interface and queue, with a mark where it crosses a node.
//
// A loop stands where Placement puts it, unless the edge pins its loops elsewhere; RSS gives a flow to any queue, so that
// a queue's packets are for the loop on its interrupt's processor if the edge accepts there, and for any loop otherwise.
func WriteTopology(w io.Writer, f *host.Facts, e Edge) error {
	e = e.Fill(f)
	d := drawing{Facts: f, loops: map[int][]int{}, irqs: map[int][]string{}}
	places := Placement(f, e.Loops)
	for loop, cpu := range places {
		d.loops[cpu] = append(d.loops[cpu], loop)
	}
	for _, n := range f.NICs {
		for queue, irq := range n.IRQs {
			if on, ok := delivered(irq); ok {
				d.irqs[on] = append(d.irqs[on], fmt.Sprintf("%s:%d", n.Name, queue))
			}
		}
	}
	d.machine(e)
	for i := range f.NICs {
		if n := &f.NICs[i]; n.Up {
			d.nic(n)
		}
	}
	_, err := io.WriteString(w, d.String())
	return err
}

type drawing struct {
	strings.Builder
	*host.Facts
	loops map[int][]int    // by processor
	irqs  map[int][]string // by processor: NIC:queue
}

func (d *drawing) line(depth int, format string, args ...any) {
	d.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(d, format, args...)
	d.WriteByte('\n')
}

// machine draws processors, from the package down to the core.
func (d *drawing) machine(e Edge) {
	d.line(0, "%s: %s, %s, %s, %s", cmp.Or(d.Name, "?"), count(len(d.Packages()), "package"), count(max(1, len(d.Nodes)), "node"),
		count(len(d.CPUs), "processor"), count(e.Loops, "loop"))
	if len(d.CPUs) == 0 {
		d.line(1, "its processors cannot be seen")
		return
	}
	for _, p := range d.Packages() {
		label := fmt.Sprintf("package %d", p)
		if p < 0 {
			label = "package unknown"
		}
		d.line(0, "%s", label)
		nodes := d.Nodes
		if len(nodes) == 0 {
			nodes = []host.Node{{Memory: d.Memory}}
		}
		for _, n := range nodes {
			var cpus []host.CPU
			for _, c := range d.CPUs {
				if c.Package == p && c.Node == n.ID {
					cpus = append(cpus, c)
				}
			}
			if len(cpus) > 0 {
				d.node(n, cpus)
			}
		}
	}
}

func (d *drawing) node(n host.Node, cpus []host.CPU) {
	text := fmt.Sprintf("node %d  processors %s", n.ID, host.FormatList(ids(cpus)))
	if n.Memory > 0 {
		text += "  " + size(n.Memory)
	}
	var here []string
	for _, nic := range d.NICs {
		if nic.Up && nic.Device && (nic.Node == n.ID || nic.Node < 0 && len(d.Nodes) < 2) {
			here = append(here, nic.Name)
		}
	}
	if len(here) > 0 {
		text += "  ◄ " + strings.Join(here, ", ")
	}
	d.line(1, "%s", text)
	for len(cpus) > 0 { // a cache at a time
		shared := cpus[0].Cache
		var group, rest []host.CPU
		for _, c := range cpus {
			if c.Cache == shared {
				group = append(group, c)
			} else {
				rest = append(rest, c)
			}
		}
		cpus = rest
		if shared.Level > 0 {
			d.line(2, "L%d %s  processors %s", shared.Level, shared.Size, host.FormatList(ids(group)))
		}
		d.cores(group)
	}
}

// cores draws a line for each core; those with nothing on them in one line.
func (d *drawing) cores(cpus []host.CPU) {
	var idle []int
	done := map[int]bool{}
	for _, c := range cpus {
		if done[c.ID] {
			continue
		}
		var threads []string
		busy := false
		for _, id := range c.Siblings {
			if !slices.ContainsFunc(cpus, func(x host.CPU) bool { return x.ID == id }) {
				continue
			}
			done[id] = true
			text := fmt.Sprintf("cpu %d", id)
			for _, loop := range d.loops[id] {
				text += fmt.Sprintf(" loop %d", loop)
			}
			if at := d.irqs[id]; len(at) > 0 {
				text += " ← " + strings.Join(at, " ")
			}
			busy = busy || len(d.loops[id])+len(d.irqs[id]) > 0
			threads = append(threads, text)
		}
		if !busy {
			for _, id := range c.Siblings {
				if done[id] {
					idle = append(idle, id)
				}
			}
			continue
		}
		d.line(3, "core %d  %s", c.Core, strings.Join(threads, " | "))
	}
	if len(idle) > 0 {
		d.line(3, "without loop or interrupt: %s", host.FormatList(idle))
	}
}

// nic draws the ways of an interface's queues, alike ones in one line.
func (d *drawing) nic(n *host.NIC) {
	about := []string{}
	if n.Link != nil && n.Link.Driver != "" {
		about = append(about, n.Link.Driver)
	}
	if n.Speed > 0 {
		about = append(about, fmt.Sprintf("%g Gbit/s", float64(n.Speed)/1000))
	}
	if n.Node >= 0 && len(d.Nodes) > 1 {
		about = append(about, fmt.Sprintf("node %d", n.Node))
	}
	if len(n.RxQ) > 0 {
		about = append(about, count(len(n.RxQ), "receive queue"))
	}
	d.line(0, "%s  %s", n.Name, strings.Join(about, ", "))
	if !n.Device {
		d.line(1, "it has no device here: its queues are those of the machine around this container")
		return
	}
	if len(n.IRQs) == 0 {
		d.line(1, "none of /proc/interrupts is known to be of its queues")
		return
	}
	crossed := 0
	for queue, irq := range n.IRQs {
		on, ok := delivered(irq)
		if !ok {
			d.line(1, "queue %d  irq %d  on any of processors %s", queue, irq.Number, host.FormatList(irq.Affinity))
			continue
		}
		node := d.NodeOf(on)
		text := fmt.Sprintf("queue %d  irq %d  cpu %d", queue, irq.Number, on)
		if len(d.Nodes) > 1 {
			text += fmt.Sprintf(" of node %d", node)
		}
		if loops := d.loops[on]; len(loops) > 0 {
			for _, loop := range loops {
				text += fmt.Sprintf("  loop %d", loop)
			}
		} else {
			text += "  " + d.otherLoop(on)
		}
		if n.Node >= 0 && node >= 0 && len(d.Nodes) > 1 && node != n.Node {
			crossed++
			text += fmt.Sprintf("  ✗ crosses from node %d to node %d", n.Node, node)
		}
		d.line(1, "%s", text)
	}
	if crossed > 0 {
		d.line(1, "✗ packets of %d of %s cross a node", crossed, count(len(n.IRQs), "queue"))
	}
}

// otherLoop says where the packets of a processor without a loop are read.
func (d *drawing) otherLoop(cpu int) string {
	node := d.NodeOf(cpu)
	var near, far int
	for at, loops := range d.loops {
		if d.NodeOf(at) == node {
			near += len(loops)
		} else {
			far += len(loops)
		}
	}
	switch {
	case near == 0 && far > 0:
		return fmt.Sprintf("no loop on node %d  ✗ crosses to read", node)
	case near == 0:
		return "no loop"
	}
	return "a loop of another processor"
}

// delivered is the processor that an interrupt comes to; false if it may be any of several.
func delivered(irq host.IRQ) (cpu int, ok bool) {
	on := irq.On
	if len(on) == 0 {
		on = irq.Affinity
	}
	if len(on) != 1 {
		return 0, false
	}
	return on[0], true
}

func ids(cpus []host.CPU) []int {
	all := make([]int, len(cpus))
	for i, c := range cpus {
		all[i] = c.ID
	}
	return all
}
