package filter

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// Each edge of what a response may be.
func TestRespondIsValidated(t *testing.T) {
	for _, c := range []struct {
		r    Respond
		want []string
	}{
		{Respond{}, nil},
		{Respond{Status: 1}, []string{"respond.status: status 1: 200 to 599"}},
		{Respond{Status: 199}, []string{"respond.status: status 199: 200 to 599"}},
		{Respond{Status: 204}, nil},
		{Respond{Status: 304}, nil},
		{Respond{Status: 205, Body: "x"}, nil},
		{Respond{Status: 304, Body: "x"}, []string{"respond.body: a response with status 304 has no body"}},
		{Respond{Status: 600, Body: "x"}, []string{"respond.status: status 600: 200 to 599"}},
		{Respond{Headers: map[string]string{"X-a": "1", "x-A": "2"}}, []string{"respond.headers.x-A: x-A is there twice, in two spellings"}},
		{Respond{Headers: map[string]string{"X-A": "1\n"}}, []string{"respond.headers.X-A: the value of X-A has a control character, or a space at an end"}},
		{Respond{Headers: map[string]string{"X A": "1"}}, []string{`respond.headers.X A: "X A" is not a header name`}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Respond: &c.r})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.r, diff)
		}
	}
}

// The whole response, for a gateway that adds no type of its own.
func TestRespondInFull(t *testing.T) {
	for _, c := range []struct {
		r    Respond
		want string
	}{
		{Respond{}, "200  "},
		{Respond{Status: 404}, "404  "},
		{Respond{Status: 201, Body: "a\n"}, "201 Content-Type: text/plain; charset=utf-8 a\n"},
		{Respond{Headers: map[string]string{"content-type": "a/b"}}, "200 Content-Type: a/b "},
		{Respond{Body: "a", Headers: map[string]string{"content-type": "a/b"}}, "200 Content-Type: a/b a"},
		{Respond{Status: 302, Headers: map[string]string{"Location": "/x"}}, "302 Location: /x "},
	} {
		ctx := &fasthttp.RequestCtx{}
		ctx.Response.Header.SetNoDefaultContentType(true)
		f := New(Config{Respond: &c.r})
		if f.Request(ctx) != Answer {
			t.Errorf("%+v does not answer", c.r)
		}
		f.Response(ctx) // its own answer has no response phase
		var fields []string
		for k, v := range ctx.Response.Header.All() {
			if k := string(k); k != "Content-Length" {
				fields = append(fields, k+": "+string(v))
			}
		}
		r := &ctx.Response
		got := strings.Join([]string{strconv.Itoa(r.StatusCode()), strings.Join(fields, "; "), string(r.Body())}, " ")
		if got != c.want {
			t.Errorf("%+v: %q, not %q", c.r, got, c.want)
		}
	}
}

// An exchange is pooled: in the one that another used, an answer is written without allocating.
func TestRespondAllocatesNothing(t *testing.T) {
	f := New(Config{Respond: &Respond{Status: 403, Body: "no\n", Headers: map[string]string{"X-Why": "so"}}})
	ctx := &fasthttp.RequestCtx{}
	if n := testing.AllocsPerRun(100, func() {
		ctx.Response.Reset()
		f.Request(ctx)
		f.Response(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// To remove what is not there changes nothing.
func TestHeadersThatAreNotThereAllocateNothing(t *testing.T) {
	gone := Edit{Remove: []string{"X-Gone", "cookie", "Set-Cookie", "Server"}}
	for _, f := range []Filter{New(Config{Headers: &Headers{}}), New(Config{Headers: &Headers{RequestEdit: gone, ResponseEdit: gone}})} {
		ctx := parsed(t, "Host: a", "X-Kept: 1")
		if n := testing.AllocsPerRun(100, func() {
			f.Request(ctx)
			f.Response(ctx)
		}); n != 0 {
			t.Errorf("%+v: %v allocations", f, n)
		}
	}
}
