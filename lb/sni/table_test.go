package sni

import (
	"errors"
	"strings"
	"testing"
)

func tableOf(t testing.TB, patterns ...string) *Table[string] {
	t.Helper()
	table := &Table[string]{}
	for _, p := range patterns {
		must(t, table.Add(p, p))
	}
	return table
}

func TestTable(t *testing.T) {
	table := tableOf(t, "api.test", "*.shop.test", "a.shop.test", "*.eu.shop.test", "Big.Test", "*.Caps.Test", "dot.test.", "*.test.")
	f := func(name, want string) {
		t.Helper()
		if got, ok := table.Find([]byte(name)); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, ok, want)
		}
	}
	f("api.test", "api.test")
	f("API.Test", "api.test")
	f("api.test.", "api.test")
	f("big.test", "Big.Test")
	f("x.caps.test", "*.Caps.Test")
	f("dot.test", "dot.test.")
	f("a.shop.test", "a.shop.test") // before the wildcard
	f("b.shop.test", "*.shop.test")
	f("c.b.shop.test", "*.shop.test") // any depth
	f("b.a.shop.test", "*.shop.test") // an exact name has nothing below it
	f("x.eu.shop.test", "*.eu.shop.test")
	f("y.x.eu.shop.test", "*.eu.shop.test")
	f("eu.shop.test", "*.shop.test") // not itself
	f("shop.test", "*.test.")
	f("workshop.test", "*.test.") // whole labels
	f("test", "")
	f("api.example", "")
	f("", "")
	f(".", "")
	f(".test", "")
	f("x"+strings.Repeat(".a", 124)+".test", "*.test.")
	f("x"+strings.Repeat(".a", 125)+".test", "*.test.") // 256 bytes
	f("x"+strings.Repeat(".a", 126)+".test", "")
}

func TestEmptyTable(t *testing.T) {
	var table Table[int]
	if _, ok := table.Find([]byte("api.test")); ok {
		t.Error("found")
	}
	must(t, table.Add("*.test", 7))
	if v, ok := table.Find([]byte("api.test")); v != 7 || !ok {
		t.Error("not found")
	}
}

func TestBadPatterns(t *testing.T) {
	f := func(pattern string, want error) {
		t.Helper()
		table := tableOf(t, "api.test", "*.shop.test")
		err := table.Add(pattern, "x")
		if !errors.Is(err, want) || err == nil || !strings.Contains(err.Error(), pattern) {
			t.Errorf("%q: %v", pattern, err)
		}
		for _, name := range []string{"api.test", "a.shop.test", pattern} {
			if v, _ := table.Find([]byte(name)); v == "x" {
				t.Errorf("%q is refused, and found", pattern)
			}
		}
	}
	for _, p := range []string{"", ".", "*", "*.", "**.test", "*.*.test", "a.*.test", "a*.test", "*test", "a b", "a..test", ".test",
		"ä.test", "a:443", "[::1]", "::1", strings.Repeat("a", 256)} {
		f(p, errName)
	}
	f("192.0.2.1", errAddress)
	for _, p := range []string{"api.test", "API.test", "api.test.", "*.shop.test", "*.SHOP.test."} {
		err := tableOf(t, "api.test", "*.shop.test").Add(p, "x")
		if err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%q: %v", p, err)
		}
	}
	// The name and what is below it are two things.
	tableOf(t, "shop.test", "*.shop.test", "*.a.shop.test", "*.2.1")
}

func TestFindAllocatesNothing(t *testing.T) {
	table := tableOf(t, "api.test", "*.shop.test")
	for _, name := range []string{"API.test", "a.b.c.shop.TEST.", "a.b.c.d.example"} {
		if n := testing.AllocsPerRun(100, func() { table.Find([]byte(name)) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	table := tableOf(b, "api.test", "*.shop.test", "*.eu.shop.test")
	for _, name := range []string{"api.test", "a.eu.shop.test", "a.b.example.com"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			p := []byte(name)
			for b.Loop() {
				table.Find(p)
			}
		})
	}
}
