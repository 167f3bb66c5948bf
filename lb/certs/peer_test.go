package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// peer has a client with a certificate shake hands, and is what the server knows of it.
func peer(t *testing.T, change func(*x509.Certificate)) (*Peer, testCA) {
	t.Helper()
	f, ca := newFolder(t), newCA(t, "root")
	own := ca.sign(t, newKey(t), change)
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))},
		ClientAuth: &ClientAuth{CA: f.write("ca.pem", ca.pem())}})
	m := meet(t, s.Config(), &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), Certificates: []tls.Certificate{own.tls()}}).ok(t)
	return PeerOf(&m.server), own
}

func address(s string) *url.URL { return must(url.Parse(s)) }

func TestPeerIsWhoTheCertificateSays(t *testing.T) {
	p, own := peer(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "client", Organization: []string{"Test"}, Country: []string{"CH"}}
		c.URIs = []*url.URL{address("https://a.test/x"), address("spiffe://a.test/ns/x")}
		c.DNSNames, c.EmailAddresses, c.IPAddresses = []string{"c.test", "d.test"}, []string{"c@c.test"}, []net.IP{net.IPv4(192, 0, 2, 1)}
	})
	if p.Subject != "CN=client,O=Test,C=CH" || p.Issuer != "CN=root" ||
		!slices.Equal(p.URIs, []string{"spiffe://a.test/ns/x", "https://a.test/x"}) || !slices.Equal(p.DNS, []string{"c.test", "d.test"}) ||
		!slices.Equal(p.Emails, []string{"c@c.test"}) || !slices.Equal(p.IPs, []string{"192.0.2.1"}) ||
		p.Serial != own.cert.SerialNumber.Text(16) || !p.NotAfter.Equal(own.cert.NotAfter) {
		t.Errorf("%+v", p)
	}
	hash := hex.EncodeToString(p.Fingerprint[:])
	for _, c := range []struct {
		by   []string
		want string
	}{
		{nil, "Hash=" + hash + `;Subject="CN=client,O=Test,C=CH";URI=spiffe://a.test/ns/x;URI=https://a.test/x;DNS=c.test;DNS=d.test`},
		{[]string{"spiffe://a.test/edge"}, "By=spiffe://a.test/edge;Hash=" + hash +
			`;Subject="CN=client,O=Test,C=CH";URI=spiffe://a.test/ns/x;URI=https://a.test/x;DNS=c.test;DNS=d.test`},
	} {
		if got := string(p.AppendXFCC([]byte("x,"), c.by, false)); got != "x,"+c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
	got := string(p.AppendXFCC(nil, nil, true))
	_, text, _ := strings.Cut(got, `;Cert="`)
	text, _, _ = strings.Cut(text, `"`)
	plain, err := url.PathUnescape(text)
	if err != nil || !bytes.Equal([]byte(plain), own.pem()) || strings.ContainsAny(text, " +;,=\n") {
		t.Errorf("%v: %s", err, text)
	}
}

func TestXFCCHoldsNoMoreThanItsElement(t *testing.T) {
	p, _ := peer(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "é\";Hash=0,By=x\\\r\nX: y"}
		c.URIs = []*url.URL{address("spiffe://a/b,c;d=e")}
	})
	hash := hex.EncodeToString(p.Fingerprint[:])
	want := "Hash=" + hash + `;Subject="CN=\C3\A9\"\;Hash=0\,By=x\\\0D\0AX: y";URI="spiffe://a/b,c;d=e"`
	if got := string(p.AppendXFCC(nil, nil, false)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for in, want := range map[string]string{"a\r\nb": "a%0D%0Ab", `a"b\c`: `"a\"b\\c"`, "a b": `"a b"`} {
		if got := string(appendValue(nil, in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestXFCCWithoutNames(t *testing.T) {
	p, _ := peer(t, func(c *x509.Certificate) { c.Subject = pkix.Name{}; c.DNSNames = nil })
	if got, want := string(p.AppendXFCC(nil, nil, false)), "Hash="+hex.EncodeToString(p.Fingerprint[:])+`;Subject="";URI=`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestUnverifiedIsNobody(t *testing.T) {
	ca := newCA(t, "root")
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{ca.cert}}
	if p := PeerOf(&state); p != nil {
		t.Errorf("%+v", p)
	}
}

func TestXFCCDoesNotAllocate(t *testing.T) {
	p, _ := peer(t, func(c *x509.Certificate) {
		c.DNSNames, c.URIs = []string{"c.test"}, []*url.URL{address("spiffe://a.test/x")}
	})
	by, dst := []string{"spiffe://a.test/edge"}, make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { dst = p.AppendXFCC(dst[:0], by, false) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLocalIsTheCertificateThatIsShown(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	named := func(name, uri string) Certificate {
		return f.pair(name, ca.sign(t, newKey(t), func(c *x509.Certificate) { c.DNSNames, c.URIs = []string{name}, []*url.URL{address(uri)} }))
	}
	s, _ := newStore(t, Config{Certificates: []Certificate{named("a.test", "spiffe://a"), named("b.test", "spiffe://b")}})
	for name, want := range map[string]string{"a.test": "spiffe://a", "b.test": "spiffe://b", "": "spiffe://a", "c.test": "spiffe://a"} {
		if got := s.Local(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func BenchmarkAppendXFCC(b *testing.B) {
	p := &Peer{Subject: "CN=client,O=Test", URIs: []string{"spiffe://a.test/ns/x"}, DNS: []string{"c.test"}}
	by, dst := []string{"spiffe://a.test/edge"}, make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = p.AppendXFCC(dst[:0], by, false)
	}
}
