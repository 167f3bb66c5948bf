package change

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// between are the bounds of every number of a sysctl, as the kernel's tables have them. Only what is stricter than an int is here.
var between = map[string][2]int64{
	// net/core/sysctl_net_core.c: SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF are 4608 and 2304 at most on 64 bits
	"net/core/somaxconn": {0, 1<<31 - 1}, "net/core/netdev_max_backlog": {0, 1<<31 - 1}, "net/core/netdev_budget": {1, 1<<31 - 1},
	"net/core/netdev_budget_usecs": {1, 1<<31 - 1},
	"net/core/rmem_max":            {2304, 1<<31 - 1}, "net/core/rmem_default": {2304, 1<<31 - 1},
	"net/core/wmem_max": {4608, 1<<31 - 1}, "net/core/wmem_default": {4608, 1<<31 - 1},
	"net/core/busy_poll": {0, 1<<31 - 1}, "net/core/busy_read": {0, 1<<31 - 1},
	// net/ipv4/sysctl_net_ipv4.c
	"net/ipv4/tcp_rmem": {1, 1<<31 - 1}, "net/ipv4/tcp_wmem": {1, 1<<31 - 1}, "net/ipv4/tcp_mem": {0, 1<<63 - 1},
	"net/ipv4/udp_mem": {0, 1<<63 - 1}, "net/ipv4/tcp_tw_reuse": {0, 2}, "net/ipv4/tcp_slow_start_after_idle": {0, 255},
	"net/ipv4/tcp_mtu_probing": {0, 255}, "net/ipv4/tcp_syncookies": {0, 255}, "net/ipv4/tcp_window_scaling": {0, 255},
	"net/ipv4/tcp_timestamps": {0, 255}, "net/ipv4/tcp_sack": {0, 255}, "net/ipv4/tcp_ecn": {0, 5}, "net/ipv4/tcp_syn_retries": {1, 127},
	"net/ipv4/tcp_fin_timeout": {0, 1<<31/1000 - 1}, "net/ipv4/tcp_notsent_lowat": {0, 1<<32 - 1}, "net/ipv4/tcp_fastopen": {0, 1<<31 - 1},
	"net/ipv4/ip_local_port_range": {1, 65535}, "net/ipv4/ip_unprivileged_port_start": {0, 65535},
	"net/ipv4/ip_default_ttl": {1, 255}, "net/ipv4/ip_forward": {0, 1}, "net/ipv4/tcp_adv_win_scale": {-31, 31},
	"net/ipv4/tcp_min_tso_segs": {1, 65535}, "net/ipv4/tcp_max_syn_backlog": {0, 1<<31 - 1}, "net/ipv4/tcp_keepalive_probes": {0, 255},
	// mm/, kernel/, fs/
	"vm/swappiness": {0, 200}, "vm/overcommit_memory": {0, 2}, "vm/dirty_ratio": {0, 100}, "vm/dirty_background_ratio": {0, 100},
	"vm/zone_reclaim_mode": {0, 1<<31 - 1}, "vm/max_map_count": {0, 1<<31 - 1}, "vm/compaction_proactiveness": {0, 100},
	"kernel/numa_balancing": {0, 4}, "kernel/perf_event_paranoid": {-1, 4}, "kernel/pid_max": {301, 1 << 22},
	"kernel/sched_autogroup_enabled": {0, 1}, "kernel/timer_migration": {0, 1}, "kernel/nmi_watchdog": {0, 1}, "kernel/watchdog": {0, 1},
	"fs/nr_open": {64, 1<<31 - 64}, "fs/pipe-max-size": {4096, 1 << 31}, "fs/file-max": {0, 1<<63 - 1},
}

// rising are sysctls whose numbers may not fall from one to the next.
var rising = []string{"net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem", "net/ipv4/tcp_mem", "net/ipv4/udp_mem", "net/ipv4/ip_local_port_range"}

// free are sysctls of numbers now that may have another shape then.
var free = []string{"net/ipv4/ip_local_reserved_ports", "kernel/core_pattern"}

// lists are the files beside a file that list what it may be.
var lists = map[string]string{"scaling_governor": "scaling_available_governors", "current_clocksource": "available_clocksource",
	"energy_performance_preference": "energy_performance_available_preferences", "current_governor": "available_governors"}

// check says why the host could not take the value, as far as reading tells, and what the present value is. It writes nothing.
func (h *Host) check(s Setting) (current string, err error) {
	raw, err := h.raw(s)
	if errors.Is(err, fs.ErrNotExist) {
		if name := h.near(s); name != "" {
			return "", fmt.Errorf("this host has no %s; did you mean %q?", s, name)
		}
		return "", fmt.Errorf("this host has no %s", s)
	}
	if err != nil {
		return "", err
	}
	current = normal(s, raw)
	switch {
	case s.Kind == Ethtool || s.Kind == Link:
		if !same(s, current, s.Value) {
			err = h.Device.Check(s, current)
		}
	case s.Kind == Unit:
		err = h.checkUnit(s)
	case s.isMask():
		var m interface{ BitLen() int }
		if m, err = parseMask(s.Value); err == nil {
			err = h.checkCPUs(s, m.BitLen()-1)
		}
		if err == nil && strings.HasSuffix(s.Key, "smp_affinity") && strings.Trim(s.Value, "0,") == "" {
			err = errors.New("an interrupt needs a CPU")
		}
	case s.isList():
		var l []int
		if l, err = parseList(s.Value); err == nil && len(l) == 0 {
			err = errors.New("an interrupt needs a CPU")
		} else if err == nil {
			err = h.checkCPUs(s, l[len(l)-1])
		}
	case s.Kind == File:
		err = h.checkFile(s, raw)
	case s.Kind == Sysctl:
		err = h.checkSysctl(s, current)
	}
	return current, err
}

// checkCPUs refuses a CPU that the host cannot have. A mask of queues has other bits.
func (h *Host) checkCPUs(s Setting, last int) error {
	possible, err := parseList(h.line("sys/devices/system/cpu/possible"))
	if err != nil || len(possible) == 0 || path.Base(s.Key) == "xps_rxqs" {
		return nil
	}
	if most := possible[len(possible)-1]; last > most {
		return fmt.Errorf("%s is of CPU %d, and the last one here is %d", s.Value, last, most)
	}
	return nil
}

func (h *Host) checkFile(s Setting, raw string) error {
	if words, _ := choices(raw); words != nil {
		return oneOf(s.Value, words)
	}
	if list := lists[path.Base(s.Key)]; list != "" {
		if words := strings.Fields(h.line(path.Join(path.Dir(s.Key), list))); len(words) > 0 {
			return oneOf(s.Value, words)
		}
	}
	return shape(normal(s, raw), s.Value)
}

func oneOf(v string, words []string) error {
	if slices.Contains(words, v) {
		return nil
	}
	if near := nearest(v, words); near != "" {
		return fmt.Errorf("%q is not one of %s; did you mean %q?", v, strings.Join(words, ", "), near)
	}
	return fmt.Errorf("%q is not one of %s", v, strings.Join(words, ", "))
}

// shape refuses a text where numbers are, or another count of them.
func shape(current, v string) error {
	now, then := strings.Fields(current), strings.Fields(v)
	for _, f := range now {
		if decimal(f) == "" {
			return nil
		}
	}
	if len(now) == 0 {
		return nil
	}
	if len(now) != len(then) {
		return fmt.Errorf("%q has %s, and the host %s", v, plural(len(then), "number"), plural(len(now), "number"))
	}
	for _, f := range then {
		if decimal(f) == "" {
			return fmt.Errorf("%q is no whole number", f)
		}
	}
	return nil
}

func (h *Host) checkSysctl(s Setting, current string) error {
	at := sysctlPath(s.Key)
	if slices.Contains(free, at) {
		return nil
	}
	if err := shape(current, s.Value); err != nil {
		return err
	}
	bounds, known := between[at]
	if !known {
		return nil
	}
	before := bounds[0]
	for _, f := range strings.Fields(s.Value) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || n < bounds[0] || n > bounds[1] {
			return fmt.Errorf("%s is outside of the kernel's range, %d to %d", f, bounds[0], bounds[1])
		}
		if slices.Contains(rising, at) && n < before {
			return fmt.Errorf("%q falls: each number must be at least the one before it", s.Value)
		}
		before = n
	}
	return nil
}

func (h *Host) checkUnit(s Setting) error {
	if !strings.HasPrefix(s.Key, "Limit") {
		return nil
	}
	n, err := strconv.ParseUint(s.Value, 10, 63)
	if err != nil {
		if s.Value == "infinity" {
			return nil
		}
		return fmt.Errorf("%q is neither a whole number nor infinity", s.Value)
	}
	if s.Key == "LimitNOFILE" && n > 1<<31-64 {
		return fmt.Errorf("%d is above what fs.nr_open can be", n)
	}
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
