package change

import (
	"fmt"
	"math/big"
	"path"
	"slices"
	"strconv"
	"strings"
)

// normal is the form of a value in which it is compared: what the kernel shows, without what it adds. Space is one blank,
// of "always [madvise] never" the chosen word remains, masks and lists of CPUs have one spelling.
func normal(s Setting, raw string) string {
	v := strings.Join(strings.Fields(raw), " ")
	switch {
	case s.isMask():
		if m, err := parseMask(v); err == nil {
			return m.Text(16)
		}
	case s.isList():
		if l, err := parseList(v); err == nil {
			return formatList(l)
		}
	case s.Kind == File:
		if _, chosen := choices(v); chosen != "" {
			return chosen
		}
	}
	return v
}

// same says whether two values of a setting are one. That a qdisc is the kernel's own choice makes no difference.
func same(s Setting, a, b string) bool {
	a, b = normal(s, a), normal(s, b)
	if s.Kind == Link {
		a, b = strings.TrimSuffix(a, ownChoice), strings.TrimSuffix(b, ownChoice)
	}
	return a == b
}

// wire is the text that is written for a value. Masks go in groups of 32 bits, as bitmap_parse() of the kernel wants them.
func wire(s Setting, v string) string {
	if m, err := parseMask(v); s.isMask() && err == nil {
		hex := m.Text(16)
		var groups []string
		for len(hex) > 8 {
			groups = append(groups, hex[len(hex)-8:])
			hex = hex[:len(hex)-8]
		}
		groups = append(groups, hex)
		slices.Reverse(groups)
		return strings.Join(groups, ",")
	}
	return v
}

// choices are the words of a file like "always [madvise] never", and the chosen one; none of another file.
func choices(raw string) (words []string, chosen string) {
	for _, w := range strings.Fields(raw) {
		if in, ok := strings.CutPrefix(w, "["); ok && strings.HasSuffix(in, "]") {
			if chosen != "" {
				return nil, ""
			}
			w = strings.TrimSuffix(in, "]")
			chosen = w
		}
		words = append(words, w)
	}
	if chosen == "" {
		return nil, ""
	}
	return words, chosen
}

func (s Setting) isMask() bool {
	switch s.Kind {
	case File:
		return slices.Contains([]string{"smp_affinity", "default_smp_affinity", "rps_cpus", "xps_cpus", "xps_rxqs", "cpumask"}, path.Base(s.Key))
	case Sysctl:
		return strings.HasSuffix(sysctlPath(s.Key), "/flow_limit_cpu_bitmap")
	}
	return false
}

func (s Setting) isList() bool { return s.Kind == File && strings.HasSuffix(s.Key, "_affinity_list") }

func parseMask(v string) (*big.Int, error) {
	m := new(big.Int)
	for _, g := range strings.Split(v, ",") {
		n, err := strconv.ParseUint(g, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no mask: hexadecimal groups of 8 digits, as in 3 or ff,ffffffff", v)
		}
		m.Or(m.Lsh(m, 32), new(big.Int).SetUint64(n))
	}
	return m, nil
}

// maxCPU bounds lists: NR_CPUS of the largest kernels is 8192.
const maxCPU = 1 << 16

// parseList reads a list of CPUs, 0-3,8: sorted, each once.
func parseList(v string) ([]int, error) {
	var out []int
	if v == "" {
		return nil, nil
	}
	for _, r := range strings.Split(v, ",") {
		lo, hi, ranged := strings.Cut(strings.TrimSpace(r), "-")
		if !ranged {
			hi = lo
		}
		a, err1 := strconv.ParseUint(lo, 10, 31)
		b, err2 := strconv.ParseUint(hi, 10, 31)
		if err1 != nil || err2 != nil || a > b || b >= maxCPU {
			return nil, fmt.Errorf("%q is no list of CPUs, as in 0-3,8", v)
		}
		for n := a; n <= b; n++ {
			out = append(out, int(n))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func formatList(l []int) string {
	var parts []string
	for i := 0; i < len(l); {
		j := i
		for j+1 < len(l) && l[j+1] == l[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(l[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", l[i], l[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// decimal is a whole number in its one spelling; empty if v is none. A leading zero is none: the kernel reads 010 as eight.
func decimal(v string) string {
	digits := strings.TrimPrefix(v, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" || len(digits) > 1 && digits[0] == '0' || v == "-0" {
		return ""
	}
	return v
}
