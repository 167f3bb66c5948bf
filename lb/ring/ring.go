// Package ring is consistent hashing on a ring (Karger et al., "Consistent Hashing and Random Trees", STOC 1997) with
// the points of ketama (Richard Jones, last.fm, 2007), placed exactly as libmemcached 1.1.4 places them with
// MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, MEMCACHED_HASH_MD5 and MEMCACHED_BEHAVIOR_SORT_HOSTS (its update_continuum,
// src/libmemcached/hosts.cc), so that its clients and Sluice agree on who has which key. Without SORT_HOSTS
// libmemcached differs in one thing: where points of two endpoints coincide, 1 key in 2³² for each such pair, it is
// the order of adding that decides.
//
// A ring is a pure function of the endpoints' names and weights: their order does not matter, and nodes that know the
// same endpoints agree.
package ring

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

const (
	// pointsPerEndpoint is of an endpoint with the mean weight (MEMCACHED_POINTS_PER_SERVER_KETAMA). With it, shares of
	// equal endpoints deviate by 8 %, one standard deviation.
	pointsPerEndpoint = 160
	// pointsPerHash: MD5 has 16 bytes, a point 4.
	pointsPerHash = 4
	// defaultPort is left out of what is hashed (MEMCACHED_DEFAULT_PORT).
	defaultPort = 11211

	maxEndpoints = 1 << 16
)

// Endpoint is what may be placed on. Its name is an address: host:port, [v6]:port, unix:/path, or a host without a
// port, which is libmemcached's default one then. Weight is relative; 0 places nothing on it, and so does, as in
// libmemcached, less than a fortieth of the mean.
type Endpoint struct {
	Name   string
	Weight int
}

// Table is a ring. It is immutable.
type Table struct {
	// points are in the order of the ring, with one behind the last that leads back to the first and ends every search.
	points []point
	// start[h>>shift] is where to search for h: the first point at or after the beginning of its stretch of the ring.
	// There are one to two stretches to a point, so a search looks at 1.5 points on average (BenchmarkLookup).
	start []int32
	shift uint8
	// owners counts the endpoints that have points, indices go below endpoints.
	owners, endpoints int
}

type point struct {
	at    uint32
	owner int32
}

// New places the points of the endpoints.
func New(endpoints []Endpoint) (*Table, error) {
	if len(endpoints) > maxEndpoints {
		return nil, fmt.Errorf("%d endpoints do not fit a ring of %d", len(endpoints), maxEndpoints)
	}
	var total uint64
	hosts := make([]host, 0, len(endpoints))
	for i, e := range endpoints {
		if e.Weight <= 0 {
			continue
		}
		if uint64(e.Weight) > math.MaxUint32 {
			return nil, fmt.Errorf("endpoint %s: weight %d is more than %d", e.Name, e.Weight, uint32(math.MaxUint32))
		}
		total += uint64(e.Weight)
		hosts = append(hosts, parse(e.Name, i))
	}
	slices.SortFunc(hosts, host.compare)

	t := &Table{endpoints: len(endpoints)}
	// A point in the high half, in the low half the rank of its endpoint: those of one place are in the order of ranks.
	keys := make([]uint64, 0, len(hosts)*(pointsPerEndpoint+pointsPerHash))
	var name []byte
	for rank, h := range hosts {
		n := hashes(endpoints[h.index].Weight, total, len(hosts))
		if n > 0 {
			t.owners++
		}
		name = h.append(name[:0])
		stem := len(name)
		for i := range n {
			name = strconv.AppendInt(name[:stem], int64(i), 10)
			sum := md5.Sum(name)
			for b := 0; b < len(sum); b += pointsPerHash {
				keys = append(keys, uint64(binary.LittleEndian.Uint32(sum[b:]))<<32|uint64(rank))
			}
		}
	}
	slices.Sort(keys)
	if len(keys) > 0 {
		t.close(keys, hosts)
	}
	return t, nil
}

// hashes is how many MD5 sums an endpoint gets, 40 at the mean weight. libmemcached reckons in float, and its rounding
// decides: each of 47 equal endpoints gets 39. The conversions keep Go from fusing operations, which would round
// less. (libmemcached adds 1e-10 before it rounds down, which changes no float of 2⁻⁹ or more.)
func hashes(weight int, total uint64, endpoints int) int {
	share := float32(weight) / float32(total)
	return int(float32(float32(share*pointsPerEndpoint)/pointsPerHash) * float32(endpoints))
}

// close makes the ring of the sorted keys.
func (t *Table) close(keys []uint64, hosts []host) {
	n := len(keys)
	t.points = make([]point, n+1)
	for i, k := range keys {
		t.points[i] = point{uint32(k >> 32), int32(hosts[uint32(k)].index)}
	}
	t.points[n] = point{math.MaxUint32, t.points[0].owner}

	width := bits.Len(uint(n)) // 2^width is n to 2n
	t.shift = uint8(32 - width)
	t.start = make([]int32, 1<<width)
	i := 0
	for s := range t.start {
		for i < n && t.points[i].at>>t.shift < uint32(s) {
			i++
		}
		t.start[s] = int32(i)
	}
}

// Hash is the place of a key: libmemcached's hashkit_md5.
func Hash(key []byte) uint32 {
	sum := md5.Sum(key)
	return binary.LittleEndian.Uint32(sum[:])
}

// Lookup is the index of the endpoint of the first point at or after hash, as New was given them; -1 if there is none.
func (t *Table) Lookup(hash uint32) int {
	if len(t.points) == 0 {
		return -1
	}
	return int(t.points[t.find(hash)].owner)
}

// find is the first point at or after hash; it may be the one behind the last.
func (t *Table) find(hash uint32) int {
	i := int(t.start[hash>>t.shift])
	for t.points[i].at < hash {
		i++
	}
	return i
}

// host is what a name comes down to for libmemcached.
type host struct {
	name  string
	port  int
	index int
}

func parse(name string, index int) host {
	if path, ok := strings.CutPrefix(name, "unix:"); ok {
		return host{path, 0, index}
	}
	if colon := strings.LastIndexByte(name, ':'); colon >= 0 {
		h := name[:colon]
		bare := strings.TrimSuffix(strings.TrimPrefix(h, "["), "]")
		port, err := strconv.ParseUint(name[colon+1:], 10, 16)
		if err == nil && (len(bare) == len(h)-2 || !strings.Contains(h, ":")) {
			return host{bare, int(port), index}
		}
	}
	return host{name, defaultPort, index}
}

// compare is libmemcached's compare_servers.
func (h host) compare(o host) int {
	return cmp.Or(strings.Compare(h.name, o.name), cmp.Compare(h.port, o.port), cmp.Compare(h.index, o.index))
}

// append adds what is hashed for the points, but for their number.
func (h host) append(to []byte) []byte {
	to = append(to, h.name...)
	if h.port != defaultPort {
		to = append(to, ':')
		to = strconv.AppendInt(to, int64(h.port), 10)
	}
	return append(to, '-')
}
