package lb

import (
	"net/netip"
	"slices"
	"testing"
)

// What a request says is looked up as the file names it; where it says nothing, the client's address decides.
func TestKeysOfRequests(t *testing.T) {
	e := newEngine(t, 1)
	client, again := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.1:2000")
	peer := netip.MustParseAddrPort("192.0.2.2:1000")
	f := func(p Picker, key HashKey, want HashBy, httpOnly bool) {
		t.Helper()
		cfg := lettered(p, 1, 1, 1)
		cfg.HashKey = key
		c := newCluster(t, e, cfg)
		if got := c.HashKey(); got != want || got.OfRequest() != httpOnly || cfg.HTTPOnly() != httpOnly {
			t.Errorf("%s: %+v, of requests %v", key, got, cfg.HTTPOnly())
		}
		a := c.Hash(client, peer, []byte("a.test"))
		if b := c.Hash(again, peer, []byte("b.test")); httpOnly && (a != b || a == c.Hash(peer, peer, nil)) {
			t.Errorf("%s: a client without the key is not placed by its address", key)
		}
		if v := c.HashBytes([]byte("alice")); v == c.HashBytes([]byte("bob")) || v != c.hash([]byte("alice")) {
			t.Errorf("%s: %x", key, v)
		}
	}
	f(Maglev, "", HashBy{Kind: HashClient}, false)
	f(SourceHash, "", HashBy{Kind: HashClientIP}, false)
	f(Maglev, PeerIP, HashBy{Kind: HashPeerIP}, false)
	f(Maglev, SNI, HashBy{Kind: HashSNI}, false)
	f(Maglev, Path, HashBy{Kind: HashPath}, true)
	f(Ring, "header:X-User", HashBy{HashHeader, "x-user"}, true)
	f(HRW, "cookie:User", HashBy{HashCookie, "User"}, true)
	f(SourceHash, "query:User", HashBy{HashQuery, "User"}, true)

	c := newCluster(t, e, lettered(RoundRobin, 1))
	if c.HashBytes([]byte("alice")) != 0 {
		t.Error("a picker that does not hash hashes")
	}
	k := newCluster(t, e, Config{Name: "c", Picker: Maglev, HashKey: Path, Endpoints: lettered("", 1).Endpoints})
	path := []byte("/order/1")
	if n := testing.AllocsPerRun(100, func() { k.HashBytes(path); k.Hash(client, peer, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A value that is nearly one of the choices is near one that has its name.
func TestHashKeyChoices(t *testing.T) {
	if c := HashKey("heder:x-user").Choices(); !slices.Contains(c, "header:x-user") || slices.Contains(c, "heder:x-user") {
		t.Errorf("%q", c)
	}
	for _, k := range []HashKey{"header:a", "cookie:b", "query:c", Path, SNI} {
		if !slices.Contains(k.Choices(), string(k)) {
			t.Errorf("%s is not among its choices", k)
		}
	}
}
