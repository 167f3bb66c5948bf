package cli

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/engine/tlslayer"
)

// mutual has a gateway that requires certificates of clients, one that asks for them, and one in clear. The origin answers with what
// it is told of them.
const mutual = `listeners:
  - name: require
    address: "127.0.0.1:0"
    protocol: https
    routes: api
    tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}], client_auth: {ca: DIR/clients.pem, crl: DIR/clients.crl}}
  - name: request
    address: "127.0.0.2:0"
    protocol: https
    routes: api
    tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}], client_auth: {mode: request, ca: DIR/clients.pem, crl: DIR/clients.crl}}
  - {name: clear, address: "127.0.0.3:0", protocol: http, routes: api}
  - name: sessions
    address: "127.0.0.4:0"
    protocol: tls
    cluster: origin
    tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}], client_auth: {ca: DIR/clients.pem, crl: DIR/clients.crl}}
routes:
  api:
    - match: {path_prefix: /subject}
      filters: [authorize: {allow: 'identity.subject == "spiffe://a.test/one"'}]
      cluster: origin
    - match: {path_prefix: /claims}
      filters: [authorize: {allow: 'identity.by == "client_cert" && "one.a.test" in identity.claims.dns && identity.claims.subject == "CN=one"'}]
      cluster: origin
    - match: {path_prefix: /limited}
      filters: [rate_limit: {rate: 1/h, burst: 1, key: identity}]
      cluster: origin
    - {match: {path_prefix: /}, cluster: origin}
clusters:
  - {name: origin, endpoints: [address: ORIGIN]}
engine: {loops: 1}
`

// clients are a CA of clients, and some of them.
type clients struct {
	pki
	authority     signed
	one, another  signed
	revoked, late signed
}

func newClients(t testing.TB) clients {
	t.Helper()
	c := clients{pki: newPKI(t), authority: newCA(t, "clients")}
	named := func(name string, change func(*x509.Certificate)) signed {
		return c.authority.sign(t, func(x *x509.Certificate) {
			x.Subject.CommonName = name
			x.DNSNames = []string{name + ".a.test"}
			x.URIs = []*url.URL{{Scheme: "spiffe", Host: "a.test", Path: "/" + name}}
			if change != nil {
				change(x)
			}
		})
	}
	c.one, c.revoked, c.another = named("one", nil), named("revoked", nil), named("another", nil)
	c.late = named("late", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Hour) })
	c.write("clients.pem", c.authority.pem())
	c.write("clients.crl", c.authority.revoke(t, c.revoked))
	return c
}

func (c clients) start(f http.HandlerFunc) edge {
	c.t.Helper()
	return startEdge(c.t, c.in(strings.ReplaceAll(mutual, "ORIGIN", httpOrigin(c.t, f))))
}

// as is the configuration of a client that shows a certificate, whoever is asked for.
func (c clients) as(who signed, version uint16) *tls.Config {
	cfg := c.client()
	cfg.MinVersion, cfg.MaxVersion = version, version
	if who.cert != nil {
		cert := who.tls()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// try is one GET, by a connection of its own; an error if the handshake is refused, which a client of TLS 1.3 reads after it.
func (e edge) try(listener string, cfg *tls.Config, path, fields string) (int, string, error) {
	e.t.Helper()
	tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	req, _ := http.NewRequest("GET", "https://"+e.bound(listener)+path, nil)
	for line := range strings.Lines(fields) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		req.Header[name] = append(req.Header[name], value) // the name as it is
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestClientsAreLetInByTheirCertificates(t *testing.T) {
	c := newClients(t)
	stranger := newCA(t, "another CA").host(t, "one.a.test")
	for name, who := range map[string]struct {
		signed
		required, requested bool
		kind                tlslayer.Kind
	}{
		"good":           {c.one, true, true, 0},
		"none":           {signed{}, false, true, tlslayer.BadCertificate},
		"by another CA":  {stranger, false, false, tlslayer.BadCertificate},
		"expired":        {c.late, false, false, tlslayer.BadCertificate},
		"revoked":        {c.revoked, false, false, tlslayer.BadCertificate},
		"signed by self": {signed{}.sign(t, func(*x509.Certificate) {}), false, false, tlslayer.BadCertificate},
	} {
		for version, v := range versions {
			t.Run(name+" by TLS "+version, func(t *testing.T) {
				e := c.start(echo)
				refused := uint64(0)
				for listener, want := range map[string]bool{"require": who.required, "request": who.requested, "sessions": who.required} {
					status, _, err := e.try(listener, c.as(who.signed, v), "/", "")
					if got := err == nil && status == 200; got != want {
						t.Errorf("%s: %d %v", listener, status, err)
					}
					if err != nil && !strings.Contains(err.Error(), "remote error: tls:") {
						t.Errorf("%s: the client is not told by an alert: %v", listener, err)
					}
					if !want {
						refused++
					}
				}
				e.failed(who.kind, refused)
			})
		}
	}
}

// The origin is told of the certificate by us alone: what a client says of one is removed, however it is written, and whatever the
// listener.
func TestClientCertificatesAreToldByUsAlone(t *testing.T) {
	c := newClients(t)
	e := c.start(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-Forwarded-Client-Cert") {
				fmt.Fprintf(w, "%s=%q", name, values)
			}
		}
	})
	forged := ""
	for _, name := range []string{"X-Forwarded-Client-Cert", "x-forwarded-client-cert", "X-FORWARDED-CLIENT-CERT", "X_Forwarded_Client_Cert",
		"X-Forwarded_Client-Cert", "x_forwarded_client_cert"} {
		forged += name + ":Hash=00;Subject=\"CN=root\"\n"
	}
	for _, test := range []struct {
		listener string
		who      signed
		want     string
	}{
		{"require", c.one, `;Subject="CN=one";URI=spiffe://a.test/one;DNS=one.a.test`},
		{"request", c.one, `;Subject="CN=one";URI=spiffe://a.test/one;DNS=one.a.test`},
		{"request", signed{}, ""},
	} {
		_, body, err := e.try(test.listener, c.as(test.who, 0), "/", forged)
		want := test.want
		if want != "" {
			want = fmt.Sprintf("X-Forwarded-Client-Cert=[%q]", fmt.Sprintf("Hash=%x", sha256.Sum256(test.who.cert.Raw))+want)
		}
		if err != nil || body != want {
			t.Errorf("%s: %s, want %s: %v", test.listener, body, want, err)
		}
	}
	_, body := asked(t, connect(t, e.bound("clear")), "GET / HTTP/1.1\r\nHost: a.test\r\n"+strings.ReplaceAll(forged, "\n", "\r\n")+"\r\n")
	if body != "" {
		t.Errorf("in clear: %s", body)
	}
	// Nor by a trailer or by Connection, which would have a field of ours taken for the connection's.
	for _, field := range []string{"Connection:X-Forwarded-Client-Cert", "Connection:x-forwarded-client-cert, close"} {
		if _, body, _ := e.try("require", c.as(c.one, 0), "/", field); !strings.Contains(body, "CN=one") {
			t.Errorf("%s: %q", field, body)
		}
	}
}

// Filters know clients by their certificates.
func TestFiltersKnowClientsByTheirCertificates(t *testing.T) {
	c := newClients(t)
	e := c.start(echo)
	for _, test := range []struct {
		listener string
		who      signed
		path     string
		want     int
	}{
		{"require", c.one, "/subject", 200}, {"require", c.another, "/subject", 403},
		{"request", c.one, "/subject", 200}, {"request", signed{}, "/subject", 403},
		{"require", c.one, "/claims", 200}, {"require", c.another, "/claims", 403}, {"request", signed{}, "/claims", 403},
		// Of one identity the second is too many, of another it is the first; both come from one address.
		{"require", c.one, "/limited", 200}, {"require", c.one, "/limited", 429}, {"require", c.another, "/limited", 200},
	} {
		if got, _, err := e.try(test.listener, c.as(test.who, 0), test.path, ""); err != nil || got != test.want {
			t.Errorf("%s %s by %s: %d, want %d: %v", test.listener, test.path, nameOf(test.who), got, test.want, err)
		}
	}
	resp, _ := asked(t, connect(t, e.bound("clear")), "GET /subject HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if resp.StatusCode != 403 {
		t.Errorf("in clear: %s", resp.Status)
	}
}

// A session is not resumed past what has become of its certificate, or of who vouched for it.
func TestClientsThatAreTrustedNoMoreAreNotResumed(t *testing.T) {
	c := newClients(t)
	e := c.start(echo)
	for what, change := range map[string]func(){
		"revoked": func() { c.write("clients.crl", c.authority.revoke(t, c.one)) },
		"another CA": func() {
			other := newCA(t, "other")
			c.write("clients.pem", other.pem())
			c.write("clients.crl", other.revoke(t))
		},
	} {
		for version, v := range versions {
			cfg := c.as(c.one, v)
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			resumed := e.handshakes.Counters().Server.Resumed.Load()
			for range 2 {
				if status, _, err := e.try("require", cfg, "/", ""); status != 200 {
					t.Fatalf("TLS %s: %d %v", version, status, err)
				}
			}
			if e.handshakes.Counters().Server.Resumed.Load() != resumed+1 {
				t.Fatalf("TLS %s: not resumed, so that nothing is tested", version)
			}
			change()
			e.takes(e.config)
			if status, _, err := e.try("require", cfg, "/", ""); err == nil {
				t.Errorf("%s, TLS %s: %d", what, version, status)
			}
			c.write("clients.pem", c.authority.pem())
			c.write("clients.crl", c.authority.revoke(t))
			e.takes(e.config)
		}
	}
}

func nameOf(c signed) string {
	if c.cert == nil {
		return "nobody"
	}
	return c.cert.Subject.CommonName
}
