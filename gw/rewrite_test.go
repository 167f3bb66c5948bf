package gw

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sluice/gw/filter"
	"sluice/gw/forwarded"
	"sluice/gw/h1"
	"sluice/gw/route"
)

func filters(f ...filter.Config) []filter.Config { return f }

// lineAndHosts is what an upstream was asked for, as it came: request line, Host and X-Forwarded-Host.
func lineAndHosts(raw string) string {
	line, _, _ := strings.Cut(raw, "\r\n")
	out := strings.TrimSuffix(line, " HTTP/1.1")
	for _, name := range []string{"Host", "X-Forwarded-Host"} {
		_, v, _ := strings.Cut(raw, "\r\n"+name+": ")
		v, _, _ = strings.Cut(v, "\r\n")
		out += " " + v
	}
	return out
}

func TestRewriteOnTheWay(t *testing.T) {
	rewrite := func(r filter.Rewrite) filter.Config { return filter.Config{Rewrite: &r} }
	routes := func() []Route {
		return []Route{
			{Match: route.Match{PathTemplate: "/users/{id}/orders/{rest...}"}, Cluster: "c", Filters: filters(rewrite(filter.Rewrite{Path: "/o/{id}/{rest}", Host: "orders.test"}))},
			{Match: route.Match{PathRegexp: "/item-(?P<n>[^/]+)"}, Cluster: "c", Filters: filters(rewrite(filter.Rewrite{Path: "/items/{n}"}))},
			{Match: route.Match{PathTemplate: "/hidden/{a}"}, Cluster: "c", Filters: filters(rewrite(filter.Rewrite{Path: "/.{a}/x"}))},
			{Match: prefix("/old/"), Cluster: "c", Filters: filters(
				filter.Config{Headers: &filter.Headers{RequestEdit: filter.Edit{Set: map[string]string{"Host": "set.test"}}}},
				rewrite(filter.Rewrite{PathPrefix: "/new"}),
				rewrite(filter.Rewrite{Regexp: "/new/v([0-9]+)/(.*)", Substitution: "/new/$2/v$1"}))},
			{Match: prefix("/off"), Cluster: "c", Filters: filters(rewrite(filter.Rewrite{PathPrefix: "/"}))},
			{Match: prefix("/plain"), Cluster: "c"},
		}
	}
	long := strings.Repeat("n", 8000)
	for _, c := range []struct {
		slashes     h1.Slashes
		method      string
		target      string
		want        string // what the upstream sees, or the status
		wantsStatus int
	}{
		{"", "GET", "/users/7/orders/a/b?x={id}", "/o/7/a/b?x={id} orders.test A.test:81", 200},
		{"", "HEAD", "/users/7/orders/", "/o/7/ orders.test A.test:81", 200},
		{"", "GET", "/users/%c3%a9/orders/%41%2B", "/o/%C3%A9/A%2B orders.test A.test:81", 200},
		{"", "GET", "/users/7;v=1/orders/a;w/b", "/o/7/a/b orders.test A.test:81", 200},
		{"", "GET", "/users/%2e%2e/orders/x", "", 404}, // which is /orders/x
		{"", "GET", "/users/..;a/orders/x", "", 400},
		{"", "GET", "/users/7%2f8/orders/x", "", 400},
		{"", "GET", "/users/7%3f8/orders/x", "/o/7%3F8/x orders.test A.test:81", 200},
		{"", "GET", "/users/7%23/orders/x", "/o/7%23/x orders.test A.test:81", 200},
		{"", "GET", "/item-7", "/items/7 A.test:81 A.test:81", 200},
		{"", "GET", "/item-..", "", 400},
		{"", "GET", "/item-%2e.", "", 400},
		{"", "GET", "/item-...", "/items/... A.test:81 A.test:81", 200},
		{"", "GET", "/item-" + long, "/items/" + long + " A.test:81 A.test:81", 200},
		{"", "GET", "/hidden/x", "/.x/x A.test:81 A.test:81", 200},
		{"", "GET", "/hidden/%2E", "", 404}, // which is /hidden/
		{"", "GET", "/hidden/.x", "/..x/x A.test:81 A.test:81", 200},
		{"", "GET", "/old/a/b?q", "/new/a/b?q set.test A.test:81", 200},
		{"", "GET", "/old;v=1//a;w", "/new/a;w set.test A.test:81", 200},
		{h1.Keep, "GET", "/old//a", "/new//a set.test A.test:81", 200},
		{h1.Keep, "GET", "/off//a//b", "/a//b A.test:81 A.test:81", 200},
		{"", "GET", "/old/v2/x/y", "/new/x/y/v2 set.test A.test:81", 200},
		{"", "GET", "/off", "/ A.test:81 A.test:81", 200},
		{"", "GET", "/off/a", "/a A.test:81 A.test:81", 200},
		{"", "GET", "/plain/a", "/plain/a A.test:81 A.test:81", 200},
	} {
		t.Run(fmt.Sprintf("%.40s", c.target), func(t *testing.T) {
			up := recordOK(t)
			e := newEdge(t, Config{Slashes: c.slashes}, routes(), cluster("c", up.address))
			cl := e.dial(t)
			cl.send(c.method + " " + c.target + " HTTP/1.1\r\nHost: A.test:81\r\n\r\n")
			resp, body := cl.answer(c.method)
			_, raw := up.requests()
			got := ""
			if raw != "" {
				got = lineAndHosts(strings.TrimPrefix(raw, c.method+" "))
			}
			if resp.StatusCode != c.wantsStatus || got != c.want {
				t.Errorf("%d %s: the upstream was asked for %.80q, not %.80q", resp.StatusCode, body, got, c.want)
			}
		})
	}
}

// What one request matched is nothing to the next of the connection, whatever its route wants to see.
func TestCapturesAreOfOneRequest(t *testing.T) {
	up := recordOK(t)
	optional := filter.Config{Rewrite: &filter.Rewrite{Path: "/v/{a}{b}"}}
	routes := []Route{
		{Match: route.Match{PathRegexp: "/(?P<a>x[0-9])|/(?P<b>y[0-9])"}, Cluster: "c", Filters: filters(optional)},
		{Match: prefix("/plain"), Cluster: "c", Filters: filters(filter.Config{Headers: &filter.Headers{}})},
	}
	c := newEdge(t, Config{}, routes, cluster("c", up.address)).dial(t)
	var want []string
	for _, step := range [][2]string{{"/x1", "/v/x1"}, {"/y2", "/v/y2"}, {"/plain/3", "/plain/3"}, {"/x4", "/v/x4"}, {"/y5", "/v/y5"}} {
		if status, body := c.get(step[0]); status != 200 {
			t.Fatalf("%s: %d %s", step[0], status, body)
		}
		want = append(want, step[1])
	}
	reqs, _ := up.requests()
	var got []string
	for _, r := range reqs {
		got = append(got, r.RequestURI)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestRedirectOnTheWay(t *testing.T) {
	redirect := func(r filter.Redirect) []filter.Config {
		return filters(filter.Config{Headers: &filter.Headers{ResponseEdit: filter.Edit{Set: map[string]string{"X-Gateway": "g"}}}}, filter.Config{Redirect: &r})
	}
	routes := []Route{
		{Match: route.Match{PathTemplate: "/u/{id}"}, Filters: redirect(filter.Redirect{Path: "/users/{id}", Status: 301})},
		{Match: route.Match{PathRegexp: "/f-(?P<n>.*)"}, Filters: redirect(filter.Redirect{Path: "/f/{n}"})},
		{Match: prefix("/old"), Filters: redirect(filter.Redirect{Scheme: filter.HTTPS, PathPrefix: "/new", Status: 308})},
		{Match: prefix("/off"), Filters: redirect(filter.Redirect{Host: "b.test", Port: 8080, PathPrefix: "/", StripQuery: true, Status: 307})},
	}
	e := newEdge(t, Config{Slashes: h1.Keep}, routes)
	for _, c := range []struct {
		request string
		status  int
		want    string
	}{
		{"GET /u/7?q=1 HTTP/1.1\r\nHost: A.test:81\r\n\r\n", 301, "http://a.test:81/users/7?q=1"},
		{"HEAD /u/7 HTTP/1.1\r\nHost: a.test\r\n\r\n", 301, "http://a.test/users/7"},
		{"GET http://b.test/u/7 HTTP/1.1\r\nHost: a.test\r\n\r\n", 301, "http://b.test/users/7"},
		{"GET /u/7 HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\r\n", 301, "http://a.test/users/7"},
		{"GET /u/%0d%0aX:y HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ""},
		{"GET /u/%c3%a9 HTTP/1.1\r\nHost: a.test\r\n\r\n", 301, "http://a.test/users/%C3%A9"},
		{"GET /u/7 HTTP/1.1\r\nHost: a.test@evil.test\r\n\r\n", 400, ""},
		{"GET /u/7 HTTP/1.1\r\nHost: evil.test/a.test\r\n\r\n", 400, ""},
		{"GET /u/7 HTTP/1.0\r\n\r\n", 400, ""},
		{"GET /f-.. HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ""},
		{"GET /f-/evil.test HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ""},
		{"GET /old/a/b?q HTTP/1.1\r\nHost: a.test:8000\r\n\r\n", 308, "https://a.test/new/a/b?q"},
		{"GET /off//evil.test?q HTTP/1.1\r\nHost: a.test\r\n\r\n", 307, "http://b.test:8080/evil.test"},
		{"GET /off HTTP/1.1\r\nHost: a.test\r\n\r\n", 307, "http://b.test:8080/"},
		{"POST /off/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc", 307, "http://b.test:8080/x"},
	} {
		cl := e.dial(t)
		cl.send(c.request)
		method, _, _ := strings.Cut(c.request, " ")
		resp, body := cl.answer(method)
		if resp.StatusCode != c.status || resp.Header.Get("Location") != c.want {
			t.Errorf("%q: %d to %q, not %d to %q", c.request, resp.StatusCode, resp.Header.Get("Location"), c.status, c.want)
		}
		if c.status != 400 && (body != "" || resp.ContentLength != 0 || resp.Header.Get("X-Gateway") != "g" || resp.Header.Get("Date") == "") {
			t.Errorf("%q: %v with body %q", c.request, resp, body)
		}
	}
}

// With 307 and 308 a client sends its body again, to where it is led, and the upstream has it once and whole.
func TestRedirectedBody(t *testing.T) {
	up := recordOK(t)
	routes := []Route{
		{Match: prefix("/old"), Filters: filters(filter.Config{Redirect: &filter.Redirect{PathPrefix: "/new", Status: 308}})},
		{Match: prefix("/new"), Cluster: "c"},
	}
	e := newEdge(t, Config{}, routes, cluster("c", up.address))
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	for _, size := range []int{3, 4 << 20} { // the larger one is still coming when it is answered
		want := strings.Repeat("b", size)
		resp, err := client.Post("http://"+e.listener.Bound()+"/old/x?q", "text/plain", strings.NewReader(want))
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		reqs, _ := up.requests()
		last := reqs[len(reqs)-1]
		if string(body) != "OK" || last.Method != "POST" || last.RequestURI != "/new/x?q" || last.body != want {
			t.Errorf("%q: %s %s with %d bytes", body, last.Method, last.RequestURI, len(last.body))
		}
	}
	if reqs, _ := up.requests(); len(reqs) != 2 {
		t.Errorf("%d requests", len(reqs))
	}
}

// A connection lives on after a redirect whose request was whole.
func TestRedirectKeepsTheConnection(t *testing.T) {
	c := newEdge(t, Config{}, []Route{{Filters: filters(filter.Config{Redirect: &filter.Redirect{Scheme: filter.HTTPS}})}}).dial(t)
	c.send("POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n")
	for _, want := range []string{"https://a.test/a", "https://a.test/b"} {
		if resp, _ := c.answer("GET"); resp.Header.Get("Location") != want || resp.Close {
			t.Errorf("%q, not %q; closing: %v", resp.Header.Get("Location"), want, resp.Close)
		}
	}
}

// A trusted proxy says by what scheme and of what host the client asked.
func TestRedirectBehindAProxy(t *testing.T) {
	cfg := Config{Trusted: forwarded.Config{Proxies: []string{"127.0.0.1"}}}
	c := newEdge(t, cfg, []Route{{Filters: filters(filter.Config{Redirect: &filter.Redirect{Path: "/x"}})}}).dial(t)
	c.send("GET / HTTP/1.1\r\nHost: inner:81\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: Outer.test\r\n\r\n")
	if resp, _ := c.answer("GET"); resp.Header.Get("Location") != "https://outer.test/x" {
		t.Errorf("%q", resp.Header.Get("Location"))
	}
}

// Filters that want what the match has not are found before they run.
func TestFiltersAreValidatedWithTheirMatch(t *testing.T) {
	path := filters(filter.Config{Rewrite: &filter.Rewrite{Path: "/{a}/{b}"}})
	byPrefix := filters(filter.Config{Respond: nil, Redirect: &filter.Redirect{PathPrefix: "/n"}})
	for _, c := range []struct {
		r    Route
		want string
	}{
		{Route{Match: route.Match{PathTemplate: "/{a}/{b...}"}, Filters: path}, ""},
		{Route{Match: route.Match{PathRegexp: "/(?P<a>.)(?P<b>.)(.)"}, Filters: path}, ""},
		{Route{Match: route.Match{PathTemplate: "/{a}/{c}"}, Filters: path}, `filters[0].rewrite.path: the route's match captures no "b"`},
		{Route{Match: route.Match{PathRegexp: "/(?P<b>.)"}, Filters: path}, `filters[0].rewrite.path: the route's match captures no "a"`},
		{Route{Match: prefix("/x"), Filters: byPrefix}, ""},
		{Route{Match: prefix("/"), Filters: byPrefix}, ""},
		{Route{Match: route.Match{Path: "/x"}, Filters: byPrefix}, "filters[0].redirect.path_prefix: the route's match has no path_prefix to replace"},
		{Route{Match: prefix("/x"), Filters: append(byPrefix[:1:1], path...)}, `filters[1]: is never reached: the filter before it answers`},
	} {
		c.r.Cluster = "c"
		var said []string
		c.r.Validate(func(p, m string) { said = append(said, p+": "+m) })
		if c.want == "" && said != nil || c.want != "" && !slices.Contains(said, c.want) {
			t.Errorf("%s: %q, not %q", c.r.Match, said, c.want)
		}
	}
}

// Explain shows what a filter makes of the path.
func TestExplainShowsRewrite(t *testing.T) {
	e := newEdge(t, Config{}, []Route{{Match: route.Match{PathTemplate: "/u/{id}"}, Cluster: "c",
		Filters: filters(filter.Config{Rewrite: &filter.Rewrite{Path: "/users/{id}"}})}}, cluster("c", "127.0.0.1:1"))
	var out strings.Builder
	e.on(func(w *worker) {
		e.gateway.Explain(&out, w.loop, []byte("GET /u/7 HTTP/1.1\r\nHost: a.test\r\n\r\n"), netip.MustParseAddrPort("192.0.2.1:5"))
	})
	for _, want := range []string{"0 rewrite\n", "- GET /u/7 HTTP/1.1\n", "+ GET /users/7 HTTP/1.1\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

// A steady request allocates nothing on the edge, whatever it is that the route matched.
func TestRewriteAllocatesNothing(t *testing.T) {
	reply := []byte(ok)
	up := serveTCP(t, func(c *net.TCPConn) {
		b := make([]byte, 4096)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := c.Write(reply); err != nil {
				return
			}
		}
	})
	routes := []Route{
		{Match: route.Match{PathTemplate: "/u/{id}"}, Cluster: "c", Filters: filters(filter.Config{Rewrite: &filter.Rewrite{Path: "/users/{id}"}})},
		{Match: prefix("/old"), Cluster: "c", Filters: filters(filter.Config{Rewrite: &filter.Rewrite{PathPrefix: "/new"}})},
		{Match: prefix("/go"), Filters: filters(filter.Config{Redirect: &filter.Redirect{Scheme: filter.HTTPS, PathPrefix: "/"}})},
	}
	c := newEdge(t, Config{}, routes, cluster("c", up)).dial(t)
	buf := make([]byte, 4096)
	for _, path := range []string{"/u/7", "/old/x", "/go/x"} {
		request := []byte("GET " + path + " HTTP/1.1\r\nHost: a.test\r\n\r\n")
		exchange := func() {
			if _, err := c.Write(request); err != nil {
				t.Error(err)
			}
			if _, err := c.TCPConn.Read(buf); err != nil {
				t.Error(err)
			}
		}
		for range 10 {
			exchange()
		}
		if n := testing.AllocsPerRun(200, exchange); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}
