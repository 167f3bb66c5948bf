package filter

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

func TestBodyTemplates(t *testing.T) {
	const form, text, xml = "application/x-www-form-urlencoded", "text/plain; charset=utf-8", "application/soap+xml; charset=utf-8"
	for _, c := range []struct{ typ, template, body, want string }{
		{"", `{"m": {{request.method}}, "t": "{{ request.path }}?{{request.query}}", "h": {{request.header.x-a}}, "no": {{request.header.X-B}}}`, ``,
			`{"m": "POST", "t": "/p?x=1", "h": "a\"\\\u003cé", "no": null}`},
		{"", `[{{request.host}},{{request.client}},{{request.id}},{{capture.id}},{{request.query.x}},{{request.query.y}}]`, ``, `["h","192.0.2.1","r-1","42","1",null]`},
		{"", `[{{identity.subject}},{{identity.by}},{{identity.claims.n}},{{identity.claims.o.x}},{{identity.claims.o}},{{identity.claims.z}},"{{identity.claims.n}}"]`, ``,
			`["ada","jwt",5,"y",{"x":"y"},null,"5"]`},
		{"", `{"all": {{body}}, "n": {{body.a.n}}, "s": {{body.a.s}}, "in": "<{{body.a.s}} {{body.a.n}} {{body.a}}>", "no": "{{body.b}}", "z": {{body.b}}}`,
			`{"a":{"n":1.50,"s":"q\"\u00e9"}}`,
			`{"all": {"a":{"n":1.50,"s":"q\"\u00e9"}}, "n": 1.50, "s": "q\"\u00e9", "in": "<q\"\u00e9 1.50 {\"n\":1.50,\"s\":\"q\\\"\\u00e9\"}>", "no": "", "z": null}`},
		{"", `{{body.a}}`, `no JSON`, "400 body_template: invalid"},
		{"", `{{body}}`, "no \xff JSON", `"no ` + "\ufffd" + ` JSON"`},
		{"", `"\"{{body}}\\" `, `"`, `"\"\"\\" `},
		{"", `"{{body.a}}"`, `{"a":"","a":"last"}`, `"last"`},
		{"", `{{body.a}}`, strings.Repeat(`{"a":`, 1000), "400 body_template: invalid"},
		{text, `{{request.header.x-a}} {{body.s}}, {{body.l.1}}{{ body.no }}!`, `{"s":"<\u0041>","l":[1,"<2>"]}`, `a"\<é <A>, <2>!`},
		{xml, `<a b="{{request.header.x-a}}">{{body}}</a>`, "]]>&amp;'\x00\xff", `<a b="a&#34;\&lt;é">]]&gt;&amp;amp;&#39;` + "\ufffd\ufffd</a>"},
		{"text/html", `<p>{{request.header.x-a}}`, ``, `<p>a&#34;\&lt;é`},
		{form, `a={{request.header.x-a}}&b={{body.x}}`, `{"x":"1&admin=2"}`, `a=a%22%5C%3C%C3%A9&b=1%26admin%3D2`},
		{text, ``, `x`, ``},
		{text, `{}} {`, `x`, `{}} {`},
		{text, `{{body}}{{body}}`, strings.Repeat("x", 600<<10), "413 body_template: too large"},
		{"", `{"a":{{body}}}`, `"` + strings.Repeat("x", inlineBody) + `"`, `{"a":"` + strings.Repeat("x", inlineBody) + `"}`},
	} {
		cfg := Config{BodyTemplate: &BodyTemplate{Request: &Template{Body: c.template, ContentType: c.typ}}}
		if got := reports(cfg); got != nil {
			t.Errorf("%s: %v", c.template, got)
		}
		ctx := posted(c.body)
		ctx.SetRemoteAddr(&net.TCPAddr{IP: net.IP{192, 0, 2, 1}, Port: 5})
		ctx.Request.Header.Set("X-A", `a"\<é`)
		ctx.Request.Header.Set("X-Request-Id", "r-1")
		SetIdentity(ctx, &Identity{Subject: "ada", By: "jwt", Claims: map[string]any{"n": 5, "o": map[string]any{"x": "y"}}})
		f := New(cfg)
		if got := through(t, f, ctx); got != c.want {
			t.Errorf("%s of %.60s:\n%.300s, not\n%.300s", c.template, c.body, got, c.want)
		}
		if c.typ == "" && RefusalOf(ctx) == nil && !json.Valid(ctx.Request.Body()) {
			t.Errorf("%s: %s", c.template, ctx.Request.Body())
		}
		if typ := string(ctx.Request.Header.ContentType()); c.typ != "" && RefusalOf(ctx) == nil && typ != c.typ {
			t.Errorf("%s, not %s", typ, c.typ)
		}
	}
}

func TestTemplatesOfEncodedBodies(t *testing.T) {
	for template, want := range map[string]string{`{{body.a}}`: "415 body_template: encoded", `{{request.method}}`: `"POST"`} {
		ctx := posted("\x1f\x8b")
		ctx.Request.Header.Set("Content-Encoding", "gzip")
		f := New(Config{BodyTemplate: &BodyTemplate{Request: &Template{Body: template}}})
		if got := through(t, f, ctx); got != want {
			t.Errorf("%s: %s", template, got)
		}
		if got := ctx.Request.Header.Peek("Content-Encoding"); want[0] == '"' && len(got) > 0 {
			t.Errorf("%s: %s", template, got)
		}
	}
}

func TestResponseTemplates(t *testing.T) {
	cfg := BodyTemplate{Response: &Template{
		Body: `{"status":{{status}},"error":{{body.message}},"kind":{{response.header.x-secret}},"path":{{request.path}}}`, Statuses: []int{404, 500}}}
	f := New(Config{BodyTemplate: &cfg})
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{200, `{}`, `{}`},
		{404, `{"message":"gone"}`, `{"status":404,"error":"gone","kind":"s","path":"/"}`},
		{500, `<html>`, `{"status":500,"error":null,"kind":"s","path":"/"}`},
		{500, ``, `{"status":500,"error":null,"kind":"s","path":"/"}`},
	} {
		ctx := answered(c.status, "text/html", c.body)
		ctx.Response.Header.Set("Content-Encoding", "br")
		if needed := f.(ResponseBody).ResponseBody(ctx) > 0; needed != (c.status != 200) {
			t.Errorf("%d: needed %v", c.status, needed)
		}
		if got := back(t, f, ctx); got != c.want {
			t.Errorf("%d %s: %s, not %s", c.status, c.body, got, c.want)
		}
		typ, coding := string(ctx.Response.Header.ContentType()), string(ctx.Response.Header.Peek("Content-Encoding"))
		if changed := c.status != 200; changed != (typ == "application/json") || changed != (coding == "") {
			t.Errorf("%d: %s, %s", c.status, typ, coding)
		}
	}
	ctx := answered(404, "text/html", "")
	ctx.Request.Header.SetMethod("HEAD")
	if got := back(t, f, ctx); got != "" {
		t.Errorf("to HEAD: %s", got)
	}
}

func TestBodyTemplateIsValidated(t *testing.T) {
	request := func(t Template) BodyTemplate { return BodyTemplate{Request: &t} }
	const noJSON = "body_template.request.body: is no JSON with null in the places outside of quotes; of another type it has a content_type or escape"
	for _, c := range []struct {
		cfg  BodyTemplate
		want []string
	}{
		{BodyTemplate{}, []string{"body_template: changes nothing: give request or response"}},
		{request(Template{Body: `{"a": {{body}}`}), []string{noJSON}},
		{request(Template{Body: `{ {{body}}: 1}`}), []string{noJSON}},
		{request(Template{Body: ``}), []string{noJSON}},
		{request(Template{Body: `hello`, Escape: EscapeNone}), nil},
		{request(Template{Body: `<a>`, ContentType: "text/xml"}), nil},
		{request(Template{Body: `{{body`, ContentType: "text/plain"}), []string{"body_template.request.body: a {{ without a }}"}},
		{request(Template{Body: `{{body..a}}`}), []string{`body_template.request.body: ".a": a name is missing`}},
		{request(Template{Body: `null`, ContentType: "a\r\nb"}), []string{"body_template.request.content_type: the value has a control character, or a space at an end"}},
		{request(Template{Body: `null`, Statuses: []int{200}}), []string{"body_template.request.statuses: a request has none"}},
		{BodyTemplate{Response: &Template{Body: `{{status}}`, Statuses: []int{99}}}, []string{"body_template.response.statuses: status 99: 200 to 599"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{BodyTemplate: &c.cfg})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.cfg, diff)
		}
	}
	for _, name := range []string{"status", "response.header.a", "request.header.", "request.nothing", "", "bodys", "identity", "body."} {
		got := reports(Config{BodyTemplate: &BodyTemplate{Request: &Template{Body: "{{" + name + "}}"}}})
		if len(got) != 1 || !strings.Contains(got[0], "is nothing that can be put in") {
			t.Errorf("%s: %v", name, got)
		}
	}
	cfg := Config{BodyTemplate: &BodyTemplate{Request: &Template{Body: `[{{capture.id}},{{capture.no}}]`}}}
	var said []string
	cfg.ValidateMatch(false, []string{"id"}, func(p, m string) { said = append(said, p+": "+m) })
	if diff := cmp.Diff([]string{`body_template.request.body: the route's match captures no "no"`}, said); diff != "" {
		t.Error(diff)
	}
}

// Whatever comes, what is said to be JSON is JSON.
func FuzzBodyTemplate(f *testing.F) {
	f.Add([]byte(`{"a":"x"}`), "v")
	f.Add([]byte("\xff\""), "\\\"")
	f.Add([]byte(`[{"a":1}]`), "")
	t := newBodyTemplate(BodyTemplate{Response: &Template{Body: `{"a":{{body.a}},"b":"{{body.a}}{{body}}\\{{request.id}}","c":{{body}},"d":{{request.id}}}`}})
	f.Fuzz(func(tt *testing.T, body []byte, id string) {
		ctx := &fasthttp.RequestCtx{}
		ctx.Request.Header.Set("X-Request-Id", id)
		ctx.Response.SetBody(body)
		t.Response(ctx)
		if RefusalOf(ctx) == nil && !json.Valid(ctx.Response.Body()) {
			tt.Errorf("%q became %q", body, ctx.Response.Body())
		}
	})
}

func TestBodyTemplateAllocatesNothing(t *testing.T) {
	f := New(Config{BodyTemplate: &BodyTemplate{Request: &Template{
		Body: `{"who":{{identity.subject}},"path":"{{request.path}}","q":{{request.query.x}},"h":{{request.header.x-a}},"name":{{body.user.name}},"all":{{body}}}`}}})
	ctx := posted("")
	ctx.Request.Header.Set("X-A", "a")
	SetIdentity(ctx, &Identity{Subject: "ada"})
	body := []byte(`{"user":{"name":"n"}}`)
	if n := leastAllocations(func() {
		ctx.Request.SetBody(body)
		f.Request(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if got := string(ctx.Request.Body()); got != `{"who":"ada","path":"/p","q":"1","h":"a","name":"n","all":{"user":{"name":"n"}}}` {
		t.Error(got)
	}
}
