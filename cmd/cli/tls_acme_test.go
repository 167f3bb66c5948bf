package cli

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// pebble is Let's Encrypt's ACME server for tests, in a process of its own.
type pebble struct {
	directory, management string
	client                *http.Client
}

// startPebble asks for proofs at two ports of loopback, whatever the domain.
func startPebble(t testing.TB, p pki, httpAddress, tlsAddress string) pebble {
	t.Helper()
	bin, err := exec.Command("go", "tool", "-n", "pebble").CombinedOutput()
	if err != nil {
		t.Skipf("pebble cannot be built: %v: %s", err, bin)
	}
	port := func(address string) int {
		_, text, _ := net.SplitHostPort(address)
		n, _ := strconv.Atoi(text)
		return n
	}
	api, management := freePort(t), freePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": management, "certificate": p.path("host.pem"), "privateKey": p.path("host.key"),
		"httpPort": port(httpAddress), "tlsPort": port(tlsAddress), "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":     map[string]any{"default": map[string]any{"description": "test", "validityPeriod": 7776000}},
		"keyAlgorithm": "ecdsa",
	}})
	must(t, err)
	p.write("pebble.json", config)
	cmd := exec.Command(strings.TrimSpace(string(bin)), "-config", p.path("pebble.json"), "-dnsserver", nameserver(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	var said journal
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(&said)
		}
	})
	b := pebble{"https://" + api + "/dir", "https://" + management,
		&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.ca.pool()}, DisableKeepAlives: true}}}
	eventually(t, "pebble answers", func() bool {
		resp, err := b.client.Get(b.directory)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	return b
}

// roots vouch for what it issues.
func (b pebble) roots(t testing.TB) *x509.CertPool {
	t.Helper()
	resp, err := b.client.Get(b.management + "/roots/0")
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatalf("no root: %s", data)
	}
	return pool
}

// nameserver says, over TCP, that every host is at loopback.
func nameserver(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &dns.Server{Listener: ln, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	t.Cleanup(func() { _ = s.Shutdown() })
	return ln.Addr().String()
}

// The binary gets its certificate from a CA by itself: by its listener in clear, whatever that does with other requests, and by the
// one that the certificate is for. A certificate of a file is for other names beside it.
func TestBinaryGetsItsCertificates(t *testing.T) {
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			p := newPKI(t)
			clear, secure := freePort(t), freePort(t)
			b := startPebble(t, p, clear, secure)
			p.write("edge.yaml", fmt.Appendf(nil, p.in(`listeners:
  - {name: clear, address: %q, protocol: http, routes: api, filters: [redirect: {scheme: https}]}
  - name: secure
    address: %q
    protocol: https
    routes: api
    tls:
      certificates: [{cert: DIR/host.pem, key: DIR/host.key}]
      client_auth: {mode: request, ca: DIR/ca.pem}
      acme: {domains: [got.test], email: ops@a.test, directory: %q, ca_root: DIR/ca.pem, storage: DIR/acme, challenges: [%s]}
routes:
  api: [{match: {path_prefix: /}, filters: [respond: {status: 200, body: good}]}]
`), clear, secure, b.directory, challenge))
			r := launch(t, "run", "-c", p.path("edge.yaml"))
			r.says("running")
			cfg := &tls.Config{ServerName: "got.test", RootCAs: b.roots(t)}
			eventually(t, "the certificate is shown", func() bool {
				c, err := tls.Dial("tcp", secure, cfg)
				if err == nil {
					c.Close()
				}
				return err == nil
			})
			c, err := tls.Dial("tcp", secure, cfg)
			must(t, err)
			defer c.Close()
			if resp, body := asked(t, c, "GET / HTTP/1.1\r\nHost: got.test\r\n\r\n"); resp.StatusCode != 200 || body != "good" {
				t.Errorf("%s %q", resp.Status, body)
			}
			if c, err = tls.Dial("tcp", secure, p.client()); err != nil {
				t.Errorf("by the certificate of the file: %v", err)
			} else {
				c.Close()
			}
			if resp, _ := asked(t, connect(t, clear), "GET /.well-known/acme-challenge/none HTTP/1.1\r\nHost: got.test\r\n\r\n"); resp.StatusCode != 404 {
				t.Errorf("a challenge that there is not: %s", resp.Status)
			}
			if resp, _ := asked(t, connect(t, clear), getRoot); resp.StatusCode/100 != 3 {
				t.Errorf("another request in clear: %s", resp.Status)
			}
		})
	}
}
