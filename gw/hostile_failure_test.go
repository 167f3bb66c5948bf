package gw

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
)

// A failure of the upstream, or of the client's body, is answered by the gateway with what the filters put on every response: a page of
// another origin could not read it otherwise.
func TestOwnErrorsGoThroughTheResponsePhase(t *testing.T) {
	silent := func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }
	upstreams := map[string]struct {
		status int
		serve  func(c *net.TCPConn)
	}{
		"hangs up":  {502, func(c *net.TCPConn) { c.Read(make([]byte, 4096)) }},
		"malformed": {502, func(c *net.TCPConn) { c.Read(make([]byte, 4096)); c.Write([]byte("HTTP/1.1 200 OK\r\nA B: c\r\n\r\n")) }},
		"too large": {502, func(c *net.TCPConn) {
			c.Read(make([]byte, 4096))
			c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000)))
		}},
		"silent": {504, silent},
		"body":   {413, silent},
	}
	for name, u := range upstreams {
		t.Run(name, func(t *testing.T) {
			cl := cluster("c", serveTCP(t, u.serve))
			cl.ResponseTimeout = 50 * time.Millisecond
			cl.Retry.Attempts = 1
			max := filterSize(1000)
			e := newEdge(t, Config{}, []Route{{Cluster: "c", Filters: []filter.Config{
				{CORS: &filter.CORS{Origins: []string{"https://a.test"}, Credentials: true}},
				{SecurityHeaders: &filter.SecurityHeaders{}},
				{RequestID: &filter.RequestID{Accept: filter.IDsOfNobody, Respond: true}},
				{Headers: &filter.Headers{ResponseEdit: filter.Edit{Set: map[string]string{"X-Gateway": "sluice"}}}},
				{BodyLimit: &filter.BodyLimit{Max: max}},
				{Compress: &filter.Compress{MinLength: 1}},
				{JSONBody: &filter.JSONBody{Limit: 4000, Response: &filter.JSONChange{Set: map[string]filter.JSONText{"error": "null"}}}},
			}}}, cl)
			c := e.dial(t)
			raw := ask("/", "Origin: https://a.test", "X-Request-Id: forged")
			if name == "body" {
				raw = "POST / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.test\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + strings.Repeat("x", 2000) + "\r\n0\r\n\r\n"
			}
			c.send(raw)
			resp, body := c.answer("GET")
			h := resp.Header
			id := h.Get("X-Request-Id")
			if resp.StatusCode != u.status || h.Get("Access-Control-Allow-Origin") != "https://a.test" || h.Get("Access-Control-Allow-Credentials") != "true" ||
				h.Get("Vary") == "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Gateway") != "sluice" || h.Get("Content-Type") != "application/json" ||
				len(h.Values("Date")) != 1 || id == "" || id == "forged" {
				t.Errorf("%d %v", resp.StatusCode, h)
			}
			if resp.ContentLength != int64(len(body)) || !strings.Contains(body, `"error":"`) || !strings.Contains(body, `"request_id":"`+id+`"`) {
				t.Errorf("%s of %d, the id is %s", body, resp.ContentLength, id)
			}
			e.settles(t)
		})
	}
}

// One filter that cannot transform a body is not asked to transform the answer that says so.
func TestOwnErrorsAreNotTransformed(t *testing.T) {
	rec := record(t, func(int, *seen) (string, error) { return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi!!", nil })
	e := toUpstream(t, Config{}, rec.address)
	s := &shout{probe: probe{response: func(ctx *fasthttp.RequestCtx) { ctx.Response.Header.Set("X-Shout", "yes") }}}
	e.with(t, "/", s)
	c := e.dial(t)
	c.ask("/")
	resp, body := c.answer("GET")
	if resp.StatusCode != 502 || !strings.Contains(body, `"status":502`) || len(resp.Header.Values("X-Shout")) != 1 {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	eventually(t, "the transform is closed", func() bool { return s.closed.Load() == 1 })
	e.settles(t)
}
