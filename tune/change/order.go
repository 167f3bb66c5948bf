package change

import (
	"slices"
	"strings"
)

// inOrder has what a setting depends on before it, and leaves the order as it is otherwise: a processor is online before its files
// are there; a number of queues resets rings and offloads, and makes the queues' files and interrupts; the default qdisc is what a
// new one has below it.
func inOrder(settings []Setting) []Setting {
	all := slices.Clone(settings)
	slices.SortStableFunc(all, func(a, b Setting) int { return a.turn() - b.turn() })
	return all
}

func (s Setting) turn() int {
	_, name := s.device()
	switch s.Kind {
	case Sysctl:
		return 1
	case Ethtool:
		if slices.Contains([]string{"combined", "rx-queues", "tx-queues"}, name) {
			return 3
		}
		return 4
	case Link:
		return 5
	case File:
		switch {
		case strings.HasSuffix(s.Key, "/online"):
			return 0
		case strings.HasPrefix(s.Key, "/sys/devices/system/"):
			return 2
		}
		return 6
	case Unit:
		return 7
	}
	return 8
}
