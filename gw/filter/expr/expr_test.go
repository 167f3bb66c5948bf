package expr

import (
	"bufio"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// input reads a head, from its request line.
func input(t testing.TB, line string, fields ...string) *Input {
	t.Helper()
	h := &fasthttp.RequestHeader{}
	head := line + " HTTP/1.1\r\n" + strings.Join(append(fields, "", ""), "\r\n")
	if err := h.Read(bufio.NewReaderSize(strings.NewReader(head), len(head))); err != nil {
		t.Fatal(err)
	}
	return &Input{
		Request: h,
		Source:  netip.MustParseAddr("192.0.2.7"),
		Subject: "ann", By: "jwt",
		Claims: map[string]any{"role": "admin", "level": 3.0, "groups": []any{"a", "b"}, "org": map[string]any{"id": "x"}, "none": nil},
	}
}

func TestBool(t *testing.T) {
	in := input(t, "GET /Orders/7;v=1/items?a=1&b=x%20y&c=1&c=2&e", "Host: Api.Test:8000", "X-Tenant: acme", "X-Two: 1", "X-two: 2", "Cookie: s=1; t=2", "X-Empty:")
	long := input(t, "GET /"+strings.Repeat("a", 60_000), "Host: a")
	bad := input(t, "GET /?a=%zz&b=1", "Host: a")
	nobody := &Input{Request: in.Request}
	for _, c := range []struct {
		source string
		in     *Input
		want   string // true, false, or error
	}{
		{`request.method == "GET"`, in, "true"},
		{`request.method == "get"`, in, "false"},
		{`request.path == "/Orders/7/items"`, in, "true"},
		{`request.host == "api.test"`, in, "true"},
		{`request.host == "[::1]"`, input(t, "GET /", "Host: [::1]:80"), "true"},
		{`request.host == "[::1]"`, input(t, "GET /", "Host: [::1]"), "true"},
		{`request.headers["x-tenant"] == "acme"`, in, "true"},
		{`request.headers["X-TENANT"] == "acme"`, in, "true"},
		{`request.headers["x-two"] == "1, 2"`, in, "true"},
		{`request.headers["cookie"] == "s=1; t=2"`, in, "true"},
		{`request.headers["host"] == "Api.Test:8000"`, in, "true"},
		{`request.headers["x-gone"] == ""`, in, "error"},
		{`request.headers["x-gone"] != "x"`, in, "error"},
		{`"x-gone" in request.headers`, in, "false"},
		{`"x-empty" in request.headers`, in, "true"},
		{`"content-type" in request.headers`, in, "false"},
		{`"user-agent" in request.headers`, in, "false"},
		{`"x-tenant" in request.headers && size(request.headers) == 5`, in, "true"},
		{`request.headers.exists(h, h.startsWith("x-t"))`, in, "true"},
		{`request.headers.all(h, h == h.lowerAscii())`, in, "true"},
		{`request.query["a"] == "1" && request.query.b == "x y"`, in, "true"},
		{`request.query["c"] == "1"`, in, "error"},
		{`request.query["c"] != "9"`, in, "error"},
		{`"c" in request.query`, in, "true"},
		{`has(request.query.e) && request.query.e == ""`, in, "true"},
		{`has(request.query.z)`, in, "false"},
		{`size(request.query) == 4`, in, "true"},
		{`request.query == {"a": "1"}`, in, "error"},
		{`request.query.exists(k, k == "b")`, in, "true"},
		{`request.query.b == "1"`, bad, "error"},
		{`"b" in request.query`, bad, "error"},
		{`"b" in request.query`, long, "false"},
		{`identity.subject == "ann" && identity.by == "jwt"`, in, "true"},
		{`identity.claims.role == "admin"`, in, "true"},
		{`identity.claims["level"] >= 3 && identity.claims.level < 4`, in, "true"},
		{`"b" in identity.claims.groups`, in, "true"},
		{`identity.claims.org.id == "x"`, in, "true"},
		{`identity.claims.none == null`, in, "true"},
		{`identity.claims.role > 3`, in, "error"},
		{`identity.claims.gone == "x"`, in, "error"},
		{`has(identity.claims.gone)`, in, "false"},
		{`identity.claims.role`, in, "error"}, // a string where yes or no is asked
		{`identity.subject == ""`, nobody, "true"},
		{`identity.claims.role == "admin"`, nobody, "error"},
		{`has(identity.claims.role)`, nobody, "false"},
		{`source.ip == "192.0.2.7"`, in, "true"},
		{`cidr(source.ip, "192.0.2.0/24")`, in, "true"},
		{`cidr(source.ip, "192.0.3.0/24")`, in, "false"},
		{`cidr(source.ip, "192.0.2.7")`, in, "true"},
		{`cidr(source.ip, ["10.0.0.0/8", "192.0.2.0/24"])`, in, "true"},
		{`cidr(source.ip, ["10.0.0.0/8", "2001:db8::/32"])`, in, "false"},
		{`cidr("::ffff:10.1.2.3", "10.0.0.0/8")`, in, "true"},
		{`cidr(source.ip, request.headers["x-tenant"])`, in, "error"},
		{`cidr(request.headers["x-tenant"], "10.0.0.0/8")`, in, "error"},
		{`!cidr(source.ip, "10.0.0.0/8")`, nobody, "error"},
		{`request.path.matches("^/Orders/[0-9]+/")`, in, "true"},
		{`request.path.split("/")[2] == "7"`, in, "true"},
		{`"acme" == "ac" + "me"`, in, "true"},
		// What would take too long.
		{`[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, a > 0)))))`, in, "error"},
		{`request.path.matches("(a+)+$") && request.path.matches("(a*)*b")`, long, "error"},
	} {
		p, err := Compile(c.source, Bool, 0)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		yes, err := p.Bool(c.in)
		got := map[bool]string{true: "true", false: "false"}[yes]
		if err != nil {
			got = "error"
			if yes {
				t.Errorf("%s: true and %v", c.source, err)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s (%v), not %s", c.source, got, err, c.want)
		}
	}
}

func TestString(t *testing.T) {
	in := input(t, "GET /", "Host: a", "X-Tenant: acme")
	p, err := Compile(`request.headers["x-tenant"] + "/" + identity.subject`, String, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.String(in); got != "acme/ann" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := p.String(input(t, "GET /", "Host: a")); got != "" || err == nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCompileFails(t *testing.T) {
	for _, c := range []struct {
		source string
		want   Result
		err    string
	}{
		{"", Bool, "the expression is empty"},
		{" \n", Bool, "the expression is empty"},
		{strings.Repeat("a", maxSource+1), Bool, "the expression has 16385 bytes"},
		{"request.method ==", Bool, "1:"},
		{"true &&\n request.verb == 'x'", Bool, "2:"},
		{"request.method", Bool, "1:1: the expression is of type string, not bool"},
		{"true", String, "1:1: the expression is of type bool, not string"},
		{"request.method == 1", Bool, "1:16: found no matching overload"},
		{"request.path.matches('(')", Bool, "1:22: invalid matches argument"},
		{"cidr(source.ip, '10.0.0.1/8')", Bool, `1:17: "10.0.0.1/8" has bits set beyond its length: is it 10.0.0.0/8`},
		{"cidr(source.ip, ['10.0.0.0/8', 'x'])", Bool, `1:32: "x" is neither`},
		{"cidr(source.ip, '::ffff:10.0.0.0/104')", Bool, "1:17: "},
		{"env.HOME == 'x'", Bool, "1:1: undeclared reference to 'env'"},
		{strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000), Bool, ""},
	} {
		if _, err := Compile(c.source, c.want, 0); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%.60q: %v, not %q", c.source, err, c.err)
		}
	}
}

// One program serves all loops, and an evaluation sees nothing of another.
func TestProgramsAreShared(t *testing.T) {
	p, err := Compile(`request.query.n == request.headers["x-n"]`, Bool, 0)
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 8)
	for _, n := range strings.Split("abcdefgh", "") {
		in := input(t, "GET /?n="+n, "Host: a", "X-N: "+n)
		go func() {
			var err error
			for range 200 {
				var yes bool
				if yes, err = p.Bool(in); err != nil || !yes {
					break
				}
			}
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if yes, err := p.Bool(input(t, "GET /", "Host: a", "X-N: a")); yes || err == nil {
		t.Error("the query of another request was seen")
	}
}

func FuzzEvaluate(f *testing.F) {
	p, err := Compile(`request.query.a == "1" || request.headers["x-a"].matches("a+") || cidr(request.path, request.host)`, Bool, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("/?a=1", "x", "a")
	f.Add("/?a=%", "\xff", "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, uri, value, host string) {
		h := &fasthttp.RequestHeader{}
		h.SetRequestURI(uri)
		h.Set("X-A", value)
		h.SetHost(host)
		if yes, err := p.Bool(&Input{Request: h}); yes && err != nil {
			t.Errorf("true and %v", err)
		}
	})
}

func BenchmarkBool(b *testing.B) {
	for name, source := range map[string]string{
		"method": `request.method == "GET"`,
		"claims": `identity.claims.role == "admin" && request.path.startsWith("/orders") && cidr(source.ip, "192.0.2.0/24")`,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := Compile(source, Bool, 0)
			if err != nil {
				b.Fatal(err)
			}
			in := input(b, "GET /orders/7?a=1", "Host: a")
			b.ReportAllocs()
			for b.Loop() {
				if yes, err := p.Bool(in); !yes || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A function of which CEL has no estimate is counted as it runs, or it would cost nothing.
func TestFunctionsWithoutEstimateAreCounted(t *testing.T) {
	with, err := cel.NewEnv(ext.Strings())
	if err != nil {
		t.Fatal(err)
	}
	without, err := cel.NewEnv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range with.Functions() {
		if !without.HasFunction(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(slices.Sorted(slices.Values(stringFunctions)), names); diff != "" {
		t.Errorf("the strings extension has others: %s", diff)
	}
}

// What an evaluation allocates stays what it was: CEL boxes each string that it looks at.
func TestAllocations(t *testing.T) {
	in := input(t, "GET /orders", "Host: a")
	for source, most := range map[string]float64{
		`request.method == "GET"`: 2,
		`identity.claims.role == "admin" && request.path.startsWith("/orders") && cidr(source.ip, "192.0.2.0/24")`: 6,
	} {
		p, err := Compile(source, Bool, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = p.Bool(in) }); n > most {
			t.Errorf("%s: %v allocations", source, n)
		}
	}
}

func TestInt(t *testing.T) {
	in := input(t, "GET /", "Host: a", "X-Tenant: acme")
	for source, want := range map[string]int64{
		"7": 7, "-7": -7, "7u": 7, "identity.claims.level": 3, `request.method == "GET" ? 1 : 5`: 1,
		"identity.claims.level / 2.0": errInt, "identity.claims.role": errInt, "identity.claims.gone": errInt, "18446744073709551615u": errInt,
		"identity.claims.level * 1e300": errInt, "1 / int(identity.claims.level - 3.0)": errInt,
	} {
		p, err := Compile(source, Int, 0)
		if err != nil {
			if want != errInt {
				t.Errorf("%s: %v", source, err)
			}
			continue
		}
		if got, err := p.Int(in); (err != nil) != (want == errInt) || err == nil && got != want {
			t.Errorf("%s: %d, %v", source, got, err)
		}
	}
}

// errInt stands for an error.
const errInt = -1 << 62

func TestAppendKey(t *testing.T) {
	in := input(t, "GET /", "Host: a", "X-Tenant: acme")
	for source, want := range map[string]string{
		`request.headers["x-tenant"]`: "k acme", "7": "k 7", "7u": "k 7", "1.5": "k 1.5", "true": "k true", "identity.claims.level": "k 3",
		"identity.claims.groups": "error", "identity.claims.gone": "error", `request.headers["none"]`: "error",
	} {
		p, err := Compile(source, Key, 0)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got, err := p.AppendKey([]byte("k "), in)
		if err != nil {
			got = []byte("error")
		}
		if string(got) != want {
			t.Errorf("%s: %q, %v", source, got, err)
		}
	}
}
