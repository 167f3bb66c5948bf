package ring

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"testing"
)

// build is New for endpoints that must fit.
func build(t testing.TB, endpoints ...Endpoint) *Table {
	t.Helper()
	table, err := New(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// equal is n endpoints of weight 1.
func equal(n int) []Endpoint {
	out := make([]Endpoint, n)
	for i := range out {
		out[i] = Endpoint{fmt.Sprintf("10.0.%d.%d:8080", i/100, i%100), 1}
	}
	return out
}

// around calls f with every hash at which a search could go wrong: both ends, and each point's place, before and after.
func around(t *Table, f func(hash uint32)) {
	f(0)
	f(math.MaxUint32)
	for _, p := range t.points {
		f(p.at - 1)
		f(p.at)
		f(p.at + 1)
	}
}

// first is a search without an index.
func first(t *Table, hash uint32) int {
	points := t.points[:len(t.points)-1]
	return sort.Search(len(points), func(i int) bool { return points[i].at >= hash }) % len(points)
}

func TestLookupFindsTheFirstPointAtOrAfter(t *testing.T) {
	for _, n := range []int{1, 2, 3, 100, 257} {
		table := build(t, equal(n)...)
		around(table, func(hash uint32) {
			if got, want := table.Lookup(hash), int(table.points[first(table, hash)].owner); got != want {
				t.Errorf("%d endpoints: hash %08x is %d's, want %d's", n, hash, got, want)
			}
		})
	}
}

// The last pairs have points that coincide: then it is the name that decides, and of ports the number.
func TestOrderOfEndpointsDoesNotMatter(t *testing.T) {
	weighted := equal(100)
	for i := range weighted {
		weighted[i].Weight = 1 + i%7
	}
	f := func(coincide bool, forth ...Endpoint) {
		t.Helper()
		back := slices.Clone(forth)
		slices.Reverse(back)
		a, b := build(t, forth...), build(t, back...)
		found := false
		around(a, func(hash uint32) {
			if x, y := forth[a.Lookup(hash)].Name, back[b.Lookup(hash)].Name; x != y {
				t.Errorf("hash %08x is %s's or, turned round, %s's", hash, x, y)
			}
			i := first(a, hash)
			found = found || i+1 < len(a.points)-1 && a.points[i].at == a.points[i+1].at
		})
		if found != coincide {
			t.Errorf("of %s and on, points coincide: %v, want %v", forth[0].Name, found, coincide)
		}
	}
	f(false, weighted...)
	f(true, Endpoint{"10.3.6.174:8080", 1}, Endpoint{"10.3.6.109:8080", 1})
	f(true, Endpoint{"127.0.0.1:10237", 1}, Endpoint{"127.0.0.1:9370", 1})
}

func TestOfOneNameTheFirstHasThePoints(t *testing.T) {
	table := build(t, Endpoint{"b:1", 1}, Endpoint{"a:1", 1}, Endpoint{"a:1", 1})
	around(table, func(hash uint32) {
		if got := table.Lookup(hash); got == 2 {
			t.Errorf("hash %08x is the second's", hash)
		}
	})
}

func TestNamesAreHashedAsByLibmemcached(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		if got := string(parse(name, 0).append(nil)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f("10.0.0.1:8080", "10.0.0.1:8080-")
	f("10.0.0.1:11211", "10.0.0.1-")
	f("10.0.0.1", "10.0.0.1-")
	f("app.internal:80", "app.internal:80-")
	f("app.internal:080", "app.internal:80-")
	f("[2001:db8::1]:80", "2001:db8::1:80-")
	f("[2001:db8::1]:11211", "2001:db8::1-")
	f("2001:db8::1", "2001:db8::1-")
	f("unix:/run/app.sock", "/run/app.sock:0-")
	f("unix:/run/a:80", "/run/a:80:0-")
	// Not addresses, but names all the same.
	f("app:http", "app:http-")
	f("app:65536", "app:65536-")
	f("app:", "app:-")
	f("", "-")
}

func TestLightEndpointHasNoPoint(t *testing.T) {
	// A fortieth of the mean is one hash; the weights add up to 80.
	for _, c := range []struct{ light, points int }{{0, 0}, {1, pointsPerHash}} {
		table := build(t, Endpoint{"a:1", 80 - c.light}, Endpoint{"b:1", c.light})
		n := 0
		for _, p := range table.points[:len(table.points)-1] {
			n += int(p.owner)
		}
		if n != c.points {
			t.Errorf("weight %d of 80: %d points, want %d", c.light, n, c.points)
		}
	}
	table := build(t, Endpoint{"a:1", 1000}, Endpoint{"b:1", 1})
	if i := table.Next(7, func(i int) bool { return i == 0 }); i != -1 {
		t.Errorf("one of no point is next: %d", i)
	}
}

func TestRingOfNobody(t *testing.T) {
	for name, endpoints := range map[string][]Endpoint{"none": nil, "none with a weight": {{"a", 0}, {"b", -1}}} {
		table := build(t, endpoints...)
		if got := table.Lookup(3); got != -1 {
			t.Errorf("%s: 3 is placed on %d", name, got)
		}
		if got := table.Next(3, func(int) bool { return false }); got != -1 {
			t.Errorf("%s: next of 3 is %d", name, got)
		}
	}
}

func TestWithoutWeightAsIfNotThere(t *testing.T) {
	with, less := equal(20), slices.Delete(equal(20), 7, 8)
	with[7].Weight = 0
	a, b := build(t, with...), build(t, less...)
	around(b, func(hash uint32) {
		if x, y := with[a.Lookup(hash)].Name, less[b.Lookup(hash)].Name; x != y {
			t.Errorf("hash %08x is %s's, want %s's", hash, x, y)
		}
	})
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	f := func(endpoints []Endpoint, want string) {
		t.Helper()
		got := ""
		if _, err := New(endpoints); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f(make([]Endpoint, maxEndpoints), "")
	f(make([]Endpoint, maxEndpoints+1), "65537 endpoints do not fit a ring of 65536")
	f([]Endpoint{{"a", math.MaxUint32}, {"b", math.MaxUint32}}, "")
	f([]Endpoint{{"a", 1}, {"b", 1 << 32}}, "endpoint b: weight 4294967296 is more than 4294967295")
}

func TestHashAndLookupAllocateNothing(t *testing.T) {
	table := build(t, equal(100)...)
	key := []byte(strings.Repeat("k", 100))
	if n := testing.AllocsPerRun(1000, func() { key[0] += byte(table.Lookup(Hash(key))) | 1 }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
