package filter

import (
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestValidate(t *testing.T) {
	set := func(k, v string) Config {
		return Config{Headers: &Headers{RequestEdit: Edit{Set: map[string]string{k: v}}}}
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want string // path and message, or nothing
	}{
		{"respond", Config{Respond: &Respond{Status: 403, Body: "no\n", Headers: map[string]string{"X": "y"}}}, ""},
		{"headers", set("X-A", "b"), ""},
		{"neither", Config{}, ": an entry of filters has exactly one"},
		{"both", Config{Respond: &Respond{}, Headers: &Headers{}}, ": an entry of filters has exactly one"},
		{"interim status", Config{Respond: &Respond{Status: 101}}, "respond.status: status 101"},
		{"status 600", Config{Respond: &Respond{Status: 600}}, "respond.status: status 600"},
		{"name", set("X A", "b"), `headers.request.set.X A: "X A" is not a header name`},
		{"value", set("X", "a\r\nY: b"), "headers.request.set.X: the value of X has a control character"},
		{"length", set("content-length", "5"), "the gateway's own"},
		{"framing", set("Transfer-Encoding", "chunked"), "the gateway's own"},
		{"hop by hop", set("Keep-Alive", "5"), "the gateway's own"},
		{"expectation", set("Expect", "100-continue"), "expect is the gateway's own"},
		{"upgrade", set("Upgrade", "h2c"), "the gateway's own"},
		{"trailers", set("Trailer", "X"), "the gateway's own"},
		{"empty value", set("X", ""), ""},
		{"bytes above ASCII", set("X", "\xe9"), ""},
		{"two spellings", Config{Headers: &Headers{ResponseEdit: Edit{Set: map[string]string{"X-a": "1", "x-A": "2"}}}}, "headers.response.set.x-A: x-A is there twice"},
		{"body of a 204", Config{Respond: &Respond{Status: 204, Body: "x"}}, "respond.body: a response with status 204 has no body"},
		{"NUL", set("X", "\x00"), "control character"},
		{"colon in a name", set("X:", "b"), "is not a header name"},
		{"status below 200", Config{Respond: &Respond{Status: 199}}, "respond.status: status 199: 200 to 599"},
		{"lowest status", Config{Respond: &Respond{Status: 200}}, ""},
		{"highest status", Config{Respond: &Respond{Status: 599}}, ""},
		{"negative status", Config{Respond: &Respond{Status: -1}}, "respond.status"},
		{"name to remove", Config{Headers: &Headers{RequestEdit: Edit{Remove: []string{"X A"}}}}, "headers.request.remove: "},
		{"remove", Config{Headers: &Headers{ResponseEdit: Edit{Remove: []string{"Connection"}}}}, "headers.response.remove: connection is the gateway's own"},
		{"add", Config{Headers: &Headers{ResponseEdit: Edit{Add: map[string]string{"": "x"}}}}, "is not a header name"},
		{"respond's headers", Config{Respond: &Respond{Headers: map[string]string{"Connection": "x"}}}, "respond.headers.Connection: "},
	} {
		var said []string
		c.cfg.Validate(func(p, m string) { said = append(said, p+": "+m) })
		if all := strings.Join(said, "\n"); c.want == "" && all != "" || !strings.Contains(all, c.want) {
			t.Errorf("%s: %q, not %q", c.name, all, c.want)
		}
	}
}

func TestRespond(t *testing.T) {
	ctx := &fasthttp.RequestCtx{}
	f := New(Config{Respond: &Respond{Status: 403, Body: "no\n", Headers: map[string]string{"X-Why": "so"}}})
	if f.Request(ctx) != Answer {
		t.Error("it does not answer")
	}
	r := &ctx.Response
	if r.StatusCode() != 403 || string(r.Body()) != "no\n" || string(r.Header.Peek("X-Why")) != "so" || string(r.Header.ContentType()) != "text/plain; charset=utf-8" {
		t.Errorf("%s", r)
	}
	// A content type of one's own wins.
	ctx = &fasthttp.RequestCtx{}
	New(Config{Respond: &Respond{Body: "{}", Headers: map[string]string{"Content-Type": "application/json"}}}).Request(ctx)
	if r := &ctx.Response; r.StatusCode() != 200 || string(r.Header.ContentType()) != "application/json" {
		t.Errorf("%s", r)
	}
}

// Nothing is said of a body that is not there, and what an earlier filter set is kept.
func TestRespondWithoutBody(t *testing.T) {
	ctx := &fasthttp.RequestCtx{}
	ctx.Response.Header.SetNoDefaultContentType(true)
	ctx.Response.Header.Set("X-Kept", "1")
	New(Config{Respond: &Respond{Status: 204}}).Request(ctx)
	r := &ctx.Response
	if r.StatusCode() != 204 || len(r.Body()) > 0 || len(r.Header.ContentType()) > 0 || string(r.Header.Peek("X-Kept")) != "1" {
		t.Errorf("%s", r)
	}
}

// Remove comes first, then set, then add, whatever the file's order.
func TestHeaders(t *testing.T) {
	edit := Edit{Remove: []string{"X-Gone", "X-Both"}, Set: map[string]string{"X-Both": "set", "X-Set": "new"}, Add: map[string]string{"X-Both": "added", "X-Set": "more"}}
	f := New(Config{Headers: &Headers{RequestEdit: edit, ResponseEdit: edit}})
	ctx := &fasthttp.RequestCtx{}
	for _, h := range []header{&ctx.Request.Header, &ctx.Response.Header} {
		for _, kv := range [][2]string{{"X-Gone", "1"}, {"x-gone", "2"}, {"X-Both", "3"}, {"X-Set", "4"}, {"X-Kept", "5"}} {
			h.AddBytesKV([]byte(kv[0]), []byte(kv[1]))
		}
	}
	if f.Request(ctx) != Continue {
		t.Error("it answers")
	}
	f.Response(ctx)
	for side, all := range map[string]func(string) [][]byte{"request": ctx.Request.Header.PeekAll, "response": ctx.Response.Header.PeekAll} {
		for name, want := range map[string][]string{"X-Gone": nil, "X-Both": {"set", "added"}, "X-Set": {"new", "more"}, "X-Kept": {"5"}} {
			var got []string
			for _, v := range all(name) {
				got = append(got, string(v))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s %s: %q, not %q", side, name, got, want)
			}
		}
	}
}

func TestHeadersWithoutChangeAllocateNothing(t *testing.T) {
	f := New(Config{Headers: &Headers{RequestEdit: Edit{Set: map[string]string{"X-Set": "new"}}}})
	ctx := &fasthttp.RequestCtx{}
	if n := testing.AllocsPerRun(100, func() {
		f.Request(ctx)
		f.Response(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
