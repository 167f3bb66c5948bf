// Package split divides requests between clusters by weights: a canary takes a part of what goes to the cluster that it is to
// replace.
package split

import (
	"fmt"
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
	seed uint64
	ends []uint64 // where each one's part of the hashes ends
}

// New is for a valid list. Splits of different seeds divide the same clients in different ways, so that not the same ones
// are in every canary.
func New(list []Config, seed string) *Split {
	s := &Split{seed: xxhash.Sum64String(seed), ends: make([]uint64, len(list))}
	sum := 0
	for i := range list {
		sum += list[i].weight()
	}
	at := 0
	for i := range list {
		at += list[i].weight()
		s.ends[i] = uint64(float64(1<<53) * float64(at) / float64(sum))
	}
	return s
}

// Pick is the index for a hash, which need not be random. The parts lie one after the other in the order of the list: when the
// first of two grows, those who move are a part of the second's, and nobody moves to it.
func (s *Split) Pick(hash uint64) int {
	h := mix(hash^s.seed) >> 11
	i := 0
	for i < len(s.ends)-1 && h >= s.ends[i] {
		i++
	}
	return i
}

// mix is the finaliser of splitmix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
