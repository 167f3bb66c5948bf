package hrw

import (
	"flag"
	"fmt"
	"math"
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

// equal is n endpoints of weight 1.
func equal(n int) []Endpoint {
	out := make([]Endpoint, n)
	for i := range out {
		out[i] = Endpoint{fmt.Sprintf("10.0.%d.%d:8080", i/100, i%100), 1}
	}
	return out
}

// weighted is n endpoints of the weights 1 to 7.
func weighted(n int) []Endpoint {
	out := equal(n)
	for i := range out {
		out[i].Weight = 1 + i%7
	}
	return out
}

func TestSlotIsTheHighestScores(t *testing.T) {
	const size = 5000
	for name, endpoints := range map[string][]Endpoint{
		"equal": equal(50), "weighted": weighted(50), "far apart": {{"a", 1}, {"b", 30}, {"c", 900}},
	} {
		table := fill(t, size, endpoints...)
		for s := range size {
			best, highest := -1, 0.0
			for i, e := range endpoints {
				u := 1 - draw(xxhash.Sum64String(e.Name), s)/(1<<53)
				if score := -float64(e.Weight) / math.Log(u); score > highest {
					best, highest = i, score
				}
			}
			if got := table.Lookup(uint64(s)); got != best {
				t.Errorf("%s: slot %d is %d's, want %d's", name, s, got, best)
			}
		}
	}
}

// Nodes of different versions, and of different machines, stand side by side behind ECMP while an edge is upgraded: a
// table that changes moves every client. If this fails, the change had better be worth it.
func TestTableStaysTheSameOverVersions(t *testing.T) {
	endpoints := []Endpoint{
		{"10.0.0.1:80", 1}, {"10.0.0.2:80", 2}, {"[2001:db8::1]:80", 3}, {"unix:/run/app.sock", 5}, {"app.internal:80", 0},
	}
	var out strings.Builder
	for row := range slices.Chunk(fill(t, 211, endpoints...).Slots(), 32) {
		fmt.Fprintln(&out, row)
	}
	var sum xxhash.Digest
	for _, s := range fill(t, DefaultSize, weighted(100)...).Slots() {
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
	forth, back := weighted(100), weighted(100)
	slices.Reverse(back)
	a, b := fill(t, DefaultSize, forth...), fill(t, DefaultSize, back...)
	for h := range uint64(DefaultSize) {
		if x, y := forth[a.Lookup(h)].Name, back[b.Lookup(h)].Name; x != y {
			t.Fatalf("slot %d is %s's or, turned round, %s's", h, x, y)
		}
	}
}

// Names of one hash are not to be had, so the hash is put there.
func TestOfEqualScoresTheFirstNameWins(t *testing.T) {
	for _, names := range [][]string{{"a", "b"}, {"b", "a"}} {
		first := slices.Index(names, "a")
		table := &Table{size: 100, names: names, contended: []contender{{7, 1, 0}, {7, 1, 1}}}
		table.open()
		table.contend(table.contended)
		for h := range uint64(100) {
			if got := table.Lookup(h); got != first {
				t.Errorf("of %s, slot %d is %s's", names, h, names[got])
			}
			if got := table.Next(h, func(i int) bool { return i == first }); got != 1-first {
				t.Errorf("of %s, without a, slot %d is %d's", names, h, got)
			}
		}
		// And without an owner to begin with, of whom nobody asks.
		table.contended = append(table.contended, contender{8, 1e12, 2})
		table.names = append(table.names, "0")
		table.open()
		table.contend(table.contended)
		for h := range uint64(100) {
			if got := table.Next(h, func(i int) bool { return i == 2 }); got != first {
				t.Errorf("of %s, without 0, slot %d is %s's", names, h, names[got])
			}
		}
	}
}

func TestOfOneNameTheHeaviestCounts(t *testing.T) {
	f := func(heaviest int, endpoints ...Endpoint) {
		t.Helper()
		table := fill(t, 1000, endpoints...)
		only := slices.Clone(endpoints)
		for i := range only {
			if i != heaviest && only[i].Name == only[heaviest].Name {
				only[i].Weight = 0
			}
		}
		if diff := cmp.Diff(fill(t, 1000, only...).Slots(), table.Slots()); diff != "" {
			t.Errorf("slots (-the heaviest alone +all):\n%s", diff)
		}
	}
	f(1, Endpoint{"a", 1}, Endpoint{"a", 3}, Endpoint{"b", 2}, Endpoint{"a", 2})
	f(0, Endpoint{"a", 2}, Endpoint{"a", 2}, Endpoint{"b", 2})
}

func TestLookupTakesAnyHashAndSize(t *testing.T) {
	for _, size := range []int{2, 4, 7, block, block + 1, 65536} {
		table := fill(t, size, weighted(5)...)
		if got := len(table.Slots()); got != size {
			t.Errorf("%d slots, want %d", got, size)
		}
		for _, h := range []uint64{0, 6, 7, 1 << 63, 1<<64 - 1} {
			if got, want := table.Lookup(h), int(table.Slots()[h%uint64(size)]); got != want {
				t.Errorf("hash %d is placed on %d, want %d", h, got, want)
			}
		}
	}
}

func TestTableOfNobody(t *testing.T) {
	for name, endpoints := range map[string][]Endpoint{"none": nil, "none with a weight": {{"a", 0}, {"b", -1}}} {
		table := fill(t, 7, endpoints...)
		if table.Lookup(3) != -1 || len(table.Slots()) != 0 {
			t.Errorf("%s: slots %v, and 3 is placed on %d", name, table.Slots(), table.Lookup(3))
		}
		if got := table.Next(3, func(int) bool { return false }); got != -1 {
			t.Errorf("%s: next of 3 is %d", name, got)
		}
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
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
	f(3, 2, "")
	f(3, 1<<24, "")
	f(65535, 7, "")
	f(65536, 7, "65536 endpoints do not fit a table for 65535")
	for _, size := range []int{-7, 0, 1, 1<<24 + 1} {
		f(1, size, fmt.Sprintf("table size %d is not from 2 to 16777216", size))
	}
	if _, err := fill(t, 7, equal(3)...).Update(make([]Endpoint, 65536)); err == nil {
		t.Error("an update to 65,536 endpoints is not refused")
	}
}

func TestLastIndexFits(t *testing.T) {
	endpoints := make([]Endpoint, maxEndpoints)
	endpoints[maxEndpoints-1] = Endpoint{"last", 1}
	if got := fill(t, 7, endpoints...).Lookup(3); got != maxEndpoints-1 {
		t.Errorf("placed on %d, want %d", got, maxEndpoints-1)
	}
}

func TestLookupAndNextAllocateNothing(t *testing.T) {
	table := fill(t, DefaultSize, weighted(100)...)
	var h uint64
	allocs := testing.AllocsPerRun(1000, func() {
		h += 31
		owner := table.Lookup(h)
		table.Next(h, func(i int) bool { return i == owner })
		table.Next(h, func(int) bool { return true })
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
