package cli

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/tlslayer"
)

// signed is a certificate with its key: of a CA, or of whom it has signed for.
type signed struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var lastSerial atomic.Int64

// sign makes a certificate of ca; the zero value signs for itself.
func (ca signed) sign(t testing.TB, change func(*x509.Certificate)) signed {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(lastSerial.Add(1)),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-48 * time.Hour),
		NotAfter:     time.Now().Add(48 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(c)
	parent, by := ca.cert, ca.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	must(t, err)
	c, err = x509.ParseCertificate(der)
	must(t, err)
	return signed{c, key}
}

func newCA(t testing.TB, name string) signed {
	t.Helper()
	return signed{}.sign(t, func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		c.ExtKeyUsage = nil
	})
}

// host signs for names and for loopback.
func (ca signed) host(t testing.TB, names ...string) signed {
	t.Helper()
	return ca.sign(t, func(c *x509.Certificate) {
		c.DNSNames = names
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	})
}

func (c signed) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

func (c signed) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (c signed) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key, Leaf: c.cert}
}

func (c signed) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

// revoke is a list of ca's, in PEM.
func (ca signed) revoke(t testing.TB, all ...signed) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(lastSerial.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range all {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: c.cert.SerialNumber, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// pki is a CA, a certificate of it for a.test and loopback, and the folder that its files are in.
type pki struct {
	t    testing.TB
	dir  string
	ca   signed
	host signed
}

// newPKI has ca.pem, and host.pem with host.key.
func newPKI(t testing.TB) pki {
	t.Helper()
	p := pki{t: t, dir: t.TempDir(), ca: newCA(t, "test CA")}
	p.host = p.ca.host(t, "a.test", "localhost")
	p.write("ca.pem", p.ca.pem())
	p.pair("host", p.host)
	return p
}

func (p pki) path(name string) string { return filepath.Join(p.dir, name) }

// write exchanges a file by a rename.
func (p pki) write(name string, data ...[]byte) {
	p.t.Helper()
	must(p.t, os.WriteFile(p.path(name+"~"), bytes.Join(data, nil), 0o600))
	must(p.t, os.Rename(p.path(name+"~"), p.path(name)))
}

// pair writes a certificate and its key.
func (p pki) pair(name string, c signed) {
	p.t.Helper()
	p.write(name+".pem", c.pem())
	p.write(name+".key", c.keyPEM(p.t))
}

// in replaces DIR by the folder.
func (p pki) in(text string) string { return strings.ReplaceAll(text, "DIR", p.dir) }

// client trusts the CA and asks for a.test.
func (p pki) client() *tls.Config { return &tls.Config{RootCAs: p.ca.pool(), ServerName: "a.test"} }

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// edge is a server in this process, and what it logs.
type edge struct {
	*server
	t      testing.TB
	log    *journal
	config string // that it was started with
}

// startEdge runs a configuration in this process.
func startEdge(t testing.TB, text string) edge {
	t.Helper()
	f, err := parseFile("test.yaml", []byte(text), nil)
	must(t, err)
	j := &journal{}
	s, err := start(f, slog.New(slog.NewTextHandler(j, nil)))
	must(t, err)
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Log(j)
		}
	})
	return edge{s, t, j, text}
}

// takes reloads the configuration, which must be in force then; refuses, that it must not.
func (e edge) takes(text string) {
	e.t.Helper()
	ok := e.reloads.ok.Load()
	e.reload(func() (*File, error) { return parseFile("test.yaml", []byte(text), nil) })
	if e.reloads.ok.Load() != ok+1 {
		e.t.Fatalf("not reloaded: %s", e.log)
	}
}

func (e edge) refuses(text string) {
	e.t.Helper()
	failed := e.reloads.failed.Load()
	e.reload(func() (*File, error) { return parseFile("test.yaml", []byte(text), nil) })
	if e.reloads.failed.Load() != failed+1 {
		e.t.Fatal("reloaded")
	}
}

// says waits for something in the log.
func (e edge) says(what string) {
	e.t.Helper()
	eventually(e.t, "the log says "+what, func() bool { return strings.Contains(e.log.String(), what) })
}

// failed waits until so many handshakes with clients have failed for a reason, and no other has for another.
func (e edge) failed(kind tlslayer.Kind, n uint64) {
	e.t.Helper()
	server := &e.handshakes.Counters().Server
	eventually(e.t, fmt.Sprintf("%d handshakes fail by %v", n, kind), func() bool {
		all := uint64(0)
		for _, k := range tlslayer.Kinds() {
			all += server.Failed(k)
		}
		return all >= n
	})
	for _, k := range tlslayer.Kinds() {
		if got := server.Failed(k); k != kind && got != 0 || k == kind && got != n {
			e.t.Errorf("%d handshakes have failed by %v", got, k)
		}
	}
}

// dial shakes hands with a listener.
func (e edge) dial(listener string, cfg *tls.Config) *tls.Conn {
	e.t.Helper()
	c := tls.Client(&tap{TCPConn: connect(e.t, e.bound(listener))}, cfg)
	must(e.t, c.Handshake())
	return c
}

// tap is a connection of TLS that knows how it has ended: crypto/tls takes a FIN for an end where a record does.
type tap struct {
	*net.TCPConn
	head []byte // of the record that is read, as much as was
	rest int    // of it
}

// Read implements net.Conn.
func (c *tap) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	for b := p[:n]; len(b) > 0; {
		if c.rest == 0 {
			if len(c.head) == 5 {
				c.head = c.head[:0]
			}
			c.head = append(c.head, b[0])
			if b = b[1:]; len(c.head) == 5 {
				c.rest = int(c.head[3])<<8 | int(c.head[4])
			}
			continue
		}
		k := min(c.rest, len(b))
		b, c.rest = b[k:], c.rest-k
	}
	return n, err
}

// notified says that an alert came last. In TLS 1.3 all records are of data by their heads: one of two bytes is taken for an alert.
func (c *tap) notified() bool {
	const content, tag = 2 + 1, 16
	return len(c.head) == 5 && (c.head[0] == 21 || c.head[0] == 23 && int(c.head[3])<<8+int(c.head[4]) == content+tag)
}

// connect is dial without TLS.
func connect(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	must(t, err)
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// asked sends one request on a connection, and reads its whole answer.
func asked(t testing.TB, c io.ReadWriter, request string) (*http.Response, string) {
	t.Helper()
	_, err := io.WriteString(c, request)
	must(t, err)
	return answered(t, bufio.NewReader(c), "GET")
}

func answered(t testing.TB, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(body)
}

const getRoot = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

// httpOrigin serves by f.
func httpOrigin(t testing.TB, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// tlsOrigin serves by f over TLS, as cfg has it, and says how many connections it was made.
func tlsOrigin(t testing.TB, cfg *tls.Config, f http.HandlerFunc) (address string, connections *atomic.Int64) {
	t.Helper()
	connections = &atomic.Int64{}
	s := httptest.NewUnstartedServer(f)
	s.TLS = cfg
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), connections
}

func deadline() time.Time { return time.Now().Add(patience) }

func within() <-chan time.Time { return time.After(patience) }
