package lb

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine"
	"sluice/lb/discovery"
)

const stickyKey = "0123456789abcdef"

var stickyNow = time.Unix(1_800_000_000, 0)

func stickyCluster(t testing.TB, e *engine.Engine, sticky StickyConfig, change ...func(*Config)) *Cluster {
	t.Helper()
	cfg := lettered(RoundRobin, 1, 1, 1)
	cfg.Sticky = &sticky
	for _, f := range change {
		f(&cfg)
	}
	return newCluster(t, e, cfg)
}

// cookie is the one that s sets, as net/http reads it.
func cookie(t testing.TB, s *Sticky, ep *Endpoint) *http.Cookie {
	t.Helper()
	line := string(s.AppendSetCookie([]byte("X: y\r\n"), ep, stickyNow))
	field, ok := strings.CutPrefix(line, "X: y\r\nSet-Cookie: ")
	if !ok || !strings.HasSuffix(field, "\r\n") {
		t.Fatalf("%q", line)
	}
	c, err := http.ParseSetCookie(strings.TrimSuffix(field, "\r\n"))
	must(t, err)
	return c
}

// A client comes back to its endpoint, on any node that has the key, and on no other.
func TestStickyCookieNamesItsEndpoint(t *testing.T) {
	e := newEngine(t, 1)
	a, b := stickyCluster(t, e, StickyConfig{Key: stickyKey}), stickyCluster(t, e, StickyConfig{Key: stickyKey})
	file := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, []byte(stickyKey+"\n"), 0o600))
	filed := stickyCluster(t, e, StickyConfig{KeyFile: file})
	others := []*Cluster{stickyCluster(t, e, StickyConfig{Key: stickyKey + "x"}), stickyCluster(t, e, StickyConfig{}), stickyCluster(t, e, StickyConfig{}),
		stickyCluster(t, e, StickyConfig{Key: stickyKey}, func(c *Config) { c.Name = "d" })}
	seen := map[string]bool{}
	for i, ep := range a.Endpoints() {
		v := cookie(t, a.Sticky(), ep).Value
		seen[v] = true
		for _, c := range []*Cluster{a, b, filed} {
			if got := c.Sticky().Endpoint([]byte(v), stickyNow); got != c.Endpoints()[i] {
				t.Errorf("%s is %s again", letter(ep), letter(got))
			}
		}
		for _, c := range others {
			if got := c.Sticky().Endpoint([]byte(v), stickyNow); got != nil {
				t.Errorf("another key's cookie names %s", letter(got))
			}
			own := cookie(t, c.Sticky(), c.Endpoints()[i]).Value
			if got := c.Sticky().Endpoint([]byte(own), stickyNow); got != c.Endpoints()[i] {
				t.Errorf("%s is %s again", letter(ep), letter(got))
			}
		}
		raw, _ := base64.RawURLEncoding.DecodeString(v)
		if bytes.Contains(raw, []byte(ep.String())) {
			t.Errorf("%q reveals the address", raw)
		}
	}
	if len(seen) != 3 {
		t.Errorf("3 endpoints have %d cookies", len(seen))
	}
	if newCluster(t, e, lettered(RoundRobin, 1)).Sticky() != nil {
		t.Error("a cluster that is not sticky is")
	}
}

// Whatever of a cookie is changed, it names nobody.
func TestStickyCookieCannotBeForged(t *testing.T) {
	c := stickyCluster(t, newEngine(t, 1), StickyConfig{Key: stickyKey, TTL: time.Hour})
	s := c.Sticky()
	v := []byte(cookie(t, s, c.Endpoints()[1]).Value)
	refused := func(v []byte) {
		t.Helper()
		if ep := s.Endpoint(v, stickyNow); ep != nil {
			t.Errorf("%q names %s", v, letter(ep))
		}
	}
	for bit := range len(v) * 8 {
		f := slices.Clone(v)
		f[bit/8] ^= 1 << (bit % 8)
		refused(f)
	}
	for n := range v {
		refused(v[:n])
		refused(slices.Concat(v[:n], []byte("\n"), v[n+1:]))
		refused(slices.Concat(v[:n], []byte("\n"), v[n:]))
	}
	raw, _ := base64.RawURLEncoding.DecodeString(string(v))
	for bit := range len(raw) * 8 {
		f := slices.Clone(raw)
		f[bit/8] ^= 1 << (bit % 8)
		refused([]byte(base64.RawURLEncoding.EncodeToString(f)))
	}
	refused(append(slices.Clone(v), '='))
	refused(nil)

	// A version to come, though signed.
	raw[0] = 2
	mac := s.mac.sum(raw[:stickySigned])
	copy(raw[stickySigned:], mac[:])
	refused([]byte(base64.RawURLEncoding.EncodeToString(raw)))
}

func FuzzStickyCookie(f *testing.F) {
	e := newEngine(f, 1)
	c := stickyCluster(f, e, StickyConfig{Key: stickyKey})
	s := c.Sticky()
	good := map[string]*Endpoint{}
	for _, ep := range c.Endpoints() {
		v := cookie(f, s, ep).Value
		good[v] = ep
		f.Add([]byte("a=b; sluice_sticky=" + v))
	}
	f.Add([]byte(";; =;sluice_sticky;sluice_sticky="))
	f.Fuzz(func(t *testing.T, field []byte) {
		v := s.Find(field)
		if ep := s.Endpoint(v, stickyNow); ep != good[string(v)] {
			t.Errorf("%q names %s", v, letter(ep))
		}
	})
}

func TestStickyCookieExpires(t *testing.T) {
	e := newEngine(t, 1)
	c := stickyCluster(t, e, StickyConfig{Key: stickyKey, TTL: time.Minute})
	v := []byte(cookie(t, c.Sticky(), c.Endpoints()[0]).Value)
	for d, want := range map[time.Duration]*Endpoint{0: c.Endpoints()[0], 59 * time.Second: c.Endpoints()[0], time.Minute: nil, time.Hour: nil} {
		if ep := c.Sticky().Endpoint(v, stickyNow.Add(d)); ep != want {
			t.Errorf("after %v it names %s", d, letter(ep))
		}
	}
	forever := stickyCluster(t, e, StickyConfig{Key: stickyKey})
	v = []byte(cookie(t, forever.Sticky(), forever.Endpoints()[0]).Value)
	if ep := forever.Sticky().Endpoint(v, stickyNow.Add(1e6*time.Hour)); ep != forever.Endpoints()[0] {
		t.Errorf("a session's cookie names %s in the end", letter(ep))
	}
}

func TestStickyCookieAttributes(t *testing.T) {
	e := newEngine(t, 1)
	f := func(cfg StickyConfig, want http.Cookie) {
		t.Helper()
		c := stickyCluster(t, e, cfg)
		got := cookie(t, c.Sticky(), c.Endpoints()[0])
		got.Value, got.Raw = "", ""
		if got.String() != want.String() || got.MaxAge != want.MaxAge {
			t.Errorf("%s, want %s", got, &want)
		}
	}
	f(StickyConfig{}, http.Cookie{Name: "sluice_sticky", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	f(StickyConfig{Cookie: "id", TTL: time.Hour, Path: "/a", Domain: "a.test", SameSite: SameSiteStrict},
		http.Cookie{Name: "id", Path: "/a", Domain: "a.test", MaxAge: 3600, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	f(StickyConfig{Secure: true, SameSite: SameSiteNone},
		http.Cookie{Name: "sluice_sticky", Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteNoneMode})
}

func TestStickyCookieIsFound(t *testing.T) {
	c := stickyCluster(t, newEngine(t, 1), StickyConfig{Cookie: "id"})
	for field, want := range map[string]string{
		"id=1": "1", "a=b; id=1": "1", "a=b;id=1;c=d": "1", "a=b;\t id=1; id=2": "1", "id=": "", "": "", "id": "", "xid=1": "", "idx=1": "",
		"ID=1": "", "a=id=1": "", "; ;id=1": "1", "id=a=b": "a=b",
	} {
		if got := string(c.Sticky().Find([]byte(field))); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}

// Clients stay with an endpoint that drains, and leave one that is of no use. It has no more than it may.
func TestStickyTakesWhileItMayBeUsed(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	c := stickyCluster(t, e, StickyConfig{Key: stickyKey}, func(c *Config) { c.Limits.Pending = 1; c.Endpoints[0].MaxConn = 2 })
	a := c.Endpoints()[0]
	v := []byte(cookie(t, c.Sticky(), a).Value)
	f := func(what string, named bool, want error, tried ...*Endpoint) {
		t.Helper()
		if ep := c.Sticky().Endpoint(v, stickyNow); (ep == a) != named {
			t.Errorf("%s: the cookie names %s", what, letter(ep))
		}
		n := a.InFlight()
		err := from(l, func() error { return c.TakeEndpoint(l, a, tried) })
		if err != want || err != nil && a.InFlight() != n {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			if a.InFlight() != n+1 {
				t.Errorf("%s: it was not counted in", what)
			}
			a.End(l)
		}
	}
	f("up", true, nil)
	f("tried", true, ErrNoEndpoint, a)
	mark(t, c, false, a)
	f("down", false, ErrNoEndpoint)
	mark(t, c, true, a)
	a.ejected.Store(true)
	f("ejected", false, ErrNoEndpoint)
	a.ejected.Store(false)
	addrs := a.addrs.Swap(nil)
	f("without an address", false, ErrNoEndpoint)
	a.addrs.Store(addrs)
	a.Begin(l)
	f("up", true, nil)
	a.Begin(l)
	f("full", true, ErrFull)
	a.End(l)
	a.End(l)
	var k Link
	must(t, k.Open(c, l, a))
	f("dialled too often", true, ErrFull)
	if n := overflowed(a); n != [3]uint64{1, 0, 1} {
		t.Errorf("%d were refused", n)
	}
	k.Close()

	set := func(state discovery.State) {
		cfg := lettered("", 1, 1).Endpoints
		cfg[0].State = state
		c.SetEndpoints(cfg)
	}
	set(discovery.Drain)
	f("draining", true, nil)
	if ep := c.Pick(l, 0, nil); ep == a {
		t.Error("a new client is given to it")
	}
	set(discovery.Maint)
	f("in maintenance", false, ErrNoEndpoint)
	set(discovery.Ready)
	f("back", true, nil)
	c.SetEndpoints(lettered("", 1, 1).Endpoints[1:])
	f("gone", false, ErrNoEndpoint)
}

// With no key configured, clients are known again after a reload.
func TestStickyRandomKeyOutlivesReload(t *testing.T) {
	e := newEngine(t, 1)
	cfg := lettered(RoundRobin, 1, 1)
	cfg.Sticky = &StickyConfig{}
	c := newCluster(t, e, cfg)
	v := []byte(cookie(t, c.Sticky(), c.Endpoints()[1]).Value)
	cfg.Picker = Random
	next, err := NewCluster(cfg, e.Loops(), quiet, c)
	must(t, err)
	next.Start()
	t.Cleanup(func() { next.Stop(nil) })
	c.Stop(next)
	for _, c := range []*Cluster{c, next} {
		if ep := c.Sticky().Endpoint(v, stickyNow); ep != next.Endpoints()[1] {
			t.Errorf("it names %s", letter(ep))
		}
	}
}

func TestStickyAllocatesNothing(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	c := stickyCluster(t, e, StickyConfig{Key: stickyKey, TTL: time.Hour})
	ep := c.Endpoints()[0]
	field := []byte("a=b; sluice_sticky=" + cookie(t, c.Sticky(), ep).Value)
	dst := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		s := c.Sticky()
		if got := s.Endpoint(s.Find(field), stickyNow); got != ep || c.TakeEndpoint(l, ep, nil) != nil {
			t.Fatal("it is not known again")
		}
		ep.End(l)
		dst = s.AppendSetCookie(dst[:0], ep, stickyNow)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHMACIsRFC2104s(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 200} {
		key := bytes.Repeat([]byte{'k'}, n)
		for _, m := range [][]byte{nil, []byte("m"), bytes.Repeat([]byte("m"), 300)} {
			k := newHMACKey(key)
			want := hmac.New(sha256.New, key)
			want.Write(m)
			if got := k.sum(m); !bytes.Equal(got[:], want.Sum(nil)) {
				t.Errorf("a key of %d bytes, a message of %d: %x", n, len(m), got)
			}
		}
	}
}

func TestValidateSticky(t *testing.T) {
	f := func(cfg StickyConfig, want ...string) {
		t.Helper()
		var got []string
		c := of("", "10.0.0.1:80")
		c.Sticky = &cfg
		c.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if !c.HTTPOnly() {
			t.Error("an L4 listener may have it")
		}
	}
	dir := t.TempDir()
	empty, missing := filepath.Join(dir, "empty"), filepath.Join(dir, "missing")
	must(t, os.WriteFile(empty, []byte("\n"), 0o600))
	f(StickyConfig{})
	f(StickyConfig{Cookie: "__Host-id", Key: stickyKey, TTL: time.Hour, Path: "/", Secure: true, SameSite: SameSiteNone})
	f(StickyConfig{Cookie: "__Secure-id", Path: "/a", Domain: "a-b.test", Secure: true, SameSite: SameSiteStrict})
	f(StickyConfig{Cookie: "a b"}, `sticky.cookie: "a b" names no cookie: ' ' cannot be in one`)
	f(StickyConfig{Key: stickyKey[1:]}, "sticky.key: 15 bytes: a key has at least 16")
	f(StickyConfig{Key: stickyKey, KeyFile: missing}, "sticky.key_file: there is a key already")
	f(StickyConfig{KeyFile: missing}, "sticky.key_file: open "+missing+": no such file or directory")
	f(StickyConfig{KeyFile: empty}, "sticky.key_file: "+empty+" is empty")
	f(StickyConfig{TTL: -time.Second}, "sticky.ttl: -1s: whole seconds")
	f(StickyConfig{TTL: 1500 * time.Millisecond}, "sticky.ttl: 1.5s: whole seconds")
	f(StickyConfig{Path: "a", Domain: "a.test; x", SameSite: "Lax"}, `sticky.path: "a" is not a path that a cookie can have`,
		`sticky.domain: "a.test; x" is not a domain's name`, `sticky.same_site: "Lax" is not one of lax, strict, none`)
	f(StickyConfig{Path: "/a;b"}, `sticky.path: "/a;b" is not a path that a cookie can have`)
	f(StickyConfig{SameSite: SameSiteNone}, "sticky.same_site: browsers want secure with none")
	f(StickyConfig{Cookie: "__Secure-id"}, `sticky.cookie: browsers want secure with "__Secure-id"`)
	f(StickyConfig{Cookie: "__Host-id", Secure: true, Path: "/a"}, `sticky.cookie: browsers want no domain, and no path but / with "__Host-id"`)
}
