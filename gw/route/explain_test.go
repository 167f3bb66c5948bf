package route

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Routes stand in the order in which they come into question, each with what became of it.
func TestExplain(t *testing.T) {
	list := []Match{
		{PathPrefix: "/"},
		{PathPrefix: "/a", Headers: all(has("X-None"), hasNo("Y"))},
		{Host: "api.test", PathPrefix: "/a", Methods: []string{"PUT", "POST"}},
		{Host: "api.test", PathPrefix: "/a", Headers: all(is("X-Env", "prod"))},
		{Host: "api.test", PathPrefix: "/a", Query: all(like("q", "[a-z]+"))},
		{Host: "api.test", PathPrefix: "/a", Cookies: all(hasNo("c"))},
		{Host: "api.test", PathPrefix: "/a", Sources: prefixes("10.0.0.0/8", "2001:db8::/32")},
		{Host: "*.test", Path: "/a/b"},
		{Host: "*.test", Path: "/a/c"},
		{HostRegexp: "b.*"},
		{Host: "api.test", PathTemplate: "/{x}"},
	}
	q := scan(t, "GET /a/b?q=1&q=2", "X-Env: dev", "x-env: test", "Cookie: c=1")
	source := netip.MustParseAddr("192.0.2.1")
	explain := func(far int) ([]string, int) {
		var out []string
		considered, others := table(t, list...).Explain(q, []byte("Api.test"), []byte("/a/b"), source, far)
		for _, c := range considered {
			mark := "  "
			if c.Won {
				mark = "* "
			}
			out = append(out, mark+list[c.Index].String()+": "+c.Why)
		}
		return out, others
	}
	near := []string{
		`  api.test /a POST,PUT: method GET is not POST or PUT`,
		`  api.test /a header X-Env="prod": header X-Env is "dev" and "test", not "prod"`,
		`  api.test /a query parameter q~[a-z]+: query parameter q is "1" and "2", not like [a-z]+`,
		`  api.test /a cookie no c: cookie c is "1", not absent`,
		`  api.test /a from 10.0.0.0/8,2001:db8::/32: source 192.0.2.1 is not in 10.0.0.0/8 or 2001:db8::/32`,
		`* *.test =/a/b: matches *.test =/a/b`,
		`  any host /a header X-None header no Y: header X-None is absent`,
		`  any host /: matches any host /, but comes after #7`,
	}
	got, others := explain(0)
	for i := range got {
		got[i] = strings.Replace(got[i], "PUT,POST", "POST,PUT", 1)
	}
	if diff := cmp.Diff(near, got); diff != "" || others != 3 {
		t.Errorf("%d others (-want +got):\n%s", others, diff)
	}
	got, others = explain(2)
	if len(got) != len(near)+2 || others != 1 || got[0] != `  api.test /{x}: path "/a/b" is not /{x}` || !strings.Contains(strings.Join(got, "\n"), `  *.test =/a/c: path "/a/b" is not =/a/c`) {
		t.Errorf("%d others, %q", others, got)
	}
	if got, others = explain(1000); others != 0 || !strings.Contains(strings.Join(got, "\n"), `  ~b.* /: host "api.test" is not ~b.*`) {
		t.Errorf("%d others, %q", others, got)
	}
}

func TestExplainWithoutHostAndSource(t *testing.T) {
	routes := table(t, Match{Host: "a"}, Match{HostRegexp: ".*"}, Match{Sources: prefixes("::/0")})
	for host, name := range map[string]string{"": "", strings.Repeat("h", 300): strings.Repeat("h", 300)} {
		got, _ := routes.Explain(scan(t, "GET /"), []byte(host), []byte("/"), netip.Addr{}, 9)
		want := []Considered{{0, `host "` + name + `" is not a`, false}, {1, `host "` + name + `" is not ~.*`, false}, {2, "source unknown is not in ::/0", false}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
