package cli

import (
	"fmt"
	"net/http"
	"testing"
)

// Filters' own requests go over TLS where their cluster does. The edge is a process of its own: fasthttp's client leaves goroutines.
func TestFiltersAskOverTLS(t *testing.T) {
	p := newPKI(t)
	auth, _ := tlsOrigin(t, shows(p.host), func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "good" {
			w.WriteHeader(403)
		}
	})
	address := freePort(t)
	p.write("edge.yaml", fmt.Appendf(nil, p.in(`listeners:
  - {name: gateway, address: %q, protocol: http, routes: api}
routes:
  api: [{match: {path_prefix: /}, cluster: plain, filters: [ext_auth: {cluster: auth, path: /}]}]
clusters:
  - {name: plain, endpoints: [{address: %q}]}
  - {name: auth, tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}]}
`), address, httpOrigin(t, echo), auth))
	launch(t, "run", "-c", p.path("edge.yaml")).says("running")
	c := connect(t, address)
	for says, want := range map[string]int{"good": 200, "bad": 403} {
		if resp, _ := asked(t, c, "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: "+says+"\r\n\r\n"); resp.StatusCode != want {
			t.Errorf("%s: %s", says, resp.Status)
		}
	}
}
