package route

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/gw/h1"
)

// many is n entries as a large gateway has them: a tenth templates, a tenth with headers or methods, a hundredth regexps, over
// n/20 hosts, of which a tenth are wildcards, and any host.
func many(n int) []Entry[int] {
	out := make([]Entry[int], n)
	for i := range out {
		m := Match{Host: fmt.Sprintf("host%d.test", i/20)}
		switch i / 20 % 10 {
		case 0:
			m.Host = "*." + m.Host
		case 1:
			m.Host = ""
		}
		switch i % 10 {
		case 0:
			m.PathTemplate = fmt.Sprintf("/service%d/{id}/orders/{n}", i)
		case 1:
			m.PathPrefix, m.Methods, m.Headers = fmt.Sprintf("/service%d/v1", i), []string{"GET"}, all(is("X-Env", "prod"))
		case 2:
			m.Path = fmt.Sprintf("/service%d/health", i)
		default:
			m.PathPrefix = fmt.Sprintf("/service%d/api", i)
		}
		if i%100 == 99 {
			m.PathPrefix, m.PathRegexp = "", fmt.Sprintf("/service%d/[0-9]+", i)
		}
		out[i] = Entry[int]{m, i}
	}
	return out
}

func BenchmarkBuild10000(b *testing.B) {
	entries := many(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(entries); err != nil {
			b.Fatal(err)
		}
	}
}

// The ways in which a route of 10,000 is found, or none.
func BenchmarkFind10000(b *testing.B) {
	t, err := Build(many(10_000))
	if err != nil {
		b.Fatal(err)
	}
	q := scan(b, "GET /", "User-Agent: curl/8.5.0", "Accept: */*", "X-Env: prod", "Accept-Encoding: gzip", "Cookie: a=b; c=d")
	for _, c := range []struct {
		name, host, path string
		want             int
	}{
		{"prefix", "host402.test", "/service8043/api/orders/17", 8043},
		{"exact", "host402.test", "/service8042/health", 8042},
		{"template", "host402.test", "/service8040/17/orders/4", 8040},
		{"header", "host402.test", "/service8041/v1/x", 8041},
		{"regexp", "host404.test", "/service8099/17", 8099},
		{"wildcard", "a.b.host400.test", "/service8003/api", 8003},
		{"any_host", "elsewhere.test", "/service8023/api/x", 8023},
		{"none", "host402.test", "/other/path", -1},
	} {
		b.Run(c.name, func(b *testing.B) { find(b, t, q, c.host, c.path, c.want) })
	}
}

// What a gateway of a few services pays: a host and a prefix, nothing else.
func BenchmarkFindPlain(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		entries := make([]Entry[int], n)
		for i := range entries {
			entries[i] = Entry[int]{Match{Host: "api.test", PathPrefix: fmt.Sprintf("/service%d", i)}, i}
		}
		t, err := Build(entries)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) { find(b, t, scan(b, "GET /"), "api.test", "/service0/orders/17", 0) })
	}
}

// The worst that paths can do: 4,000 segments, against a prefix as deep and templates of which all but the last fit.
func BenchmarkFindLongPath(b *testing.B) {
	long := ""
	for range 4000 {
		long += "/a"
	}
	t, err := Build([]Entry[int]{{Match{PathPrefix: long + "/b"}, 0}, {Match{PathTemplate: "/{x}" + long + "/b"}, 1}, {Match{PathPrefix: "/a"}, 2}})
	if err != nil {
		b.Fatal(err)
	}
	find(b, t, scan(b, "GET /"), "api.test", long+"/a/a", 2)
}

// A thousand routes on one path that a header tells apart are tried one after another.
func BenchmarkFindHeaders1000(b *testing.B) {
	entries := make([]Entry[int], 1000)
	for i := range entries {
		entries[i] = Entry[int]{Match{PathPrefix: "/a", Headers: all(is("X-Tenant", fmt.Sprint(i)))}, i}
	}
	t, err := Build(entries)
	if err != nil {
		b.Fatal(err)
	}
	find(b, t, scan(b, "GET /", "User-Agent: curl/8.5.0", "Accept: */*", "X-Tenant: 999"), "api.test", "/a", 999)
}

func find(b *testing.B, t *Table[int], q *h1.Request, host, path string, want int) {
	h, p, source := []byte(host), []byte(path), netip.MustParseAddr("192.0.2.1")
	c := &Captures{}
	b.ReportAllocs()
	for b.Loop() {
		if got, ok := t.Find(q, h, p, source, c); ok != (want >= 0) || ok && got != want {
			b.Fatalf("%s%s: route %d, %v", host, path, got, ok)
		}
	}
}
