package maglev

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fill is New for endpoints that must fit.
func fill(t testing.TB, size int, endpoints ...Endpoint) *Table {
	t.Helper()
	table, err := New(endpoints, size)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// The paper's table 1: three backends and seven slots, before and after B1 is removed. These names hash to the paper's
// permutations: offset 3 and skip 4, offset 0 and skip 2, offset 3 and skip 1.
func TestPopulationIsThePapers(t *testing.T) {
	b0, b1, b2 := Endpoint{"10.0.0.33:80", 1}, Endpoint{"10.0.1.116:80", 1}, Endpoint{"10.0.2.6:80", 1}
	before := fill(t, 7, b0, b1, b2)
	if diff := cmp.Diff([]uint16{1, 0, 1, 0, 2, 2, 0}, before.Slots()); diff != "" {
		t.Errorf("before, slots (-paper +ours):\n%s", diff)
	}
	// Removed, and not only without weight: B2 is the second of the list then.
	after := fill(t, 7, b0, b2)
	if diff := cmp.Diff([]uint16{0, 0, 0, 0, 1, 1, 1}, after.Slots()); diff != "" {
		t.Errorf("after, slots (-paper +ours):\n%s", diff)
	}
}

// Nodes of different versions stand side by side behind ECMP while an edge is upgraded: a table that changes moves
// every client. If this fails, the change had better be worth it.
func TestTableStaysTheSameOverVersions(t *testing.T) {
	endpoints := []Endpoint{
		{"10.0.0.1:80", 1}, {"10.0.0.2:80", 2}, {"[2001:db8::1]:80", 3}, {"unix:/run/app.sock", 5}, {"app.internal:80", 0},
	}
	var out strings.Builder
	for row := range slices.Chunk(fill(t, 211, endpoints...).Slots(), 32) {
		fmt.Fprintln(&out, row)
	}
	var sum xxhash.Digest
	for _, s := range fill(t, DefaultSize, endpoints...).Slots() {
		_, _ = sum.Write([]byte{byte(s), byte(s >> 8)})
	}
	fmt.Fprintf(&out, "%d: %016x\n", DefaultSize, sum.Sum64())

	const file = "testdata/table.golden"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("-%s +ours:\n%s", file, diff)
	}
}

func TestOrderOfEndpointsDoesNotMatter(t *testing.T) {
	forth := hundred()
	back := make([]Endpoint, len(forth))
	for i := range forth {
		forth[i].Weight = 1 + i%7
		back[len(forth)-1-i] = forth[i]
	}
	a, b := fill(t, DefaultSize, forth...), fill(t, DefaultSize, back...)
	for h := range uint64(DefaultSize) {
		if x, y := forth[a.Lookup(h)].Name, back[b.Lookup(h)].Name; x != y {
			t.Fatalf("slot %d is %s's or, turned round, %s's", h, x, y)
		}
	}
}

func TestLookupTakesAnyHash(t *testing.T) {
	table := fill(t, 7, Endpoint{"a", 1}, Endpoint{"b", 1}, Endpoint{"c", 1})
	for _, h := range []uint64{0, 6, 7, 1 << 63, 1<<64 - 1} {
		if got, want := table.Lookup(h), int(table.Slots()[h%7]); got != want {
			t.Errorf("hash %d is placed on %d, want %d", h, got, want)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	table := fill(t, DefaultSize, hundred()...)
	var h uint64
	if n := testing.AllocsPerRun(1000, func() { h += uint64(table.Lookup(h*31)) + 1 }); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

func TestTableOfNobody(t *testing.T) {
	for name, endpoints := range map[string][]Endpoint{"none": nil, "none with a weight": {{"a", 0}, {"b", 0}}} {
		if table := fill(t, 7, endpoints...); table.Lookup(3) != -1 || len(table.Slots()) != 0 {
			t.Errorf("%s: slots %v, and 3 is placed on %d", name, table.Slots(), table.Lookup(3))
		}
	}
}

func TestSizeMustFit(t *testing.T) {
	f := func(endpoints, size int, want string) {
		t.Helper()
		got := ""
		if _, err := New(make([]Endpoint, endpoints), size); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%d endpoints, size %d: %q, want %q", endpoints, size, got, want)
		}
	}
	f(3, 7, "")
	f(7, 7, "")
	f(1, 2, "")
	f(1, 16777213, "") // the largest prime that is allowed
	f(8, 7, "8 endpoints do not fit a table of 7")
	f(65537, 65539, "65537 endpoints do not fit a table of 65539") // a slot has 16 bits
	for _, size := range []int{-7, 0, 1, 4, 9, 65536, 16777259} {
		f(1, size, fmt.Sprintf("table size %d is not a prime from 2 to 16777216", size))
	}
}
