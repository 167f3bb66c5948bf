package hrw

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// same fails unless an updated table is a new one in every respect, also for the next update.
func same(t *testing.T, got *Table, endpoints []Endpoint) {
	t.Helper()
	want := fill(t, got.size, endpoints...)
	if !slices.Equal(want.slots, got.slots) || !slices.Equal(want.costs, got.costs) ||
		!slices.Equal(want.names, got.names) || !slices.Equal(want.contended, got.contended) {
		diff := cmp.Diff(want, got, cmp.AllowUnexported(Table{}, contender{}))
		t.Fatalf("%v (-new +updated):\n%s", endpoints, diff)
	}
}

func TestUpdatedTableIsAsNew(t *testing.T) {
	const size = 2 * block
	f := func(name string, change func(endpoints []Endpoint) []Endpoint) {
		t.Run(name, func(t *testing.T) {
			before := fill(t, size, weighted(20)...)
			slots := slices.Clone(before.Slots())
			after := change(weighted(20))
			table, err := before.Update(after)
			if err != nil {
				t.Fatal(err)
			}
			same(t, table, after)
			if !slices.Equal(slots, before.Slots()) {
				t.Error("the table before has changed")
			}
			if table, err = table.Update(weighted(20)); err != nil {
				t.Fatal(err)
			}
			same(t, table, weighted(20))
		})
	}
	f("nothing", func(e []Endpoint) []Endpoint { return e })
	f("one comes", func(e []Endpoint) []Endpoint { return append(e, Endpoint{"new", 4}) })
	f("one leaves", func(e []Endpoint) []Endpoint { return slices.Delete(e, 7, 8) })
	f("one is another", func(e []Endpoint) []Endpoint { e[7].Name = "new"; return e })
	f("lighter", func(e []Endpoint) []Endpoint { e[6].Weight--; return e })
	f("heavier", func(e []Endpoint) []Endpoint { e[6].Weight++; return e })
	f("one lighter, one heavier", func(e []Endpoint) []Endpoint { e[5].Weight--; e[6].Weight++; return e })
	f("all lighter", func(e []Endpoint) []Endpoint {
		for i := range e {
			e[i].Weight = 1
		}
		return e
	})
	f("all heavier", func(e []Endpoint) []Endpoint {
		for i := range e {
			e[i].Weight *= 100
		}
		return e
	})
	f("no weight", func(e []Endpoint) []Endpoint { e[6].Weight = 0; return e })
	f("turned round", func(e []Endpoint) []Endpoint { slices.Reverse(e); return e })
	f("turned round, and one leaves", func(e []Endpoint) []Endpoint { slices.Reverse(e); return e[1:] })
	f("one is there twice, and lighter", func(e []Endpoint) []Endpoint { return append(e, Endpoint{e[6].Name, 1}) })
	f("one is there twice, and heavier", func(e []Endpoint) []Endpoint { return append(e, Endpoint{e[6].Name, 9}) })
	f("all others", func([]Endpoint) []Endpoint { return []Endpoint{{"a", 1}, {"b", 2}} })
	f("nobody", func([]Endpoint) []Endpoint { return nil })
	f("nobody with a weight", func(e []Endpoint) []Endpoint {
		for i := range e {
			e[i].Weight = 0
		}
		return e
	})
}

func TestManyUpdatesLaterTheTableIsAsNew(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		size := 2 + random.IntN(2000)
		var endpoints []Endpoint
		table := fill(t, size)
		for step := range 40 {
			for range 1 + random.IntN(4) {
				at := random.IntN(len(endpoints) + 1)
				switch op := random.IntN(5); {
				case op < 2 || at == len(endpoints):
					endpoints = slices.Insert(endpoints, at, Endpoint{fmt.Sprint(step, "/", random.IntN(1000)), random.IntN(10)})
				case op == 2:
					endpoints = slices.Delete(endpoints, at, at+1)
				case op == 3:
					endpoints[at].Weight = random.IntN(10)
				default:
					random.Shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
				}
			}
			var err error
			if table, err = table.Update(endpoints); err != nil {
				t.Fatal(err)
			}
			same(t, table, endpoints)
		}
	}
}
