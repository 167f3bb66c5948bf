package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const goodConfig = `listeners:
  - {name: edge, address: "127.0.0.1:0", protocol: tcp, cluster: gateways}
  - {name: gateway, address: "127.0.0.1:18101", protocol: http, routes: api}
routes:
  api:
    - match: {path_prefix: /admin}
      filters: [{respond: {status: 403, body: "no\n"}}]
    - match: {host: api.test, path_prefix: /order}
      cluster: orders
clusters:
  - {name: gateways, picker: maglev, endpoints: [{address: "127.0.0.1:8101", weight: 2}]}
  - {name: orders, endpoints: [{address: "127.0.0.1:9101"}]}
`

func TestCheckGoodFile(t *testing.T) {
	var out, errs bytes.Buffer
	name := writeConfig(t, goodConfig)
	if code := execute(nil, []string{"check", "-c", name}, &out, &errs); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	if want := name + " is good: 2 listeners, 2 routes, 2 clusters of 2 endpoints\n"; out.String() != want {
		t.Errorf("said %q, not %q", out.String(), want)
	}
}

// Everything that is wrong is said at once, each with its place, and nothing else.
func TestCheckBadFiles(t *testing.T) {
	for name, x := range map[string]struct {
		text string
		want []string // line:column: message, as many as there are
	}{
		"unknown key": {
			strings.Replace(goodConfig, "picker: maglev", "pickr: maglev", 1),
			[]string{`11:22: unknown key "pickr"; did you mean "picker"?`},
		},
		"wrong type": {
			strings.Replace(goodConfig, "weight: 2", "weight: two", 1),
			[]string{`11:86: expected a whole number, found "two"`},
		},
		"missing cluster": {
			strings.Replace(goodConfig, "cluster: orders", "cluster: order", 1),
			[]string{`9:16: no cluster named "order"; did you mean "orders"?`},
		},
		"duplicate name": {
			strings.Replace(goodConfig, "name: orders", "name: gateways", 1),
			[]string{`9:16: no cluster named "orders"`, `12:12: a second cluster named "gateways"`},
		},
		"bad address": {
			strings.Replace(goodConfig, "127.0.0.1:9101", "127.0.0.1:91010", 1),
			[]string{"12:42: bad address"},
		},
		"no endpoints": {
			strings.Replace(goodConfig, `[{address: "127.0.0.1:9101"}]`, "[]", 1),
			[]string{`12:31: cluster "orders" has no endpoints`},
		},
		"no listeners": {"clusters: []\n", []string{`1:1: key "listeners" is missing`}},
		"two listeners on an address": {
			strings.Replace(goodConfig, "127.0.0.1:0", "127.0.0.1:18101", 1),
			[]string{"3:30: a second listener on 127.0.0.1:18101"},
		},
		"unknown routes": {
			strings.Replace(goodConfig, "routes: api}", "routes: app}", 1),
			[]string{`3:73: no routes named "app"; did you mean "api"?`},
		},
		"two routes for the same": {
			strings.Replace(goodConfig, "{host: api.test, path_prefix: /order}", "{path_prefix: /admin/}", 1),
			[]string{"8:7: "},
		},
		"bad status and header": {
			strings.Replace(goodConfig, `status: 403, body: "no\n"`, `status: 99, headers: {"Content-Length": 3, "a b": c}`, 1),
			[]string{"7:36: status 99", "7:68: expected text", `7:78: "a b" is not a header name`},
		},
		"tcp with routes": {
			strings.Replace(goodConfig, "protocol: tcp,", "protocol: tcp, routes: api,", 1),
			[]string{"2:"},
		},
		"protocol": {
			strings.Replace(goodConfig, "protocol: tcp", "protocol: htp", 1),
			[]string{`2:52: "htp" is not one of tcp, udp, http, tls, https; did you mean "http"?`},
		},
		"several at once": {
			strings.NewReplacer("name: edge", "nam: edge", "weight: 2", "weight: -2", "/order}", "order}").Replace(goodConfig),
			[]string{`2:5: key "name" is missing`, `2:6: unknown key "nam"`, "8:", "11:"},
		},
		"not YAML": {"listeners: [\n", []string{"1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, x.text)
			var out, errs bytes.Buffer
			if code := execute(nil, []string{"check", "-c", file}, &out, &errs); code != exitUsage || out.Len() > 0 {
				t.Errorf("exit %d, said %q", code, out.String())
			}
			var got []string
			for line := range strings.Lines(errs.String()) {
				if at, ok := strings.CutPrefix(line, file+":"); ok {
					got = append(got, at)
				}
			}
			if len(got) != len(x.want) {
				t.Fatalf("%d errors, not %d:\n%s", len(got), len(x.want), errs.String())
			}
			for i, w := range x.want {
				if !strings.HasPrefix(got[i], w) {
					t.Errorf("error %d is %q, not %q…", i, got[i], w)
				}
			}
			if !strings.Contains(errs.String(), "^\n") {
				t.Errorf("no caret:\n%s", errs.String())
			}
		})
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"rum"}, {"check"}, {"run"}, {"check", "-c", "x", "y"}, {"check", "-c", "/does/not/exist"},
		{"run", "-c", "/does/not/exist"}, {"version", "x"}} {
		var out, errs bytes.Buffer
		if code := execute(nil, args, &out, &errs); code != exitUsage || errs.Len() == 0 {
			t.Errorf("%q: exit %d, %q", args, code, errs.String())
		}
	}
	var out, errs bytes.Buffer
	if code := execute(nil, []string{"version"}, &out, &errs); code != 0 || !strings.HasPrefix(out.String(), "sluice ") {
		t.Errorf("version: exit %d, %q", code, out.String())
	}
}
