package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
)

func newClient(t *testing.T, cfg ClientConfig) (*Client, *journal) {
	t.Helper()
	j := &journal{}
	c, err := NewClient(cfg, j.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, j
}

func pinOf(c testCA) string {
	sum := sha256.Sum256(c.cert.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

func TestEndpointIsVerified(t *testing.T) {
	f, ca, other := newFolder(t), newCA(t, "root"), newCA(t, "other")
	own := ca.forNames(t, "a.test")
	caFile, otherFile := f.write("ca.pem", ca.pem()), f.write("other.pem", other.pem())
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", own, ca)}})
	// An endpoint that shows a certificate of ours behind its own has not proved to be it.
	liar := other.forNames(t, "a.test")
	shown := liar.tls()
	shown.Certificate = append(shown.Certificate, own.cert.Raw)
	lying := &tls.Config{Certificates: []tls.Certificate{shown}}
	for name, c := range map[string]struct {
		cfg    ClientConfig
		host   string
		server *tls.Config
		want   string
	}{
		"good":                   {ClientConfig{CA: caFile}, "a.test", nil, ""},
		"another CA":             {ClientConfig{CA: otherFile}, "a.test", nil, "unknown authority"},
		"the system's":           {ClientConfig{CA: "system"}, "a.test", nil, "unknown authority"},
		"not given":              {ClientConfig{}, "a.test", nil, "unknown authority"},
		"another host":           {ClientConfig{CA: caFile}, "b.test", nil, "not b.test"},
		"named":                  {ClientConfig{CA: caFile, ServerName: "a.test"}, "127.0.0.1", nil, ""},
		"nobody asked":           {ClientConfig{InsecureSkipVerify: true}, "b.test", nil, ""},
		"pinned":                 {ClientConfig{CA: caFile, Pins: []string{pinOf(other), pinOf(own)}}, "a.test", nil, ""},
		"pinned without prefix":  {ClientConfig{CA: caFile, Pins: []string{pinOf(own)[7:]}}, "a.test", nil, ""},
		"its CA is pinned":       {ClientConfig{CA: caFile, Pins: []string{pinOf(ca)}}, "a.test", nil, ""},
		"another is pinned":      {ClientConfig{CA: caFile, Pins: []string{pinOf(other)}}, "a.test", nil, "none of those that are pinned"},
		"pinned alone":           {ClientConfig{InsecureSkipVerify: true, Pins: []string{pinOf(own)}}, "b.test", nil, ""},
		"another pinned alone":   {ClientConfig{InsecureSkipVerify: true, Pins: []string{pinOf(other)}}, "b.test", nil, "none of those that are pinned"},
		"pinned alone, shown":    {ClientConfig{InsecureSkipVerify: true, Pins: []string{pinOf(own)}}, "a.test", lying, "none of those that are pinned"},
		"version":                {ClientConfig{CA: caFile, MinVersion: "1.3"}, "a.test", &tls.Config{Certificates: []tls.Certificate{own.tls()}, MaxVersion: tls.VersionTLS12}, "protocol version"},
		"pinned, shown, trusted": {ClientConfig{CA: otherFile, Pins: []string{pinOf(own)}}, "a.test", lying, "none of those that are pinned"},
	} {
		client, _ := newClient(t, c.cfg)
		server := c.server
		if server == nil {
			server = s.Config()
		}
		m := meet(t, server, client.Config(c.host))
		if c.want == "" && m.clientErr != nil || c.want != "" && (m.clientErr == nil || !strings.Contains(m.clientErr.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, m.clientErr, c.want)
		}
	}
}

func TestProtocolsTowardsEndpoints(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}})
	caFile := f.write("ca.pem", ca.pem())
	for _, c := range []struct {
		configured, spoken []string
		want               string
	}{{nil, nil, ""}, {nil, []string{"http/1.1"}, "http/1.1"}, {[]string{"h2"}, []string{"http/1.1"}, "h2"}} {
		client, _ := newClient(t, ClientConfig{CA: caFile, ALPN: c.configured})
		m := meet(t, s.Config("http/1.1", "h2"), client.Config("a.test", c.spoken...)).ok(t)
		if m.server.NegotiatedProtocol != c.want {
			t.Errorf("%q, want %q", m.server.NegotiatedProtocol, c.want)
		}
	}
}

func TestSessionsTowardsEndpoints(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}})
	caFile := f.write("ca.pem", ca.pem())
	for sessions, want := range map[int]bool{0: true, 1: true, -1: false} {
		client, _ := newClient(t, ClientConfig{CA: caFile, Sessions: sessions})
		meet(t, s.Config(), client.Config("a.test")).ok(t)
		if got := meet(t, s.Config(), client.Config("a.test")).ok(t).client.DidResume; got != want {
			t.Errorf("%d sessions: resumed %v", sessions, got)
		}
	}
}

func TestCertificateTowardsEndpointsIsReloaded(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))},
		ClientAuth: &ClientAuth{CA: f.write("ca.pem", ca.pem())}})
	named := func(name string) testCA {
		return ca.sign(t, newKey(t), func(c *x509.Certificate) { c.Subject.CommonName = name })
	}
	files := f.pair("client", named("first"))
	client, log := newClient(t, ClientConfig{CA: f.dir + "/ca.pem", Cert: files.Cert, Key: files.Key})
	who := func() string {
		m := meet(t, s.Config(), client.Config("a.test")).ok(t)
		return PeerOf(&m.server).Subject
	}
	if got := who(); got != "CN=first" {
		t.Fatal(got)
	}
	second := named("second")
	f.write("client.pem", second.pem())
	client.Refresh()
	if got := who(); got != "CN=first" || !log.has("not reloaded") {
		t.Errorf("%s, with a key that does not match", got)
	}
	f.write("client.key", second.keyPEM(t))
	client.Refresh()
	if got := who(); got != "CN=second" { // also: the session of the first is not resumed
		t.Error(got)
	}
	until(t, "the files to be watched", func() bool {
		f.pair("client", named("third"))
		return who() == "CN=third"
	})
	f.write("ca.pem", newCA(t, "other").pem())
	client.Refresh()
	if m := meet(t, s.Config(), client.Config("a.test")); m.clientErr == nil {
		t.Errorf("an endpoint of a CA that is dismissed is believed, resumed %v", m.client.DidResume)
	}
}

func TestClientConfigIsValidated(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	pair := f.pair("a", ca.forNames(t, "a.test"))
	caFile := f.write("ca.pem", ca.pem())
	for name, c := range map[string]struct {
		cfg           ClientConfig
		want, warning string
	}{
		"empty":      {ClientConfig{}, "", ""},
		"full":       {ClientConfig{CA: caFile, Cert: pair.Cert, Key: pair.Key, Pins: []string{pinOf(ca)}, MinVersion: "1.3", ALPN: []string{"h2"}}, "", ""},
		"anybody":    {ClientConfig{InsecureSkipVerify: true}, "", "whoever answers"},
		"pinned":     {ClientConfig{InsecureSkipVerify: true, Pins: []string{pinOf(ca)}}, "", ""},
		"CA unasked": {ClientConfig{InsecureSkipVerify: true, CA: caFile, Pins: []string{pinOf(ca)}}, "ca: ", ""},
		"no CA":      {ClientConfig{CA: "gone.pem"}, "ca: open gone.pem", ""},
		"pin":        {ClientConfig{Pins: []string{pinOf(ca), "sha256/AAAA"}}, "pins[1]: ", ""},
		"key alone":  {ClientConfig{Key: pair.Key}, "key: ", ""},
		"cert":       {ClientConfig{Cert: pair.Cert, Key: "gone.key"}, "cert: open gone.key", ""},
		"version":    {ClientConfig{MinVersion: "1"}, "min_version: ", ""},
		"alpn":       {ClientConfig{ALPN: []string{""}}, "alpn[0]: ", ""},
		"sessions":   {ClientConfig{Sessions: -2}, "sessions: ", ""},
	} {
		var got []string
		c.cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
			t.Errorf("%s: %q, want one of %q", name, got, c.want)
		}
		w := ""
		c.cfg.Warn(func(path, message string) { w += path + ": " + message })
		if c.warning == "" && w != "" || !strings.Contains(w, c.warning) {
			t.Errorf("%s: warnings %q, want %q", name, w, c.warning)
		}
	}
}
