package filter

import (
	"bufio"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// parsed is an exchange whose heads came from the wire, as the gateway's do: fasthttp keeps some fields apart from the
// others, and cookies unparsed until they are asked for.
func parsed(t *testing.T, fields ...string) *fasthttp.RequestCtx {
	t.Helper()
	lines := strings.Join(append(fields, "", ""), "\r\n")
	if !strings.Contains("\n"+lines, "\nHost:") {
		lines = "Host: a\r\n" + lines // which fasthttp wants
	}
	ctx := &fasthttp.RequestCtx{}
	if err := ctx.Request.Header.Read(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\n" + lines))); err != nil {
		t.Fatal(err)
	}
	if err := ctx.Response.Header.Read(bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\n" + lines))); err != nil {
		t.Fatal(err)
	}
	ctx.Response.Header.SetNoDefaultContentType(true)
	return ctx
}

// values are those of name, of the request and of the response, as they would be written.
func values(ctx *fasthttp.RequestCtx, name string) (request, response string) {
	for k, v := range ctx.Request.Header.All() {
		if strings.EqualFold(string(k), name) {
			request += string(v) + "|"
		}
	}
	for k, v := range ctx.Response.Header.All() {
		if strings.EqualFold(string(k), name) {
			response += string(v) + "|"
		}
	}
	return request, response
}

// The fields that fasthttp treats apart, and some that it does not.
var apart = []string{"Cookie", "Set-Cookie", "Host", "Content-Type", "User-Agent", "Server", "Content-Encoding", "Accept", "Referer",
	"Location", "X-Any"}

// What is set is all there is, and what is removed is gone, whatever the sender said.
func TestSetReplacesAndRemoveRemoves(t *testing.T) {
	for _, name := range apart {
		for _, spelt := range []string{name, strings.ToLower(name)} {
			for value, e := range map[string]Edit{
				"new=2|": {Set: map[string]string{spelt: "new=2"}},
				"":       {Remove: []string{spelt}},
			} {
				ctx := parsed(t, name+": old=1", "X-Kept: 1")
				f := New(Config{Headers: &Headers{RequestEdit: e, ResponseEdit: e}})
				f.Request(ctx)
				f.Response(ctx)
				if request, response := values(ctx, name); request != value || response != value {
					t.Errorf("%s, %+v: request %q, response %q", name, e, request, response)
				}
				if request, response := values(ctx, "X-Kept"); request != "1|" || response != "1|" {
					t.Errorf("%s, %+v: of another, request %q, response %q", name, e, request, response)
				}
			}
		}
	}
}

// One edit is the request's and the other the response's.
func TestEditsKeepToTheirSide(t *testing.T) {
	ctx := parsed(t)
	f := New(Config{Headers: &Headers{RequestEdit: Edit{Set: map[string]string{"X-Q": "1"}}, ResponseEdit: Edit{Set: map[string]string{"X-P": "1"}}}})
	f.Request(ctx)
	if request, response := values(ctx, "X-Q"); request != "1|" || response != "" {
		t.Errorf("X-Q: request %q, response %q", request, response)
	}
	if _, response := values(ctx, "X-P"); response != "" {
		t.Error("the response is changed before it is there")
	}
	f.Response(ctx)
	if request, response := values(ctx, "X-P"); request != "" || response != "1|" {
		t.Errorf("X-P: request %q, response %q", request, response)
	}
}

// What would be without effect, or decides where a message ends, is refused wherever it is named, and so is what one
// side of the exchange is told of the connection.
func TestFieldsThatAreTheGateways(t *testing.T) {
	for _, name := range []string{"Content-Length", "Connection", "Transfer-Encoding", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy", "Expect", "Date"} {
		m := map[string]string{name: ""}
		for at, c := range map[string]Config{
			"headers.request.set." + name:  {Headers: &Headers{RequestEdit: Edit{Set: m}}},
			"headers.request.add." + name:  {Headers: &Headers{RequestEdit: Edit{Add: m}}},
			"headers.request.remove":       {Headers: &Headers{RequestEdit: Edit{Remove: []string{name}}}},
			"headers.response.set." + name: {Headers: &Headers{ResponseEdit: Edit{Set: m}}},
			"headers.response.add." + name: {Headers: &Headers{ResponseEdit: Edit{Add: m}}},
			"headers.response.remove":      {Headers: &Headers{ResponseEdit: Edit{Remove: []string{name}}}},
			"respond.headers." + name:      {Respond: &Respond{Headers: m}},
		} {
			if name == "Date" && strings.HasPrefix(at, "headers.request.") {
				continue // a request's is its client's
			}
			if diff := cmp.Diff([]string{at + ": " + strings.ToLower(name) + " is the gateway's own to set"}, reports(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	}
	m := map[string]string{"Date": "x"}
	if got := reports(Config{Headers: &Headers{RequestEdit: Edit{Set: m, Add: m, Remove: []string{"Date"}}}}); got != nil {
		t.Errorf("%q", got)
	}
	for _, name := range append([]string{"X-Forwarded-For", "Via", "Authorization", "X-Request-Id"}, apart...) {
		m := map[string]string{name: "x"}
		e := Edit{Set: m, Add: m, Remove: []string{name}}
		if got := reports(Config{Headers: &Headers{RequestEdit: e, ResponseEdit: e}}); got != nil {
			t.Errorf("%q", got)
		}
	}
}

func reports(c Config) (out []string) {
	c.Validate(func(path, message string) { out = append(out, path+": "+message) })
	return out
}
