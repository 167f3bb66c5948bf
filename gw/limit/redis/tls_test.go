package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates, whose files are in dir.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name+".pem") }

func (a *authority) issue(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	c.SerialNumber, c.Subject = big.NewInt(a.n), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	by, signer := a.cert, a.key
	if by == nil {
		by, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name: {Type: "CERTIFICATE", Bytes: der}, name + "-key": {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// leaf issues a certificate for a name.
func (a *authority) leaf(name string) {
	a.issue(name, &x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
}

// By TLS a server is spoken to only if it is the one that is meant, and it may want to know who speaks; with a user's password, too.
func TestTLS(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server here")
	}
	a, b := newAuthority(t), newAuthority(t)
	a.leaf("redis.test")
	a.leaf("client.test")
	b.leaf("client.test")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	var said strings.Builder
	cmd := exec.Command("redis-server", "--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(),
		"--tls-cert-file", a.file("redis.test"), "--tls-key-file", a.file("redis.test-key"), "--tls-ca-cert-file", a.file("ca"),
		"--user", "edge", "on", ">open sesame", "~sluice:*", "+@all")
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	until(t, "redis-server answers", func() bool {
		select {
		case <-ended:
			if strings.Contains(said.String(), "tls-") {
				t.Skip("this redis-server has no TLS")
			}
			t.Fatal(said.String())
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	good := func(edit func(*Config)) Config {
		c := Config{Address: addr, Username: "edge", Password: "open sesame",
			TLS: &TLS{CA: a.file("ca"), ServerName: "redis.test", Cert: a.file("client.test"), Key: a.file("client.test-key")}}
		edit(&c)
		return c
	}
	for _, c := range []struct {
		name, kind string
		cfg        Config
	}{
		{"good", "none", good(func(*Config) {})},
		{"another name", "tls", good(func(c *Config) { c.TLS.ServerName = "other.test" })},
		{"no name: the address's", "tls", good(func(c *Config) { c.TLS.ServerName = "" })},
		{"another authority", "tls", good(func(c *Config) { c.TLS.CA = b.file("ca") })},
		{"the system's authorities", "tls", good(func(c *Config) { c.TLS.CA = "" })},
		// A reset may come before the alert.
		{"no certificate of its own", "", good(func(c *Config) { c.TLS.Cert, c.TLS.Key = "", "" })},
		{"one of another authority", "", good(func(c *Config) { c.TLS.Cert, c.TLS.Key = b.file("client.test"), b.file("client.test-key") })},
		{"another password", "answer", good(func(c *Config) { c.Password = "open barley" })},
		{"without TLS", "connection", good(func(c *Config) { c.TLS = nil })},
	} {
		c.cfg.Validate(func(path, message string) { t.Errorf("%s: %s: %s", c.name, path, message) })
		ledger, err := Open(c.cfg, "x")
		if err == nil {
			err = ledger.Ping(t.Context())
			ledger.Close()
		}
		if got := Kind(err); got != c.kind && (c.kind != "" || err == nil) {
			t.Errorf("%s: %s (%v), not %s", c.name, got, err, c.kind)
		}
		if err != nil && strings.Contains(err.Error(), c.cfg.Password) {
			t.Errorf("%s: the password is told: %v", c.name, err)
		}
	}
}

func TestConfigIsValidated(t *testing.T) {
	a := newAuthority(t)
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Address: "a:1", TLS: &TLS{}}, ""},
		{Config{Address: "a:1", TLS: &TLS{CA: a.file("ca"), Cert: a.file("ca"), Key: a.file("ca-key")}}, ""},
		{Config{Address: "a:1", Username: "u", Password: "p"}, ""},
		{Config{Address: "a:1", Password: "p", PasswordFile: "f"}, "password: takes the place of password_file: give one or the other"},
		{Config{Address: "a:1", TLS: &TLS{Cert: "x"}}, "tls: cert and key go together"},
		{Config{Address: "a:1", TLS: &TLS{CA: a.file("none")}}, "tls: ca: open "},
		{Config{Address: "a:1", TLS: &TLS{CA: a.file("ca-key")}}, "tls: ca: no certificate in "},
		{Config{Address: "a:1", TLS: &TLS{Cert: a.file("ca-key"), Key: a.file("ca")}}, "tls: cert: "},
	} {
		said := ""
		c.cfg.Validate(func(path, message string) { said += fmt.Sprintf("%s: %s", path, message) })
		if !strings.HasPrefix(said, c.want) || (said == "") != (c.want == "") {
			t.Errorf("%+v: %q", c.cfg, said)
		}
	}
}

// Two configurations are the same by what is in them.
func TestConfigID(t *testing.T) {
	a, b, c := Config{Address: "a:1", TLS: &TLS{CA: "x"}}, Config{Address: "a:1", TLS: &TLS{CA: "x"}}, Config{Address: "a:1", TLS: &TLS{CA: "y"}}
	if a.ID() != b.ID() || a.ID() == c.ID() {
		t.Errorf("%s, %s, %s", a.ID(), b.ID(), c.ID())
	}
}
