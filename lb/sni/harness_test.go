package sni

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if code := m.Run(); code != 0 {
		os.Exit(code)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire is a connection on which everything has come already and after which nothing does. It keeps what is written.
type wire struct {
	net.Conn
	in  bytes.Reader
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)       { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error)      { return w.out.Write(p) }
func (w *wire) Close() error                     { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// captured is the first that a client with this configuration sends.
func captured(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	w := &wire{}
	if err := tls.Client(w, cfg).Handshake(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return w.out.Bytes()
}

// client is a hello that crypto/tls made, and what is in it.
type client struct {
	about string
	hello []byte
	name  string
	alpn  []string
}

// reals are the hellos of clients that differ.
func reals(t testing.TB) (list []client) {
	t.Helper()
	add := func(about, name string, cfg *tls.Config) {
		cfg.InsecureSkipVerify = true
		list = append(list, client{about, captured(t, cfg), name, cfg.NextProtos})
	}
	classic := []tls.CurveID{tls.X25519}
	add("no name", "", &tls.Config{})
	add("a name", "api.test", &tls.Config{ServerName: "api.test"})
	add("a name in capitals", "api.shop-1.test", &tls.Config{ServerName: "API.Shop-1.Test"})
	add("a name with a dot at its end", "api.test", &tls.Config{ServerName: "api.test."}) // the client takes it off
	add("an address", "", &tls.Config{ServerName: "192.0.2.1"})
	add("the longest name", strings.Repeat("a.", 127)+"b", &tls.Config{ServerName: strings.Repeat("a.", 127) + "b"})
	add("protocols", "api.test", &tls.Config{ServerName: "api.test", NextProtos: []string{"h2", "http/1.1"},
		CurvePreferences: classic})
	add("protocols and no name", "", &tls.Config{NextProtos: []string{"acme-tls/1"}, CurvePreferences: classic})
	add("TLS 1.2", "api.test", &tls.Config{ServerName: "api.test", MaxVersion: tls.VersionTLS12})
	add("TLS 1.0", "api.test", &tls.Config{ServerName: "api.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	add("TLS 1.3 without post-quantum keys", "api.test", &tls.Config{ServerName: "api.test", CurvePreferences: classic})
	add("post-quantum keys", "api.test", &tls.Config{ServerName: "api.test",
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}})
	var many []string
	for i := range 700 {
		many = append(many, fmt.Sprintf("protocol-%010d", i))
	}
	add("14 KiB of protocols", "api.test", &tls.Config{ServerName: "api.test", NextProtos: many, CurvePreferences: classic})
	add("an encrypted hello within", "public.test", &tls.Config{ServerName: "secret.test", MinVersion: tls.VersionTLS13,
		EncryptedClientHelloConfigList: echList(t, "public.test")})
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := &tls.Config{ServerName: "api.test", MaxVersion: v, CurvePreferences: classic,
			ClientSessionCache: tls.NewLRUClientSessionCache(0)}
		meet(t, cfg)
		add("a session of "+tls.VersionName(v)+" resumed", "api.test", cfg)
	}
	return list
}

// echList offers to encrypt hellos, under a public name (RFC 9849, section 4).
func echList(t testing.TB, public string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	must(t, err)
	cfg := cat([]byte{7}, u16(0x20), list16(key.PublicKey().Bytes()), list16(cat(u16(1), u16(1))), []byte{0}, list8([]byte(public)),
		list16(nil))
	return list16(cat(u16(0xfe0d), list16(cfg)))
}

// meet has a client shake hands with a server, and get a ticket.
func meet(t testing.TB, cfg *tls.Config) {
	t.Helper()
	cfg.InsecureSkipVerify = true
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"api.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	must(t, err)
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		server, err := l.Accept()
		if err == nil {
			_, err = server.Write([]byte("x")) // read by the client, and the ticket before it
			err = errors.Join(err, server.Close())
		}
		served <- err
	}()
	client, err := tls.Dial("tcp", l.Addr().String(), cfg)
	must(t, err)
	_, err = io.ReadFull(client, make([]byte, 1))
	must(t, errors.Join(err, <-served, client.Close()))
	if _, ok := cfg.ClientSessionCache.Get(cfg.ServerName); !ok {
		t.Fatal("no ticket came")
	}
}

// message is the handshake message in a whole hello, without the records' heads.
func message(hello []byte) (m []byte) {
	for len(hello) > 0 {
		n := 5 + int(binary.BigEndian.Uint16(hello[3:]))
		m = append(m, hello[5:n]...)
		hello = hello[n:]
	}
	return m
}

// records is a message in records of a size.
func records(m []byte, size int) (b []byte) {
	for part := range slices.Chunk(m, size) {
		b = append(append(b, 22, 3, 1, byte(len(part)>>8), byte(len(part))), part...)
	}
	return b
}

// protocols is what a hello offers, as strings.
func protocols(h *Hello) (list []string) {
	for p := range h.Protocols() {
		list = append(list, string(p))
	}
	return list
}

// For hellos that no client makes.

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }
func u16(v int) []byte           { return []byte{byte(v >> 8), byte(v)} }
func list8(p []byte) []byte      { return cat([]byte{byte(len(p))}, p) }
func list16(p []byte) []byte     { return cat(u16(len(p)), p) }

func ext(kind int, body []byte) []byte { return cat(u16(kind), list16(body)) }

// named is a server_name extension for a host name.
func named(name string) []byte { return ext(0, list16(cat([]byte{0}, list16([]byte(name))))) }

// alpn is the extension for protocols.
func alpn(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, list8([]byte(n))...)
	}
	return ext(16, list16(list))
}

// parts are those of a ClientHello, which is as small as it can be by default.
type parts struct {
	version, random, session, suites, compression, extensions []byte
}

func hello(change func(*parts)) []byte {
	p := &parts{version: u16(0x303), random: make([]byte, 32), session: list8(nil), suites: list16(u16(0x1301)),
		compression: list8([]byte{0})}
	change(p)
	return wrapped(cat(p.version, p.random, p.session, p.suites, p.compression, p.extensions))
}

// wrapped is the body of a ClientHello in a record.
func wrapped(body []byte) []byte {
	return records(cat([]byte{1, 0}, u16(len(body)), body), 1<<14)
}

// extended is a ClientHello with extensions.
func extended(exts ...[]byte) []byte {
	return hello(func(p *parts) { p.extensions = list16(cat(exts...)) })
}
