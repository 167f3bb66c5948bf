package ring

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"testing"
)

// set is one of the file's: endpoints, and what libmemcached made of them.
type set struct {
	name      string
	endpoints []Endpoint
	ring      string // the number of its points, and their sum
	keys      []int  // the endpoints of key-0, key-1, …
}

// vectors reads testdata/libmemcached.txt, whose head says how it was made.
func vectors(t *testing.T) (hashes map[string]uint32, sets []*set) {
	t.Helper()
	file, err := os.ReadFile("testdata/libmemcached.txt")
	if err != nil {
		t.Fatal(err)
	}
	hashes = map[string]uint32{}
	for line := range strings.Lines(string(file)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch f := strings.Fields(rest); word {
		case "", "#":
		case "hash":
			key, _ := hex.DecodeString(strings.TrimPrefix(f[0], "-"))
			sum, err := strconv.ParseUint(f[1], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			hashes[string(key)] = uint32(sum)
		case "set":
			sets = append(sets, &set{name: rest})
		case "endpoint":
			last := sets[len(sets)-1]
			last.endpoints = append(last.endpoints, Endpoint{f[0], number(t, f[1])})
		case "ring":
			sets[len(sets)-1].ring = f[0] + " " + f[len(f)-1]
		case "keys":
			for _, w := range f {
				sets[len(sets)-1].keys = append(sets[len(sets)-1].keys, number(t, w))
			}
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return hashes, sets
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestHashIsLibmemcacheds(t *testing.T) {
	hashes, _ := vectors(t)
	if len(hashes) < 5 {
		t.Fatalf("only %d hashes to compare with", len(hashes))
	}
	for key, want := range hashes {
		if got := Hash([]byte(key)); got != want {
			t.Errorf("%q: %08x, want %08x", key, got, want)
		}
	}
}

func TestKeysArePlacedAsByLibmemcached(t *testing.T) {
	_, sets := vectors(t)
	compared := 0
	for _, s := range sets {
		table := build(t, s.endpoints...)
		for k, want := range s.keys {
			key := fmt.Sprintf("key-%d", k)
			if got := table.Lookup(Hash([]byte(key))); got != want {
				t.Errorf("%s: %s is %d's, want %d's", s.name, key, got, want)
			}
			compared++
		}
	}
	if compared < 6000 {
		t.Errorf("only %d keys to compare with", compared)
	}
}

// Every point of every ring, with the owners of those that coincide, is where libmemcached has it.
func TestPointsAreLibmemcacheds(t *testing.T) {
	_, sets := vectors(t)
	for _, s := range sets {
		table := build(t, s.endpoints...)
		points := table.points[:len(table.points)-1]
		sum := fnv.New64a()
		for _, p := range points {
			_ = binary.Write(sum, binary.LittleEndian, [2]uint32{p.at, uint32(p.owner)})
		}
		if got := fmt.Sprintf("%d %016x", len(points), sum.Sum64()); got != s.ring {
			t.Errorf("%s: points and their sum %s, want %s", s.name, got, s.ring)
		}
	}
}
