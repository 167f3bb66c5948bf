package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"sluice/engine"
	"sluice/tune"
	"sluice/tune/host"
)

// pin has the loops run where a says: auto is what tune makes of the host. Not to be permitted is no error: an edge whose
// loops move works, and says so.
func (s *server) pin(a engine.Affinity) error {
	if !a.Auto && a.CPUs == nil {
		return nil
	}
	h := host.Live()
	defer h.Close()
	facts := host.Read(h)
	if a.Auto {
		a.CPUs = tune.Placement(facts, len(s.engine.Loops()))
	}
	if len(a.CPUs) == 0 {
		s.log.Warn("loops are not pinned: the host does not tell its CPUs")
		return nil
	}
	err := s.engine.Pin(a.CPUs)
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.log.Warn("loops are not pinned", "error", err)
		return nil
	case err != nil:
		return fmt.Errorf("engine.affinity: %w", err)
	}
	s.log.Info("loops are pinned", "cpus", a.CPUs)
	for _, n := range facts.NICs {
		if in := receiving(&n); n.Up && n.Device && len(in) > 0 {
			if idle := without(a.CPUs, in); len(idle) > 0 {
				s.log.Warn("connections through this interface come in on other CPUs than those of some loops, which get none of them: "+
					"give it more receive queues, or RPS (sluice tune audit)", "interface", n.Name, "receives_on", host.FormatList(in),
					"idle_on", host.FormatList(idle))
			}
		}
	}
	return nil
}

// receiving are the CPUs that an interface's packets go up the stack on, sorted: those that RPS hands them to, else those
// of their queues' interrupts. None: it does not tell.
func receiving(n *host.NIC) (cpus []int) {
	for i, q := range n.RxQ {
		switch {
		case len(q.RPS) > 0:
			cpus = append(cpus, q.RPS...)
		case i >= len(n.IRQs):
			return nil
		case len(n.IRQs[i].On) > 0:
			cpus = append(cpus, n.IRQs[i].On...)
		default:
			cpus = append(cpus, n.IRQs[i].Affinity...)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus)
}

// without are the CPUs that are not among others, sorted.
func without(cpus, others []int) []int {
	rest := slices.DeleteFunc(slices.Clone(cpus), func(cpu int) bool { return slices.Contains(others, cpu) })
	slices.Sort(rest)
	return slices.Compact(rest)
}
