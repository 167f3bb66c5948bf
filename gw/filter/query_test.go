package filter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// queried is a request for uri, of a route that has captured id.
func queried(uri, id string) *fasthttp.RequestCtx {
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.SetRequestURI(uri)
	m := &Matched{}
	m.Attach(ctx)
	m.Add("id", []byte(id))
	return ctx
}

func TestQuery(t *testing.T) {
	type q = Query
	for _, c := range []struct {
		q        q
		id       string
		in, want string
	}{
		{q{Remove: []string{"a"}}, "", "/p?a=1&b=2&a=3", "/p?b=2"},
		{q{Remove: []string{"a"}}, "", "/p?a=1", "/p"},
		{q{Remove: []string{"a"}}, "", "/p", "/p"},
		{q{Remove: []string{"a"}}, "", "/p?", "/p"},
		{q{Remove: []string{"a"}}, "", "/p?a&a=&aa=1&A=2", "/p?aa=1&A=2"},
		// A name is what its escapes stand for.
		{q{Remove: []string{"a b"}}, "", "/?a+b=1&a%20b=2&%61%20b=3&a%2520b=4", "/?a%2520b=4"},
		{q{Remove: []string{"admin"}}, "", "/?%61dmin=1&adm%69n&x=%61", "/?x=%61"},
		{q{Remove: []string{"a%zz"}}, "", "/?a%zz=1&a%=2&%", "/?a%=2&%"},
		{q{Set: map[string]string{"a": "x y&z=ä"}}, "", "/?b=1&a=2&a=3", "/?b=1&a=x+y%26z%3D%C3%A4"},
		{q{Set: map[string]string{"b&": "1", "a": ""}}, "", "/", "/?a=&b%26=1"},
		{q{Add: map[string]string{"a": "2"}}, "", "/?a=1", "/?a=1&a=2"},
		{q{Add: map[string]string{"a": "2"}}, "", "/?&&", "/?a=2"},
		{q{Set: map[string]string{"id": "{id}"}}, "42", "/users?id=1", "/users?id=42"},
		{q{Set: map[string]string{"id": "u-{id}!"}}, "a&role=admin;x+y%2F=", "/", "/?id=u-a%26role%3Dadmin%3Bx%2By%2F%3D%21"},
		{q{Rename: map[string]string{"a": "b"}}, "", "/?x=1&a=2%20&a", "/?x=1&b=2%20&b"},
		{q{Rename: map[string]string{"a": "b"}}, "", "/?b=0&%61=2&b=3", "/?b=2"},
		{q{Rename: map[string]string{"a": "b"}}, "", "/?b=0", "/?b=0"},
		{q{Rename: map[string]string{"a": "b", "b": "a"}}, "", "/?a=1&b=2", "/?b=1&a=2"},
		{q{Rename: map[string]string{"a": "b"}, Set: map[string]string{"b": "9"}}, "", "/?a=1&b=2", "/?b=9"},
		{q{Rename: map[string]string{"a": "b"}, Remove: []string{"b"}}, "", "/?a=1&b=2", "/"},
		{q{Set: map[string]string{"a": "1"}}, "", "*", "*"},
		{q{Set: map[string]string{"a": "1"}}, "", "/a?b=/?c", "/a?b=/?c&a=1"},
	} {
		if got := reports(Config{Query: &c.q}); got != nil {
			t.Errorf("%+v: %v", c.q, got)
		}
		f := New(Config{Query: &c.q})
		ctx := queried(c.in, c.id)
		if r := f.Request(ctx); r != Continue {
			t.Errorf("%+v of %s: %v", c.q, c.in, r)
		}
		f.Response(ctx)
		if got := string(ctx.Request.Header.RequestURI()); got != c.want {
			t.Errorf("%+v of %s: %s, not %s", c.q, c.in, got, c.want)
		}
	}
}

func TestLongQuery(t *testing.T) {
	f := New(Config{Query: &Query{Set: map[string]string{"a": "{id}"}}})
	ctx := queried("/?b="+strings.Repeat("x", maxPath/2), strings.Repeat("y", maxPath/2))
	if r := f.Request(ctx); r != Answer || ctx.Response.StatusCode() != 414 || *RefusalOf(ctx) != longQuery {
		t.Errorf("%v, %d", r, ctx.Response.StatusCode())
	}
}

func TestQueryIsValidated(t *testing.T) {
	for _, c := range []struct {
		q    Query
		want []string
	}{
		{Query{}, []string{"query: changes nothing: give set, add, remove or rename"}},
		{Query{Set: map[string]string{"": "a"}}, []string{"query.set: a parameter's name is empty"}},
		{Query{Remove: []string{""}}, []string{"query.remove: a parameter's name is empty"}},
		{Query{Set: map[string]string{"a": "{"}}, []string{"query.set.a: a variable is {name}, the name of letters, digits and _"}},
		{Query{Add: map[string]string{"a": "b}"}}, []string{`query.add.a: "}": a } without a {`}},
		{Query{Rename: map[string]string{"a": "a"}}, []string{"query.rename.a: is its name already"}},
		{Query{Rename: map[string]string{"a": ""}}, []string{"query.rename: a parameter's name is empty"}},
		{Query{Rename: map[string]string{"a": "c", "b": "c"}}, []string{"query.rename.b: a becomes c too"}},
		{Query{Rename: map[string]string{"a": "c"}, Remove: []string{"a"}}, []string{"query.rename.a: it is set or removed too"}},
		{Query{Rename: map[string]string{"a": "c"}, Set: map[string]string{"a": ""}}, []string{"query.rename.a: it is set or removed too"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Query: &c.q})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.q, diff)
		}
	}
	c := Config{Query: &Query{Set: map[string]string{"a": "{id}{other}"}}}
	var said []string
	c.ValidateMatch(false, []string{"id"}, func(p, m string) { said = append(said, p+": "+m) })
	if diff := cmp.Diff([]string{`query.set.a: the route's match captures no "other"`}, said); diff != "" {
		t.Error(diff)
	}
}

func TestQueryAllocatesNothing(t *testing.T) {
	f := New(Config{Query: &Query{Set: map[string]string{"id": "{id}"}, Remove: []string{"admin"}, Rename: map[string]string{"q": "query"}, Add: map[string]string{"v": "2"}}})
	ctx := queried("/", "42")
	uri := []byte("/p?q=1&%61dmin=true&x=2&query=3")
	if n := testing.AllocsPerRun(100, func() {
		ctx.Request.Header.SetRequestURIBytes(uri)
		f.Request(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if got := string(ctx.Request.Header.RequestURI()); got != "/p?query=1&x=2&id=42&v=2" {
		t.Error(got)
	}
}

// Whatever the query: no reader that splits at "&" and decodes finds what was removed, or more than one of what was set.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"a=1&b=2", "%61=1&&b", "old=1&new=2&a%zz", "a+=1&=&%"} {
		f.Add(s)
	}
	cfg := Query{Set: map[string]string{"set": "v"}, Remove: []string{"a"}, Rename: map[string]string{"old": "new"}}
	filter := newQuery(cfg)
	f.Fuzz(func(t *testing.T, q string) {
		if strings.ContainsAny(q, " #\r\n\x00") || len(q) > 1000 {
			return
		}
		out := string(filter.append(nil, []byte(q), &Matched{}))
		var args fasthttp.Args
		args.Parse(out)
		if args.Has("a") || args.Has("old") || len(args.PeekMulti("set")) != 1 || string(args.Peek("set")) != "v" {
			t.Errorf("%q became %q", q, out)
		}
	})
}
