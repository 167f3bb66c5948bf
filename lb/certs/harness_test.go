package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// testCA is a certificate with its key: of a CA, or of who it has signed for.
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serials = struct {
	sync.Mutex
	last int64
}{last: 1000}

func serial() *big.Int {
	serials.Lock()
	defer serials.Unlock()
	serials.last++
	return big.NewInt(serials.last)
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var rsaKey = sync.OnceValue(func() crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func newCA(t *testing.T, name string) testCA {
	t.Helper()
	return testCA{}.sign(t, newKey(t), func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = nil
	})
}

// sign makes a certificate of ca, or of itself if that is none.
func (ca testCA) sign(t *testing.T, key crypto.Signer, change func(*x509.Certificate)) testCA {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(c)
	parent, by := ca.cert, ca.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return testCA{c, key}
}

func (ca testCA) forNames(t *testing.T, names ...string) testCA {
	t.Helper()
	return ca.sign(t, newKey(t), func(c *x509.Certificate) { c.DNSNames = names })
}

func (ca testCA) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

func (ca testCA) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (ca testCA) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{ca.cert.Raw}, PrivateKey: ca.key, Leaf: ca.cert}
}

func (ca testCA) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// revoke is a list of ca's, PEM.
func (ca testCA) revoke(t *testing.T, next time.Time, revoked ...testCA) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: serial(), ThisUpdate: next.Add(-24 * time.Hour), NextUpdate: next}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.cert.SerialNumber, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// folder is one of files that a test writes.
type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T) folder { return folder{t, t.TempDir()} }

// write exchanges a file by a rename, and returns its path.
func (f folder) write(name string, data ...[]byte) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path+"~", bytes.Join(data, nil), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// pair writes a certificate, those that it comes with, and its key.
func (f folder) pair(name string, c testCA, chain ...testCA) Certificate {
	f.t.Helper()
	text := c.pem()
	for _, up := range chain {
		text = append(text, up.pem()...)
	}
	return Certificate{Cert: f.write(name+".pem", text), Key: f.write(name+".key", c.keyPEM(f.t))}
}

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) has(s string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.text.String(), s)
}

func (j *journal) log() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func newStore(t *testing.T, cfg Config) (*Store, *journal) {
	t.Helper()
	j := &journal{}
	s, err := New(cfg, j.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, j
}

// met is how a handshake went: with both ends' states, and errors.
type met struct {
	server, client       tls.ConnectionState
	serverErr, clientErr error
}

func (m met) ok(t *testing.T) met {
	t.Helper()
	if m.serverErr != nil || m.clientErr != nil {
		t.Fatalf("server: %v; client: %v", m.serverErr, m.clientErr)
	}
	return m
}

// refused says that the client was, and that both ends know.
func (m met) refused(t *testing.T, alert string) {
	t.Helper()
	if m.serverErr == nil || m.clientErr == nil || !strings.Contains(m.clientErr.Error(), alert) {
		t.Errorf("server: %v; client: %v, want %q", m.serverErr, m.clientErr, alert)
	}
}

// meet has a client and a server shake hands over loopback, and a byte go either way: the client has then read its tickets.
func meet(t *testing.T, server, client *tls.Config) (m met) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			m.serverErr = err
			return
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(10 * time.Second))
		c := tls.Server(raw, server)
		if m.serverErr = c.Handshake(); m.serverErr == nil {
			m.server = c.ConnectionState()
			if _, m.serverErr = io.ReadFull(c, make([]byte, 1)); m.serverErr == nil {
				_, m.serverErr = c.Write([]byte{1})
			}
		}
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(raw, client)
	if m.clientErr = c.Handshake(); m.clientErr == nil {
		m.client = c.ConnectionState()
		c.Write([]byte{1}) // where it is refused the read says why
		_, m.clientErr = io.ReadFull(c, make([]byte, 1))
	}
	<-done
	return m
}

// until waits for a condition.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !yes(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain waited for: ", what)
		}
	}
}
