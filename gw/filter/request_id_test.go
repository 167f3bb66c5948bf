package filter

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestRequestID(t *testing.T) {
	hexID, uuid := regexp.MustCompile(`^[0-9a-f]{32}$`), regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, c := range []struct {
		name   string
		cfg    RequestID
		fields []string
		want   *regexp.Regexp
	}{
		{"new", RequestID{}, nil, hexID},
		{"UUID", RequestID{Format: UUIDv4}, nil, uuid},
		{"the client's", RequestID{}, []string{"X-Request-Id: a-b_c.d:e/f+g="}, regexp.MustCompile(`^a-b_c\.d:e/f\+g=$`)},
		{"under another name", RequestID{Header: "X-Trace"}, []string{"x-trace: a", "X-Request-Id: b"}, regexp.MustCompile("^a$")},
		{"the client's is not wanted", RequestID{Accept: IDsOfNobody}, []string{"X-Request-Id: a"}, hexID},
		{"as long as may be", RequestID{}, []string{"X-Request-Id: " + strings.Repeat("a", 128)}, regexp.MustCompile("^a{128}$")},
		{"too long", RequestID{}, []string{"X-Request-Id: " + strings.Repeat("a", 129)}, hexID},
		{"two", RequestID{}, []string{"X-Request-Id: a", "X-Request-ID: b"}, hexID},
		{"quotes", RequestID{}, []string{`X-Request-Id: a","status":"b`}, hexID},
		{"bytes above ASCII", RequestID{}, []string{"X-Request-Id: \xe9"}, hexID},
		{"empty", RequestID{}, []string{"X-Request-Id:"}, hexID},
	} {
		ctx := parsed(t, append([]string{"Host: a"}, c.fields...)...)
		c.cfg.Respond = true
		f := New(Config{RequestID: &c.cfg})
		if f.Request(ctx) != Continue {
			t.Errorf("%s: does not go on", c.name)
		}
		f.Response(ctx)
		name := c.cfg.Header
		if name == "" {
			name = "X-Request-Id"
		}
		req, resp := values(ctx, name)
		if req = strings.TrimSuffix(req, "|"); !c.want.MatchString(req) || resp != req+"|" {
			t.Errorf("%s: %q for the upstream, %q for the client", c.name, req, resp)
		}
		if n := testing.AllocsPerRun(100, func() { f.Request(ctx); f.Response(ctx) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestRequestIDsDiffer(t *testing.T) {
	f := New(Config{RequestID: &RequestID{Accept: IDsOfNobody}})
	ctx := parsed(t)
	seen := map[string]bool{}
	for range 1000 {
		f.Request(ctx)
		seen[string(ctx.Request.Header.Peek("X-Request-Id"))] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different ones of 1000", len(seen))
	}
}

// An upstream's own header stays when the client is not to see the id.
func TestRequestIDLeavesResponses(t *testing.T) {
	ctx := parsed(t, "Host: a", "X-Request-Id: theirs")
	f := New(Config{RequestID: &RequestID{Accept: IDsOfNobody}})
	f.Request(ctx)
	f.Response(ctx)
	if got := string(ctx.Response.Header.Peek("X-Request-Id")); got != "theirs" {
		t.Errorf("%q", got)
	}
}

func TestRequestIDIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  RequestID
		want string
	}{
		{RequestID{}, ""},
		{RequestID{Header: "X A"}, `request_id.header: "X A" is not a header name`},
		{RequestID{Header: "Connection"}, "request_id.header: connection is the gateway's own to set"},
		{RequestID{Accept: "all"}, `request_id.accept: "all" is not one of client, nobody`},
		{RequestID{Format: "ulid"}, `request_id.format: "ulid" is not one of hex, uuid`},
	} {
		if all := strings.Join(reports(Config{RequestID: &c.cfg}), "\n"); all != c.want {
			t.Errorf("%q, not %q", all, c.want)
		}
	}
}

// What a filter has made of the id does not break the JSON of a refusal.
func TestRefusalsAreJSONWhateverTheID(t *testing.T) {
	for id, want := range map[string]string{"seven": "seven", `a","b":"c`: "", "\\": ""} {
		ctx := &fasthttp.RequestCtx{}
		ctx.Request.Header.Set("X-Request-Id", id)
		Refuse(ctx, 403, "no", &Refusal{Filter: "f", Reason: "r"})
		var got struct {
			ID string `json:"request_id"`
		}
		if err := json.Unmarshal(ctx.Response.Body(), &got); err != nil || got.ID != want {
			t.Errorf("%s: %s: %v", id, ctx.Response.Body(), err)
		}
	}
}
