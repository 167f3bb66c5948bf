package lb

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/lb/discovery"
)

// chosen are the names of those who are picked from.
func chosen(c *Cluster) string {
	var s strings.Builder
	for i := range c.table.Load().members {
		s.WriteString(letter(c.table.Load().members[i].Endpoint))
	}
	return s.String()
}

// tiered is a cluster's configuration with endpoints a, b, c…, each after what its word says: a priority, B for backup, D
// for draining, M for maintenance, and a zone in lower case.
func tiered(words string) Config {
	cfg := lettered(RoundRobin, make([]int, len(strings.Fields(words)))...)
	for i, word := range strings.Fields(words) {
		ep := &cfg.Endpoints[i]
		ep.Weight = nil
		for _, r := range word {
			switch {
			case r >= '0' && r <= '9':
				ep.Priority = int(r - '0')
			case r == 'B':
				ep.Backup = true
			case r == 'D':
				ep.State = discovery.Drain
			case r == 'M':
				ep.State = discovery.Maint
			default:
				ep.Zone = string(r)
			}
		}
	}
	return cfg
}

// tierCase is which endpoints are down, and who is picked from then.
type tierCase struct{ down, want string }

func checkTiers(t *testing.T, cfg Config, cases ...tierCase) {
	t.Helper()
	c := newCluster(t, newEngine(t, 1), cfg)
	for _, k := range cases {
		for _, ep := range c.Endpoints() {
			ep.healthy.Store(!strings.Contains(k.down, letter(ep)))
		}
		mark(t, c, true)
		if got := chosen(c); got != k.want {
			t.Errorf("with %q down it is %q that is picked from, want %q", k.down, got, k.want)
		}
	}
}

func TestFirstTierThatIsUp(t *testing.T) {
	checkTiers(t, tiered("0 1 0 2 B B"), tierCase{"", "ac"}, tierCase{"a", "c"}, tierCase{"ac", "b"}, tierCase{"abc", "d"},
		tierCase{"abcd", "ef"}, tierCase{"abcde", "f"}, tierCase{"abcdef", ""}, tierCase{"bd", "ac"}, tierCase{"", "ac"})
	// Who drains or is in maintenance is not there.
	checkTiers(t, tiered("D M 0 B"), tierCase{"", "c"}, tierCase{"c", "d"}, tierCase{"cd", ""})
	checkTiers(t, tiered("D M BM B"), tierCase{"", "d"})
	checkTiers(t, tiered("5 7"), tierCase{"", "a"}, tierCase{"a", "b"})
}

func TestZoneIsPreferredWhileEnoughOfItAreUp(t *testing.T) {
	f := func(words string, least int, cases ...tierCase) {
		t.Helper()
		cfg := tiered(words)
		cfg.Zone, cfg.ZoneMin = "x", least
		checkTiers(t, cfg, cases...)
	}
	f("x x y x x y", 0, tierCase{"", "abde"}, tierCase{"ab", "de"}, tierCase{"abd", "cef"}, tierCase{"abde", "cf"})
	f("x x y x x y", 100, tierCase{"", "abde"}, tierCase{"a", "bcdef"}, tierCase{"c", "abde"})
	f("x x y x x y", 25, tierCase{"abd", "e"})
	f("x xD y xM y", 100, tierCase{"", "a"}, tierCase{"a", "ce"}) // who drains or is in maintenance does not count
	f("y z", 50, tierCase{"", "ab"})                              // the zone is empty
	f("x y xB yB", 50, tierCase{"", "a"}, tierCase{"a", "b"}, tierCase{"ab", "c"})
}

func TestPanicBelievesNobodyIsDown(t *testing.T) {
	f := func(words string, cases ...tierCase) {
		t.Helper()
		cfg := tiered(words)
		cfg.Panic = 50
		checkTiers(t, cfg, cases...)
	}
	f("0 0 0 0", tierCase{"", "abcd"}, tierCase{"a", "bcd"}, tierCase{"ab", "cd"}, tierCase{"abc", "abcd"}, tierCase{"abcd", "abcd"})
	f("0 0 0 B", tierCase{"ab", "abc"}, tierCase{"abc", "d"}, tierCase{"abcd", "abc"}) // nothing to fall back on
	f("D M 0 0", tierCase{"c", "d"}, tierCase{"cd", "cd"})                             // they do not count
	f("D M", tierCase{"", ""})
	checkTiers(t, tiered("0 0"), tierCase{"ab", ""}) // unless it is asked for
}

func TestPanicUsesNobodyWithoutAddress(t *testing.T) {
	cfg := tiered("0 0 0")
	cfg.Panic = 50
	c := newCluster(t, newEngine(t, 1), cfg)
	c.Endpoints()[1].addrs.Store(nil)
	mark(t, c, false, c.Endpoints()...)
	if got := chosen(c); got != "ac" {
		t.Errorf("picked from %q", got)
	}
}

// members of a cluster of n endpoints, by themselves.
func membersOf(n int) []member {
	out := make([]member, n)
	for i := range out {
		out[i].Endpoint = &Endpoint{address: fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)}
	}
	return out
}

func addresses(members []member) (out []string) {
	for i := range members {
		out = append(out, members[i].address)
	}
	return out
}

func TestSubset(t *testing.T) {
	const n, size, processes = 50, 10, 1000
	all := membersOf(n)
	used := map[string]int{}
	without := slices.Delete(slices.Clone(all), 20, 21)
	moved := 0
	for i := range processes {
		cfg := Config{Subset: size, SubsetKey: fmt.Sprint("node-", i)}
		mine := addresses(cfg.subset(all))
		if len(mine) != size || !slices.IsSortedFunc(mine, func(a, b string) int {
			return slices.Index(addresses(all), a) - slices.Index(addresses(all), b)
		}) {
			t.Fatalf("process %d has %d: %v", i, len(mine), mine)
		}
		backwards := slices.Clone(all)
		slices.Reverse(backwards)
		again := addresses(cfg.subset(backwards))
		slices.Reverse(again)
		if !slices.Equal(mine, again) {
			t.Fatalf("process %d has %v, and in another order %v", i, mine, again)
		}
		for _, a := range mine {
			used[a]++
		}
		// One goes: who had it has another one instead, and nobody else notices.
		then, gone := addresses(cfg.subset(without)), 0
		for _, a := range mine {
			if !slices.Contains(then, a) {
				gone++
			}
		}
		had := slices.Contains(mine, all[20].address)
		if len(then) != size || had && gone != 1 || !had && gone != 0 {
			t.Fatalf("process %d: %d of its endpoints change when one is gone that it had: %v", i, gone, had)
		}
		moved += gone
	}
	for _, a := range addresses(all) {
		if used[a] < 150 || used[a] > 250 { // 200, and a standard deviation of 13
			t.Errorf("%s is in %d of %d subsets, want about %d", a, used[a], processes, processes*size/n)
		}
	}
	if moved != used[all[20].address] {
		t.Errorf("%d processes had it, %d changed", used[all[20].address], moved)
	}
	for _, size := range []int{0, n, n + 1} {
		if got := (&Config{Subset: size}).subset(all); len(got) != n {
			t.Errorf("a subset of %d is of %d", size, len(got))
		}
	}
}

// A subset is of those who can serve: who is down or drains is replaced, backups come where the others end, and the zone
// comes first.
func TestSubsetIsOfWhomItMayUse(t *testing.T) {
	cfg := tiered("x x x y y y D M B B")
	cfg.Subset, cfg.SubsetKey, cfg.Zone = 2, "me", "x"
	c := newCluster(t, newEngine(t, 1), cfg)
	f := func(down, from string) {
		t.Helper()
		for _, ep := range c.Endpoints() {
			ep.healthy.Store(!strings.Contains(down, letter(ep)))
		}
		mark(t, c, true)
		got := chosen(c)
		if len(got) != 2 || strings.Trim(got, from) != "" {
			t.Errorf("with %q down the subset is %q, want two of %q", down, got, from)
		}
	}
	f("", "abc")
	f(chosen(c)[:1], "abc")
	f("abc", "def")
	f("abcdef", "ij")
	// A process that has no key has its host's name.
	cfg.SubsetKey = ""
	other := newCluster(t, newEngine(t, 1), cfg)
	if len(chosen(other)) != 2 {
		t.Errorf("the subset is %q", chosen(other))
	}
}

// Weights grow from a tenth to the whole, in proportion.
func TestRamp(t *testing.T) {
	now := time.Now()
	f := func(slow time.Duration, want string, wantGrowing bool, ages ...time.Duration) {
		t.Helper()
		members := membersOf(len(ages))
		for i, age := range ages {
			members[i].weight = i + 1
			if age >= 0 {
				members[i].since = now.Add(-age)
			}
		}
		growing := ramp(members, slow, now)
		var got []string
		for i := range members {
			got = append(got, fmt.Sprint(members[i].weight))
		}
		if s := strings.Join(got, " "); s != want || growing != wantGrowing {
			t.Errorf("after %v of %v: weights %s, want %s; growing %v", ages, slow, s, want, growing)
		}
	}
	const always = -1
	f(10*time.Second, "100 200 300", false, always, always, always)
	f(10*time.Second, "10 200 300", true, 0, always, always)
	f(10*time.Second, "10 100 300", true, time.Second, 5*time.Second, 10*time.Second)
	f(10*time.Second, "75 200 297", true, 7500*time.Millisecond, always, 9900*time.Millisecond)
	f(10*time.Second, "100 200 300", false, 10*time.Second, time.Hour, always)
	f(0, "1 2 3", false, 0, 0, 0)
}
