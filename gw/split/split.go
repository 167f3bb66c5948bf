// Package split divides requests between clusters by weights: a canary takes a part of what goes to the cluster that it is to
// replace.
//
// It is rendezvous hashing with weights, as in lb/hrw but with no table: clusters are few, and a part of 1 % is to be 1 %.
// A client goes to the cluster with the least cost for it, -ln(u)/w, u being uniform from 0 to 1 and drawn from the hashes of
// client and cluster. So when a weight grows clients move to its cluster, as few as it takes, and none between the others,
// and the order of the list does not matter. (Parts that lie one after the other would do that for two clusters only.)
package split

import (
	"fmt"
	"math"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Config is a cluster and its part.
type Config struct {
	Cluster string `yaml:"cluster,required"`
	// Weight is the part, of the sum of all; 0: none. Not given: 1.
	Weight *int `yaml:"weight"`
}

// maxWeight keeps sums far from where they would overflow.
const maxWeight = 1_000_000

// Validate reports what is wrong with a list, by the path of the key after it.
func Validate(list []Config, report func(path, message string)) {
	sum := 0
	for i := range list {
		at := "[" + strconv.Itoa(i) + "]"
		w := list[i].weight()
		if w < 0 || w > maxWeight {
			report(at+".weight", fmt.Sprintf("weight %d: 0 to %d", w, maxWeight))
		}
		for _, before := range list[:i] {
			if before.Cluster == list[i].Cluster {
				report(at+".cluster", fmt.Sprintf("%q is there twice: give it the sum of the weights", before.Cluster))
			}
		}
		sum += max(w, 0)
	}
	if sum == 0 {
		report("", "no cluster has a weight")
	}
}

func (c *Config) weight() int {
	if c.Weight == nil {
		return 1
	}
	return *c.Weight
}

// Split chooses by hash. It is immutable, and safe for all loops.
type Split struct {
	parts []part // of those that have a weight
}

type part struct {
	seed  uint64
	per   float64 // 1/weight
	index int     // in the list
}

// New is for a valid list. Splits of different seeds divide the same clients in different ways, so that not the same ones
// are in every canary.
func New(list []Config, seed string) *Split {
	s := &Split{}
	for i := range list {
		if w := list[i].weight(); w > 0 {
			s.parts = append(s.parts, part{xxhash.Sum64String(seed + "\x00" + list[i].Cluster), 1 / float64(w), i})
		}
	}
	return s
}

// Pick is the index for a hash, which need not be random. It allocates nothing, and takes 30 ns for two clusters
// (BenchmarkPick).
func (s *Split) Pick(hash uint64) int {
	if len(s.parts) == 1 {
		return s.parts[0].index
	}
	index, least := 0, math.Inf(1)
	for i := range s.parts {
		p := &s.parts[i]
		// The middles of 2^52 steps, all of which a float64 has: neither 0, whose logarithm is infinite, nor 1, which would
		// cost every weight nothing.
		u := (float64(mix(mix(hash)^p.seed)>>12) + 0.5) / (1 << 52)
		if cost := -math.Log(u) * p.per; cost < least {
			index, least = p.index, cost
		}
	}
	return index
}

// mix is the finaliser of splitmix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
