package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// pebble is Let's Encrypt's ACME server for tests, in a process of its own.
type pebble struct {
	directory, management string
	root                  string // PEM file of who vouches for its API
	client                *http.Client
	http, tls             net.Listener // where it asks
}

// buildPebble is the path of its binary; the test is skipped where there is none, for want of the module.
var buildPebble = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "pebble").CombinedOutput()
	return strings.TrimSpace(string(out)), err
})

func startPebble(t *testing.T) *pebble {
	t.Helper()
	bin, err := buildPebble()
	if err != nil {
		t.Skipf("pebble cannot be built: %v: %s", err, bin)
	}
	p := &pebble{http: listen(t), tls: listen(t)}
	dir := t.TempDir()
	p.root = filepath.Join(dir, "api.pem")
	keyFile := filepath.Join(dir, "api.key")
	serverPair(t, p.root, keyFile)
	api, management := free(t), free(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": management, "certificate": p.root, "privateKey": keyFile,
		"httpPort": portOf(p.http), "tlsPort": portOf(p.tls), "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":     map[string]any{"default": map[string]any{"description": "test", "validityPeriod": 7776000}},
		"keyAlgorithm": "ecdsa",
	}})
	if err != nil {
		t.Fatal(err)
	}
	configFile := filepath.Join(dir, "config.json")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-config", configFile, "-dnsserver", nameserver(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	pool := x509.NewCertPool()
	data, _ := os.ReadFile(p.root)
	pool.AppendCertsFromPEM(data)
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	p.directory, p.management = "https://"+api+"/dir", "https://"+management
	until(t, "pebble", func() bool {
		resp, err := p.client.Get(p.directory)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	return p
}

// issued is who vouches for what the server issues.
func (p *pebble) issued(t *testing.T) *x509.CertPool {
	t.Helper()
	resp, err := p.client.Get(p.management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatalf("no root: %s", data)
	}
	return pool
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// free is an address that nobody listens at.
func free(t *testing.T) string {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func serverPair(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pebble"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// nameserver says that every host is here. It is asked by TCP.
func nameserver(t *testing.T) string {
	t.Helper()
	l := listen(t)
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)}}
		}
		w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return l.Addr().String()
}

func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !yes(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain waited for: ", what)
		}
	}
}

// answer has the listeners ask a manager, which may come later.
func (p *pebble) answer(t *testing.T, m *atomic.Pointer[Manager]) (asked *struct{ http, tls atomic.Int64 }) {
	asked = &struct{ http, tls atomic.Int64 }{}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := m.Load().Challenge(r.Host, r.URL.Path)
		if !ok {
			w.WriteHeader(404)
			return
		}
		asked.http.Add(1)
		io.WriteString(w, body)
	})}
	go web.Serve(p.http)
	t.Cleanup(func() { web.Close() })
	cfg := &tls.Config{NextProtos: []string{Protocol, "http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if IsChallenge(hello) {
			asked.tls.Add(1)
			return m.Load().ChallengeCertificate(hello.ServerName), nil
		}
		return m.Load().Certificate(hello.ServerName, false), nil
	}}
	go func() {
		for {
			c, err := p.tls.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				tls.Server(c, cfg).Handshake()
			}()
		}
	}()
	return asked
}

func (p *pebble) config(t *testing.T, domain string, challenge ChallengeType) Config {
	return Config{Domains: []string{domain}, Email: "ops@a.test", Directory: p.directory, CARoot: p.root, Storage: t.TempDir(),
		Challenges: []ChallengeType{challenge}}
}

func open(t *testing.T, cfg Config) *Manager {
	t.Helper()
	cfg.Validate(func(path, message string) { t.Fatalf("%s: %s", path, message) })
	m, err := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestCertificateIsGot(t *testing.T) {
	p := startPebble(t)
	var answering atomic.Pointer[Manager]
	asked := p.answer(t, &answering)
	for _, c := range []struct {
		domain    string
		challenge ChallengeType
		asked     *atomic.Int64
	}{{"one.test", HTTP01, &asked.http}, {"two.test", TLSALPN01, &asked.tls}} {
		cfg := p.config(t, c.domain, c.challenge)
		m := open(t, cfg)
		answering.Store(m)
		until(t, "the certificate of "+c.domain, func() bool { return m.Certificate(c.domain, false) != nil })
		if c.asked.Load() == 0 {
			t.Errorf("%s was not asked for", c.challenge)
		}
		conn, err := tls.Dial("tcp", p.tls.Addr().String(), &tls.Config{ServerName: c.domain, RootCAs: p.issued(t)})
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if m.Certificate("stranger.test", false) != nil || m.Certificate("stranger.test", true) == nil || len(m.Certificates()) != 1 {
			t.Error("a stranger has a certificate, or is not shown the first")
		}

		// It is kept: another process has it at once.
		before := c.asked.Load()
		again := open(t, cfg)
		got, want := again.Certificate(c.domain, false), m.Certificate(c.domain, false)
		if got == nil || !got.Leaf.Equal(want.Leaf) || c.asked.Load() != before {
			t.Errorf("the certificate was not kept; asked %d times", c.asked.Load()-before)
		}
	}
}

// One node orders, and the CA's question comes to the other.
func TestNodesAnswerForEachOther(t *testing.T) {
	p := startPebble(t)
	var answering atomic.Pointer[Manager]
	asked := p.answer(t, &answering)
	for _, c := range []struct {
		domain    string
		challenge ChallengeType
		asked     *atomic.Int64
	}{{"one.test", HTTP01, &asked.http}, {"two.test", TLSALPN01, &asked.tls}} {
		cfg := p.config(t, c.domain, c.challenge)
		// A node that knows of no order of its own.
		other := &Manager{cfg: cfg, challenges: newChallenges(storageOf(cfg))}
		answering.Store(other)
		m := open(t, cfg)
		until(t, "the certificate of "+c.domain, func() bool { return m.Certificate(c.domain, false) != nil })
		if c.asked.Load() == 0 {
			t.Errorf("%s: the other node was not asked", c.challenge)
		}
	}
}
