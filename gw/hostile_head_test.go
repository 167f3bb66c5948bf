package gw

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gw/filter"
	"sluice/gw/route"
)

func TestHostileOrigins(t *testing.T) {
	s := besiege(t, recordOK(t), []filter.Config{{CORS: &filter.CORS{Origins: []string{"https://a.test", "https://*.app.test", "http://local.test:*"},
		OriginRegexps: []string{`https://pr-\d+\.test`}, Credentials: true, Methods: []string{"GET", "PUT"}}}})
	c := s.dial(t)
	for _, origin := range []string{"null", "https://a.test.evil.test", "https://evil-a.test", "https://a.testevil", "http://a.test", "https://a.test:444", "https://a.test/",
		"https://A.TEST", "https://evil.test?https://a.test", "https://evil.test#.app.test", "https://evil.test/.app.test", "https://evil.test@x.app.test", "https://.app.test",
		"https://x..app.test", "https://app.test", "https://xapp.test", "https://x.app.test.", "https://x.app.test:1", "http://local.test:", "http://local.test:1x", "http://local.test:80.evil.test",
		"https://pr-1.test.evil.test", "https://pr-1xtest", "https://evil.test https://a.test", "https://a.test, https://evil.test", "*", "file://", "https://x\x80.app.test", "https://" + strings.Repeat("x.", 4000) + "app.test"} {
		c.send(ask("/a", "Origin: "+origin))
		resp, _ := c.answer("GET")
		if h := resp.Header; resp.StatusCode != 200 || h.Get("Access-Control-Allow-Origin")+h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Vary") != "Origin" {
			t.Errorf("%.60q: %d %v", origin, resp.StatusCode, h)
		}
		s.attackBy(t, c, "preflight of "+origin[:min(len(origin), 60)], "OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: "+origin+"\r\nAccess-Control-Request-Method: PUT\r\n\r\n", 403, "cors: origin")
	}
	for _, origin := range []string{"https://a.test", "https://x.y.app.test", "http://local.test:8080", "https://pr-17.test"} {
		c.send(ask("/a", "Origin: "+origin))
		if resp, _ := c.answer("GET"); resp.Header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%q: %v", origin, resp.Header)
		}
	}
	// Two of them, or lines in one, say nothing that is true.
	c.send(ask("/a", "Origin: https://evil.test", "Origin: https://a.test"))
	if resp, _ := c.answer("GET"); resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("two origins: %v", resp.Header)
	}
	s.attack(t, "a line in it", ask("/a", "Origin: https://a.test\rX: y"), 400, "")
}

func TestHostileRequestIDs(t *testing.T) {
	for _, accept := range []filter.IDSource{filter.IDsOfClient, filter.IDsOfNobody} {
		for _, header := range []string{"X-Request-Id", "X-Trace"} {
			s := besiege(t, recordOK(t), []filter.Config{{RequestID: &filter.RequestID{Header: header, Accept: accept, Format: filter.UUIDv4, Respond: true}}, {IP: nobodyHere()}})
			s.secret = []string{"evil"}
			for name, id := range map[string]string{"10 KB": strings.Repeat("evil", 2500), "a quote": `evil","admin":"1`, "a space": "evil evil", "markup": "<script>evil", "a percent": "%0d%0aevil", "bytes": "evil\xff\xfe", "empty": "",
				"two": "evil1\r\n" + header + ": evil2", "two spellings": "evil1\r\n" + strings.ToUpper(header) + ": evil2", "_": "\r\n" + strings.ReplaceAll(header, "-", "_") + ": evil"} {
				body := s.attack(t, name, ask("/a", header+": "+id), 403, "ip: address")
				if !strings.Contains(body, `"request_id":"`) || strings.Count(body, `"`) != 10 {
					t.Errorf("%s: %s", name, body)
				}
			}
			for name, id := range map[string]string{"a line": "a\rb", "NUL": "a\x00b", "a folded one": "a\r\n b"} {
				s.attack(t, name, ask("/a", header+": "+id), 400, "")
			}
			s.secret = nil
			c := s.dial(t)
			c.send(ask("/a", header+": good-1"))
			resp, body := c.answer("GET")
			id := resp.Header.Get(header)
			if taken := accept == filter.IDsOfClient; (id == "good-1") != taken || len(resp.Header.Values(header)) != 1 || !taken && len(id) != 36 {
				t.Errorf("%s, %s: %v", accept, header, resp.Header)
			}
			if header == "X-Request-Id" && !strings.Contains(body, `"request_id":"`+id+`"`) {
				t.Errorf("%s: the id is %s: %s", accept, id, body)
			}
		}
	}
}

func TestHostilePaths(t *testing.T) {
	for _, c := range []struct {
		name  string
		match route.Match
		cfg   filter.Config
		cases map[string]string // target → what the upstream gets, or Location, or a status
	}{
		{"prefix off", prefix("/api"), filter.Config{Rewrite: &filter.Rewrite{PathPrefix: "/"}}, map[string]string{
			"/api//evil.test/x": "/evil.test/x", "/api/../admin": "404", "/api/%2e%2e/admin": "404", "/api/%2fadmin": "400", "/api/a%2fb": "400", "/api/x/..%2f..%2fadmin": "400",
			"/api/.": "/", "/api/%00": "400", "/api/a?b=//c/../d": "/a?b=//c/../d", "/api/%5c%5cevil": "400", "/api;x=1/b": "/b"}},
		{"captured", route.Match{PathTemplate: "/u/{id}/{rest...}"}, filter.Config{Rewrite: &filter.Rewrite{Path: "/v2/{id}/{rest}"}}, map[string]string{
			"/u/1/a/b": "/v2/1/a/b", "/u/1/..%2fadmin": "400", "/u/%2e%2e/x": "404", "/u/1//x": "/v2/1/x", "/u/1/" + strings.Repeat("a", 9000): "414"}},
		{"regexp", prefix("/r"), filter.Config{Rewrite: &filter.Rewrite{Regexp: `/r/(.*)`, Substitution: "/$1"}}, map[string]string{
			"/r/a": "/a", "/r//a": "/a", "/r/": "/", "/r/a%0d%0aX:y": "400", "/r/a b": "400", "/r/..;/x": "400"}},
		{"redirect", prefix("/old"), filter.Config{Redirect: &filter.Redirect{PathPrefix: "/", Host: "a.test", Scheme: filter.HTTPS}}, map[string]string{
			"/old//evil.test": "https://a.test/evil.test", "/old/%2f%2fevil.test": "400", "/old/../..//evil.test": "400", "/old/@evil.test": "https://a.test/@evil.test",
			"/old/a?x=%0d%0aSet-Cookie:y": "https://a.test/a?x=%0d%0aSet-Cookie:y", "/old\\evil.test": "400", "/old/\\evil.test": "400"}},
		{"redirect to the host that was asked for", prefix("/h"), filter.Config{Redirect: &filter.Redirect{PathPrefix: "/", Scheme: filter.HTTPS}}, map[string]string{
			"/h//evil.test/x": "https://a.test/evil.test/x", "/h": "https://a.test/"}},
	} {
		up := recordOK(t)
		e := newEdge(t, Config{}, []Route{{Match: c.match, Filters: []filter.Config{c.cfg}, Cluster: "c"}}, cluster("c", up.address))
		for target, want := range c.cases {
			cl := e.dial(t)
			cl.send(ask(target))
			resp, body := cl.answer("GET")
			got := fmt.Sprint(resp.StatusCode)
			if resp.StatusCode == 200 {
				reqs, _ := up.requests()
				got = reqs[len(reqs)-1].RequestURI
			} else if l := resp.Header.Get("Location"); l != "" {
				got = l
			}
			if got != want {
				t.Errorf("%s: %.80s becomes %.80s, not %s: %s", c.name, target, got, want, body)
			}
		}
	}
}

func TestHostileQueries(t *testing.T) {
	s := besiege(t, recordOK(t), []filter.Config{{Query: &filter.Query{Set: map[string]string{"user": "me"}, Remove: []string{"admin"}, Rename: map[string]string{"q": "query"}}}})
	many := func(p string, n int) string { return strings.TrimSuffix(strings.Repeat(p+"&", n), "&") }
	for _, c := range []struct{ name, query, want string }{
		{"set already", "user=root&user=root&a", "a&user=me"},
		{"in escapes", "us%65r=root&adm%69n=1&%61dmin&admin", "user=me"},
		{"with +", "us+er=1&admin+=1", "us+er=1&admin+=1&user=me"},
		{"broken escapes", "%zz=1&%=2&%u0041=3&admin%=4", "%zz=1&%=2&%u0041=3&admin%=4&user=me"},
		{"an encoded &", "a=1%26admin=1", "a=1%26admin=1&user=me"},
		{"renamed", "query=root&q=1&%71=2", "query=1&query=2&user=me"},
		{"nothing but &", "&&&&", "user=me"},
		{"semicolons", "a;admin=1", "a;admin=1&user=me"},
		{"line breaks", "a=%0d%0aX:y", "a=%0d%0aX:y&user=me"},
		{"a thousand", many("a=1", 1000), many("a=1", 1000) + "&user=me"},
		{"a thousand that go", many("admin", 1000), "user=me"},
	} {
		s.attack(t, c.name, ask("/a?"+c.query), 200, "")
		if got := s.last(t).RequestURI; got != "/a?"+c.want {
			t.Errorf("%s: %.200s", c.name, got)
		}
	}
	takes(t, 16, func() {
		s.attack(t, "ten thousand", ask("/a?"+many("p=1", 10_000)), 414, "")
		s.attack(t, "renamed until it is too long", ask("/a?"+many("q", 4000)), 414, "query: too long")
	})
}

// Expressions cost what they may, whatever a client sends to be looked at.
func TestHostileInputOfExpressions(t *testing.T) {
	var many []string
	for i := range 90 {
		many = append(many, fmt.Sprintf("X-H-%d: %s", i, strings.Repeat("a", 60)))
	}
	for name, allow := range map[string]string{
		"each with each":   `request.headers.all(a, request.headers.all(b, a + b != "x"))`,
		"three times over": `request.headers.all(a, request.headers.all(b, request.headers.all(c, request.headers[a] + request.headers[b] + request.headers[c] != "")))`,
		"regexp":           `request.headers.all(a, request.headers[a].matches("(a*)*(a|b)*(a*)*$")) && request.headers.all(a, request.headers.all(b, request.headers[b].matches("(a*)*x?")))`,
		"grows":            `request.headers.map(a, request.headers.map(b, request.headers[a].replace("a", request.headers[b]))).size() > 0`,
	} {
		s := besiege(t, recordOK(t), []filter.Config{{Authorize: &filter.Authorize{Allow: allow}}})
		s.secret = []string{"s3cret"}
		takes(t, 64, func() {
			s.attack(t, name, ask("/a", append(many, "Authorization: s3cret")...), 403, "authorize: error")
		})
	}
	s := besiege(t, recordOK(t), []filter.Config{{Authorize: &filter.Authorize{Allow: `request.headers["x-user"] == "a" && int(request.query["n"]) < 5 && request.path.startsWith("/a")`}}})
	s.secret = []string{"s3cret"}
	for name, raw := range map[string]string{
		"not there":  ask("/a?n=1", "X-Other: s3cret"),
		"no number":  ask("/a?n=s3cret", "X-User: a"),
		"twice":      ask("/a?n=1&n=9", "X-User: a"),
		"overflow":   ask("/a?n=99999999999999999999", "X-User: a"),
		"no UTF-8":   ask("/a?n=%ff", "X-User: a"),
		"of another": ask("/a", "X-User: a"),
	} {
		s.attack(t, name, raw, 403, "authorize: error")
	}
	s.attack(t, "header twice", ask("/a?n=1", "X-User: a", "X-User: b"), 403, "authorize: denied")
	s.attack(t, "good", ask("/a?n=1", "X-User: a"), 200, "")
}
