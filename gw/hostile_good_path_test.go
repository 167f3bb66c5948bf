package gw

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/golang-jwt/jwt/v5"
	"github.com/klauspost/compress/zstd"

	"sluice/gw/filter"
)

// Filters as somebody has them who means no harm.

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// plain is a body, decoded by the response's Content-Encoding.
func plain(t testing.TB, resp *http.Response, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	switch e := resp.Header.Get("Content-Encoding"); e {
	case "gzip":
		z, err := gzip.NewReader(r)
		must(t, err)
		r = z
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r)
		must(t, err)
		defer z.Close()
		r = z
	case "":
	default:
		t.Fatalf("coded by %s", e)
	}
	out, err := io.ReadAll(r)
	must(t, err)
	return string(out)
}

// says is an upstream that answers every request with this.
func says(t testing.TB, answer string) *recorder {
	return record(t, func(_ int, s *seen) (string, error) {
		b, err := io.ReadAll(s.Body)
		s.body, s.err = string(b), err
		if s.Method == "HEAD" {
			head, _, _ := strings.Cut(answer, "\r\n\r\n")
			return head + "\r\n\r\n", nil
		}
		return answer, nil
	})
}

func answerOf(kind, body string, fields ...string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s", kind, len(body), fieldLines(fields), body)
}

// A token is verified once by keys that are fetched once; who it is decides, is limited, and is told.
func TestTokensDecideAndTell(t *testing.T) {
	ec := ecKey(t)
	from := newIssuer(t, serves(keySet(jwkOf(t, "e", &ec.PublicKey))))
	s := besiege(t, recordOK(t), []filter.Config{
		{JWT: &filter.JWT{JWKSURL: from.URL, Audiences: []string{"api"}, ClaimsToHeaders: map[string]string{"X-User": "sub", "X-Roles": "roles", "X-Org": "org.name"}}},
		{Authorize: &filter.Authorize{Allow: `"admin" in identity.claims.roles || request.method == "GET"`, Reason: "no_admin"}}})
	bob := "Authorization: Bearer " + token(t, jwt.SigningMethodES256, "e", ec, jwt.MapClaims{"sub": "bob", "roles": []string{"dev", "ops"}, "org": map[string]any{"name": "a"}})
	ann := "Authorization: Bearer " + token(t, jwt.SigningMethodES256, "e", ec, jwt.MapClaims{"sub": "ann", "roles": []string{"admin"}})
	for range 3 {
		s.attack(t, "bob reads", ask("/a", bob), 200, "")
		if h := s.last(t).Header; h.Get("X-User") != "bob" || h.Get("X-Roles") != "dev,ops" || h.Get("X-Org") != "a" || h.Get("Authorization") != "" {
			t.Errorf("the upstream was told %v", h)
		}
		s.attack(t, "bob writes", post("/a", "x", bob), 403, "authorize: no_admin")
		s.attack(t, "ann writes", post("/a", "x", ann), 200, "")
	}
	if n := from.asked.Load(); n != 1 {
		t.Errorf("keys were fetched %d times", n)
	}
}

func TestServiceIsAskedWhoMay(t *testing.T) {
	asked := record(t, func(_ int, r *seen) (string, error) {
		switch r.Header.Get("Authorization") {
		case "token good":
			return "HTTP/1.1 200 OK\r\nX-User: alice\r\nX-Trace: t\r\nSet-Cookie: s=1\r\nX-Other: no\r\nContent-Length: 0\r\n\r\n", nil
		case "":
			return "HTTP/1.1 302 Found\r\nLocation: https://login.test/?to=" + r.Header.Get("X-Forwarded-Uri") + "\r\nX-Other: no\r\nContent-Length: 0\r\n\r\n", nil
		}
		return "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nno\n", nil
	})
	s := besiege(t, says(t, answerOf("text/plain", "hello", "X-Trace: upstream", "Set-Cookie: u=2")), []filter.Config{{ExtAuth: &filter.ExtAuth{
		Cluster: "auth", Path: "/check", ToUpstream: []string{"X-User"}, ToClient: []string{"X-Trace", "Set-Cookie"}, SubjectHeader: "X-User"}},
		{Authorize: &filter.Authorize{Allow: `identity.subject == "alice" && identity.by == "ext_auth"`}}}, cluster("auth", asked.address))
	c := s.dial(t)
	c.send(post("/a?b=c", "body", "Authorization: token good", "X-User: root", "Cookie: a=b"))
	resp, body := c.answer("POST")
	if resp.StatusCode != 200 || body != "hello" || resp.Header.Get("X-Trace") != "t" || len(resp.Cookies()) != 2 || resp.Header.Get("X-Other") != "" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	if r := s.last(t); r.Header.Get("X-User") != "alice" || r.body != "body" || r.Header.Get("Authorization") != "token good" {
		t.Errorf("the upstream got %v %q", r.Header, r.body)
	}
	reqs, _ := asked.requests()
	if r := reqs[0]; r.Method != "GET" || r.RequestURI != "/check" || r.Host != "a.test" || r.Header.Get("X-Forwarded-Method") != "POST" ||
		r.Header.Get("X-Forwarded-Uri") != "/a?b=c" || r.Header.Get("Cookie") != "a=b" || r.Header.Get("X-User") != "" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("the service was asked %s %s %v", r.Method, r.RequestURI, r.Header)
	}
	if got := s.attack(t, "denied", ask("/a", "Authorization: token bad"), 403, "ext_auth: denied"); got != "no\n" {
		t.Errorf("%q", got)
	}
	c.ask("/a?b")
	if resp, _ := c.answer("GET"); resp.StatusCode != 302 || resp.Header.Get("Location") != "https://login.test/?to=/a?b" || resp.Header.Get("X-Other") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestPartsAreOneAnswer(t *testing.T) {
	users, orders := says(t, answerOf("application/json", `{"name":"Ann"}`)), says(t, answerOf("application/json", " [7,8]\n"))
	down := serveTCP(t, func(*net.TCPConn) {})
	s := besiege(t, recordOK(t), []filter.Config{{Aggregate: &filter.Aggregate{Query: true, Parts: []filter.Part{
		{Key: "user", Cluster: "users", Path: "/me"}, {Key: "orders", Cluster: "orders", Path: "/orders"},
		{Key: "ads", Cluster: "down", Path: "/", OnFailure: filter.FailNull}, {Key: "news", Cluster: "down", Path: "/", OnFailure: filter.FailOmit}}}}},
		cluster("users", users.address), cluster("orders", orders.address), cluster("down", down))
	for range 3 {
		if got := s.attack(t, "parts", ask("/a?x=1", "Cookie: s=1"), 200, ""); got != `{"user":{"name":"Ann"},"orders":[7,8],"ads":null}` {
			t.Errorf("%s", got)
		}
	}
	reqs, _ := users.requests()
	if r := reqs[0]; r.RequestURI != "/me?x=1" || r.Header.Get("Cookie") != "s=1" {
		t.Errorf("asked %s %v", r.RequestURI, r.Header)
	}
}

// A client gets the coding that it wants most, whatever filters that read bodies have told the upstream, in either order.
func TestBodiesAreChangedAndCompressed(t *testing.T) {
	text := `{"secret":1,"text":"` + strings.Repeat("to and fro, ", 200) + `"}`
	want := strings.Replace(text, `"secret":1,`, "", 1)
	edit := filter.Config{JSONBody: &filter.JSONBody{Response: &filter.JSONChange{Remove: []string{"secret"}}}}
	compress := filter.Config{Compress: &filter.Compress{}}
	for name, filters := range map[string][]filter.Config{"compress first": {compress, edit}, "json_body first": {edit, compress}} {
		up := says(t, answerOf("application/json", text, `ETag: "x"`))
		s := besiege(t, up, filters)
		c := s.dial(t)
		for accept, coding := range map[string]string{"gzip": "gzip", "br": "br", "gzip;q=0.5, zstd": "zstd", "identity": "", "": ""} {
			c.send(ask("/a", "Accept-Encoding: "+accept))
			resp, body := c.answer("GET")
			if got := resp.Header.Get("Content-Encoding"); resp.StatusCode != 200 || got != coding || plain(t, resp, body) != want {
				t.Errorf("%s, %q: %d, coded by %q: %.100s", name, accept, resp.StatusCode, got, plain(t, resp, body))
			}
			if resp.ContentLength != int64(len(body)) || resp.Header.Get("ETag") != "" || !strings.Contains(resp.Header.Get("Vary"), "Accept-Encoding") {
				t.Errorf("%s, %q: %d bytes of %d, %v", name, accept, len(body), resp.ContentLength, resp.Header)
			}
			if got := s.last(t).Header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("%s: the upstream is asked for %q", name, got)
			}
		}
	}
}

// What is said of a body that is not there is what a GET's would have: no length, where filters would have made another body.
func TestLengthOfABodyThatIsNotThere(t *testing.T) {
	text := strings.Repeat("to and fro, ", 200)
	for _, c := range []struct {
		name, upstream string
		filter         filter.Config
		head           string // Content-Encoding of the response to HEAD
		length         bool   // is there
	}{
		{"compress", answerOf("text/plain", text, `ETag: "x"`), filter.Config{Compress: &filter.Compress{}}, "gzip", false},
		{"compress, an image", answerOf("image/png", text), filter.Config{Compress: &filter.Compress{}}, "", true},
		{"compress, short", answerOf("text/plain", "short"), filter.Config{Compress: &filter.Compress{}}, "", true},
		{"decompress", answerOf("text/plain", zipped(text), "Content-Encoding: gzip"), filter.Config{Decompress: &filter.Decompress{Responses: filter.Always}}, "", false},
		{"decompress, plain", answerOf("text/plain", text), filter.Config{Decompress: &filter.Decompress{Responses: filter.Always}}, "", true},
		{"json_body", answerOf("application/json", "{}", `ETag: "x"`), filter.Config{JSONBody: &filter.JSONBody{Response: &filter.JSONChange{Set: map[string]filter.JSONText{"a": "1"}}}}, "", false},
		{"json_body, text", answerOf("text/plain", "{}"), filter.Config{JSONBody: &filter.JSONBody{Response: &filter.JSONChange{Set: map[string]filter.JSONText{"a": "1"}}}}, "", true},
		{"body_template", answerOf("text/plain", "x"), filter.Config{BodyTemplate: &filter.BodyTemplate{Response: &filter.Template{Body: "hello", ContentType: "text/plain"}}}, "", false},
	} {
		s := besiege(t, says(t, c.upstream), []filter.Config{c.filter})
		cl := s.dial(t)
		cl.send("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
		head, _ := cl.answer("HEAD")
		cl.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
		get, body := cl.answer("GET")
		if has := head.ContentLength >= 0; has != c.length || has && head.ContentLength != int64(len(body)) {
			t.Errorf("%s: a length of %d for %d bytes", c.name, head.ContentLength, len(body))
		}
		for _, name := range []string{"Content-Encoding", "Etag", "Vary"} {
			if h, g := head.Header.Get(name), get.Header.Get(name); h != g {
				t.Errorf("%s: %s is %q of HEAD, %q of GET", c.name, name, h, g)
			}
		}
		if got := head.Header.Get("Content-Encoding"); got != c.head {
			t.Errorf("%s: coded by %q", c.name, got)
		}
	}
	s := besiege(t, says(t, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 2400\r\n\r\n"), []filter.Config{{Compress: &filter.Compress{}}})
	c := s.dial(t)
	c.send(ask("/", "Accept-Encoding: gzip", `If-None-Match: W/"x"`))
	if resp, _ := c.answer("GET"); resp.StatusCode != 304 || resp.Header.Get("Content-Length") != "" || resp.Header.Get("ETag") != `W/"x"` {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestBodiesAreDecodedAndEdited(t *testing.T) {
	up := says(t, answerOf("application/json", zipped(`{"a":1,"internal":2}`), "Content-Encoding: gzip"))
	s := besiege(t, up, []filter.Config{
		{JSONBody: &filter.JSONBody{Request: &filter.JSONChange{JQ: `.items |= map(.price *= 2) | .by = $request.headers["x-who"]`}}},
		{Decompress: &filter.Decompress{Requests: true, Responses: filter.Always}},
	})
	c := s.dial(t)
	c.send(post("/a", `{"items":[{"price":2},{"price":3.5}]}`, "X-Who: ann"))
	resp, body := c.answer("POST")
	if resp.StatusCode != 200 || body != `{"a":1,"internal":2}` || resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	if got := s.last(t).body; got != `{"by":"ann","items":[{"price":4},{"price":7}]}` {
		t.Errorf("the upstream got %s", got)
	}
	s = besiege(t, up, []filter.Config{{Decompress: &filter.Decompress{Requests: true}},
		{JSONBody: &filter.JSONBody{Request: &filter.JSONChange{Set: map[string]filter.JSONText{"via": `"sluice"`}, Remove: []string{"x"}, Rename: map[string]string{"n": "name"}}}}})
	for _, coding := range []string{"", "gzip"} {
		body := `{"n":"Ann","x":1,"big":12345678901234567890}`
		fields := []string{}
		if coding != "" {
			body, fields = zipped(body), []string{"Content-Encoding: gzip"}
		}
		s.attack(t, "coded by "+coding, post("/a", body, fields...), 200, "")
		if r := s.last(t); r.body != `{"name":"Ann","big":12345678901234567890,"via":"sluice"}` || r.Header.Get("Content-Encoding") != "" || int(r.ContentLength) != len(r.body) {
			t.Errorf("the upstream got %s, %v", r.body, r.Header)
		}
	}
}

func TestPagesOfOthersAskFirst(t *testing.T) {
	s := besiege(t, says(t, answerOf("text/plain", "hello", "Access-Control-Allow-Origin: *")), []filter.Config{
		{CORS: &filter.CORS{Origins: []string{"https://*.app.test"}, Methods: []string{"GET", "PUT"}, Headers: []string{"X-API-Key"}, Expose: []string{"X-Total"}, Credentials: true}},
		{APIKey: &filter.APIKey{Keys: []filter.NamedKey{{Name: "a", SHA256: hex.EncodeToString(func() []byte { b := sha256.Sum256([]byte("k")); return b[:] }())}}}}})
	c := s.dial(t)
	c.send("OPTIONS /a HTTP/1.1\r\nHost: a.test\r\nOrigin: https://x.app.test\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-api-key\r\n\r\n")
	resp, _ := c.answer("OPTIONS")
	if h := resp.Header; resp.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != "https://x.app.test" || h.Get("Access-Control-Allow-Methods") != "GET, PUT" ||
		h.Get("Access-Control-Allow-Headers") != "X-API-Key" || h.Get("Access-Control-Allow-Credentials") != "true" || h.Get("Access-Control-Max-Age") != "600" {
		t.Errorf("%d %v", resp.StatusCode, h)
	}
	for key, status := range map[string]int{"k": 200, "wrong": 401} { // a page can read that it has no right, too
		c.send(ask("/a", "Origin: https://x.app.test", "X-API-Key: "+key))
		resp, _ := c.answer("GET")
		if h := resp.Header; resp.StatusCode != status || strings.Join(h.Values("Access-Control-Allow-Origin"), " ") != "https://x.app.test" ||
			h.Get("Access-Control-Expose-Headers") != "X-Total" || h.Get("Vary") != "Origin" {
			t.Errorf("%d %v", resp.StatusCode, h)
		}
	}
}
