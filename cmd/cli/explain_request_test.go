package cli

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

const askedAbout = `listeners:
  - {name: web, address: "127.0.0.1:%s", protocol: http, routes: api, trusted_proxies: [10.0.0.0/8]}
  - {name: other, address: "127.0.0.1:%s", protocol: http, routes: none}
routes:
  api:
    - {name: admin, match: {path_prefix: /admin}, filters: [respond: {status: 403, body: "no\n"}]}
    - {name: user, match: {host: api.test, path_template: "/users/{id}", methods: [GET]}, cluster: users, timeout: 5s}
    - name: orders
      match: {host: "*.test", path_prefix: /order, headers: [{name: X-Env, value: prod}]}
      clusters: [{cluster: users, weight: 90}, {cluster: canary, weight: 10}]
      split_by: header:X-User
      mirror: {cluster: users, percent: 10}
      filters: [headers: {request: {set: {X-A: b}, remove: [X-Env]}}]
    - {match: {path_prefix: /chat}, cluster: canary}
  none:
    - {name: closed, match: {path_prefix: /}, filters: [respond: {status: 404}]}
clusters:
  - {name: users, picker: maglev, hash_key: "header:X-User", endpoints: [address: "127.0.0.1:9001", address: "127.0.0.1:9002"]}
  - {name: canary, endpoints: [address: "127.0.0.1:9004"]}
admin: {address: "127.0.0.1:%s"}
`

// explain runs explain request.
func explain(args ...string) (code int, out string) {
	var b bytes.Buffer
	code = execute(nil, append([]string{"explain", "request"}, args...), &b, &b)
	return code, b.String()
}

func port(t testing.TB) string {
	_, port, err := net.SplitHostPort(freePort(t))
	must(t, err)
	return port
}

func TestExplainRequest(t *testing.T) {
	file := writeConfig(t, fmt.Sprintf(askedAbout, "1", "2", "3"))
	f := func(args string, want ...string) {
		t.Helper()
		code, out := explain(append([]string{"-c", file}, strings.Fields(args)...)...)
		if code != 0 {
			t.Errorf("%s: exit status %d: %s", args, code, out)
		}
		for _, w := range want {
			if w, absent := strings.CutPrefix(w, "!"); strings.Contains(out, w) == absent {
				t.Errorf("%s: %q is there: %v, in\n%s", args, w, absent, out)
			}
		}
	}
	f("GET https://api.test/order/7 -H X-Env:prod -H X-User:bob",
		"→ #2 orders: matches", `#1 user: path "/order/7" is not /users/{id}`, "#0 admin: path",
		"0 headers\n    - X-Env: prod\n    + X-A: b", "of users, canary by hash", "mirror   users, 10 %", "sent\n  GET /order/7 HTTP/1.1")
	f("GET https://api.test/order/7 -H X-Env:dev", `#2 orders: header X-Env is "dev", not "prod"`, "none matches: 404", "!sent")
	f("POST http://api.test/users/7", "#1 user: method POST is not GET", "none matches: 404")
	f("GET http://api.test/users/7 -H X-User:bob", "→ #1 user", `by maglev of header:X-User "bob", hash`, "→ 127.0.0.1:900", "X-Request-Timeout:")
	f("GET http://api.test/users/7", "by maglev of header:X-User, which it has not, so of the client's address")
	f("GET http://x/a/../%61dmin/;x/y?z", "request  GET /admin/;x/y?z of host x", "matched as /admin/y", "answers 403", "!sent")
	f("GET http://x/%2f", "refused: 400 path encodes")
	f("GET http://x/chat -H Connection:upgrade -H Upgrade:websocket", "websocket is passed on", "one of 1, by round_robin")
	f("GET http://x/chat -H Connection:upgrade -H Upgrade:h2c", "h2c is not allowed")
	f("CONNECT http://x:80", "refused: 405")
	f("GET http://x/chat --from 10.1.1.1 -H X-Forwarded-For:203.0.113.9", "client   203.0.113.9, as the trusted proxy 10.1.1.1 says",
		"X-Forwarded-For: 203.0.113.9, 10.1.1.1")
	f("GET http://x/chat --from 11.1.1.1 -H X-Forwarded-For:203.0.113.9", "client   11.1.1.1\n")
	f("GET http://x/ --listener other", "listener other, routes none", "→ #0 closed")

	for args, want := range map[string]string{
		"GET api.test/x":               "not an http or https URL",
		"GET http://x/ -H nonsense":    "not a header",
		"GET http://x/ --from here":    "not an address",
		"GET http://x/ --listener wep": `did you mean "web"`,
		"GET":                          "accepts 2 arg",
	} {
		if code, out := explain(append([]string{"-c", file}, strings.Fields(args)...)...); code != exitUsage || !strings.Contains(out, want) {
			t.Errorf("%s: exit status %d: %s", args, code, out)
		}
	}
}

// The running process knows what the file does not say: who is up.
func TestExplainRequestLive(t *testing.T) {
	file := writeConfig(t, fmt.Sprintf(askedAbout, port(t), port(t), port(t)))
	r := launch(t, "run", "-c", file)
	r.says("running")
	code, out := explain("-c", file, "--live", "GET", "http://x/chat")
	if code != 0 || !strings.Contains(out, "→ #3") || !strings.Contains(out, "127.0.0.1:9004: up, 0 in flight") {
		t.Errorf("exit status %d: %s", code, out)
	}
	if code, out := explain("-c", file, "--live", "--listener", "nobody", "GET", "http://x/"); code != exitFailed || !strings.Contains(out, "nobody") {
		t.Errorf("exit status %d: %s", code, out)
	}
	must(t, r.Process.Signal(os.Interrupt))
	r.exits()
	if code, out := explain("-c", file, "--live", "GET", "http://x/"); code != exitFailed || !strings.Contains(out, "running process") {
		t.Errorf("exit status %d: %s", code, out)
	}
}
