package sni

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"testing"
)

// theirs is what crypto/tls reads in a hello; false if it would not even look for a certificate.
func theirs(b []byte) (name string, alpn []string, ok bool) {
	w := &wire{in: *bytes.NewReader(b)}
	_ = tls.Server(w, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		name, alpn, ok = i.ServerName, i.SupportedProtos, true
		return nil, errors.New("that is all")
	}}).Handshake()
	return name, alpn, ok
}

// stricter are the reasons for which we refuse hellos that crypto/tls goes on with.
var stricter = map[*Error]string{
	errRecord:      "crypto/tls does not look at the version of later records",
	errInterleaved: "it skips warnings",
	errLarge:       "it takes 64 KiB",
	errTrailing:    "it lets TLS 1.2's clients send more in the same record",
	errVersion:     "it takes any version when supported_versions has a good one",
	errSession:     "it takes session ids of 255 bytes",
	errSuites:      "it finds out later that there are none",
	errCompression: "it finds out later that there are none",
	errNames:       "it skips names of other types",
	errName:        "it takes any bytes for a name",
	errAddress:     "it takes any bytes for a name",
}

// agree holds what we read in b against what crypto/tls does.
func agree(t *testing.T, b []byte) {
	t.Helper()
	var h Hello
	err := Scan(b, &h)
	if err == nil && len(h.ServerName) > 0 && checkName(h.ServerName) != nil {
		t.Fatalf("%q: %q is no host name", b, h.ServerName)
	}
	name, alpn, ok := theirs(b)
	if !ok {
		return // it looks into extensions that we pass over
	}
	var bad *Error
	switch {
	case err == nil:
		want := []byte(name)
		lower(want)
		if string(h.ServerName) != string(want) || !slices.Equal(protocols(&h), alpn) {
			t.Fatalf("%q: %q and %q, crypto/tls reads %q and %q", b, h.ServerName, protocols(&h), name, alpn)
		}
	case err == ErrNotTLS && (b[0] == 21 || b[1] != 3): // it skips warnings, and goes on with TLS 2
	case errors.As(err, &bad) && stricter[bad] != "":
	default:
		t.Fatalf("%q: %v, but crypto/tls reads %q", b, err, name)
	}
}

func FuzzScan(f *testing.F) {
	for _, r := range reals(f) {
		if len(r.hello) < 2000 {
			f.Add(r.hello, uint16(0))
			f.Add(records(message(r.hello), 50), uint16(99))
		}
	}
	for _, list := range verdicts() {
		for _, in := range list {
			if len(in) < 2000 {
				f.Add([]byte(in), uint16(len(in)/2))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		agree(t, b)
		// More bytes never change what was said.
		var h Hello
		c := min(int(cut), len(b))
		if early := verdict(b[:c:c], &h); early != ErrPartial.Error() {
			if late := verdict(b, &h); early != late {
				t.Fatalf("%q: %q, but cut at %d %q", b, late, c, early)
			}
		}
		if len(b) >= MaxSize && Scan(b, &h) == ErrPartial {
			t.Fatal("undecided")
		}
	})
}
