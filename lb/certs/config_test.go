package certs

import (
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/lb/certs/acme"
)

func TestValidateNamesFileAndReason(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	a, b := f.pair("a", ca.forNames(t, "a.test")), f.pair("b", ca.forNames(t, "b.test"))
	other := newCA(t, "other")
	caFile := f.write("ca.pem", ca.pem())
	good := []Certificate{a}
	auth := func(c ClientAuth) Config { return Config{Certificates: good, ClientAuth: &c} }
	for name, c := range map[string]struct {
		cfg  Config
		want string // path: part of the message; empty: good
	}{
		"good":              {Config{Certificates: good}, ""},
		"one file":          {Config{Certificates: []Certificate{{Cert: f.write("one.pem", must(os.ReadFile(a.Cert)), must(os.ReadFile(a.Key)))}}}, ""},
		"none":              {Config{}, ": no certificate"},
		"missing":           {Config{Certificates: []Certificate{a, {Cert: "gone.pem", Key: a.Key}}}, "certificates[1]: open gone.pem: no such file"},
		"missing key":       {Config{Certificates: []Certificate{{Cert: a.Cert, Key: "gone.key"}}}, "certificates[0]: open gone.key: no such file"},
		"not a pair":        {Config{Certificates: []Certificate{{Cert: a.Cert, Key: b.Key}}}, "certificates[0]: " + a.Cert + " with " + b.Key + ": private key does not match"},
		"no PEM":            {Config{Certificates: []Certificate{{Cert: f.write("x.pem", []byte("x")), Key: a.Key}}}, "x.pem: no certificate in PEM"},
		"no key in it":      {Config{Certificates: []Certificate{{Cert: a.Cert}}}, a.Cert + ": no private key in PEM"},
		"encrypted":         {Config{Certificates: []Certificate{{Cert: a.Cert, Key: f.write("enc.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))}}}, "enc.key: the private key is encrypted"},
		"chain of another":  {Config{Certificates: []Certificate{f.pair("chain", ca.forNames(t, "a.test"), other)}}, "chain.pem: the second certificate has not signed the first"},
		"version":           {Config{Certificates: good, MinVersion: "1.1"}, "min_version: \"1.1\" is none of"},
		"cipher":            {Config{Certificates: good, Ciphers: []Cipher{"TLS_RSA_WITH_AES_128_CBC_SHA"}}, "ciphers[0]: "},
		"cipher of 1.3":     {Config{Certificates: good, MinVersion: "1.3", Ciphers: []Cipher{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}, "ciphers: "},
		"curve":             {Config{Certificates: good, Curves: []Curve{"x25519", "x448"}}, "curves[1]: "},
		"no CA":             {auth(ClientAuth{}), "client_auth.ca: is missing"},
		"mode":              {auth(ClientAuth{Mode: "maybe", CA: caFile}), "client_auth.mode: "},
		"mode none":         {auth(ClientAuth{Mode: ClientNone, CA: caFile}), "client_auth.mode: none asks for no certificate"},
		"CA without PEM":    {auth(ClientAuth{CA: a.Key}), "client_auth.ca: " + a.Key + ": no certificate in PEM"},
		"CRL":               {auth(ClientAuth{CA: caFile, CRL: f.write("ok.crl", ca.revoke(t, time.Now().Add(time.Hour)))}), ""},
		"CRL of another":    {auth(ClientAuth{CA: caFile, CRL: f.write("other.crl", other.revoke(t, time.Now().Add(time.Hour)))}), "client_auth.crl: " + f.dir + "/other.crl: list 1: no CA of ours has signed it"},
		"CRL of a namesake": {auth(ClientAuth{CA: caFile, CRL: f.write("namesake.crl", newCA(t, "root").revoke(t, time.Now().Add(time.Hour)))}), "client_auth.crl: " + f.dir + "/namesake.crl: list 1: no CA of ours has signed it"},
		"CRL that is none":  {auth(ClientAuth{CA: caFile, CRL: a.Cert}), "client_auth.crl: " + a.Cert},
		"tickets both":      {Config{Certificates: good, Tickets: Tickets{File: f.write("t.key", make([]byte, 48)), Keep: 1}}, "tickets.file: "},
		"tickets off":       {Config{Certificates: good, Tickets: Tickets{Off: true, Rotate: time.Hour}}, "tickets.off: "},
		"rotate":            {Config{Certificates: good, Tickets: Tickets{Rotate: time.Second}}, "tickets.rotate: 1m to"},
		"keep":              {Config{Certificates: good, Tickets: Tickets{Keep: -1}}, "tickets.keep: "},
		"ocsp mode":         {Config{Certificates: good, OCSP: OCSP{Mode: "on"}}, "ocsp.mode: "},
		"ocsp file":         {Config{Certificates: good, OCSP: OCSP{File: "gone.der"}}, "ocsp.file: open gone.der"},
		"ocsp off":          {Config{Certificates: good, OCSP: OCSP{Mode: OCSPOff, File: a.Cert}}, "ocsp.file: "},
		"acme alone":        {Config{ACME: &acme.Config{Domains: []string{"a.test"}, Storage: f.dir, Directory: "https://127.0.0.1:1/"}}, ""},
		"acme":              {Config{ACME: &acme.Config{Storage: f.dir}}, "acme.domains: is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			c.cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("%q, want one of %q", got, c.want)
			}
			if s, err := New(c.cfg, slog.New(slog.DiscardHandler)); (err != nil) != (c.want != "") {
				t.Errorf("New: %v", err)
			} else if err == nil {
				s.Close()
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestWhatIsOverIsAWarning(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	dated := func(from, to time.Duration) testCA {
		return ca.sign(t, newKey(t), func(c *x509.Certificate) {
			c.Subject.CommonName, c.NotBefore, c.NotAfter = "dated", time.Now().Add(from), time.Now().Add(to)
		})
	}
	open := f.pair("open", ca.forNames(t, "a.test"))
	if err := os.Chmod(open.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	auth := &ClientAuth{CA: f.write("ca.pem", ca.pem()), CRL: f.write("old.crl", ca.revoke(t, time.Now().Add(-time.Minute)))}
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"good":    {Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}}, ""},
		"over":    {Config{Certificates: []Certificate{f.pair("over", dated(-2*time.Hour, -time.Hour))}}, "over.pem: CN=dated expired on "},
		"early":   {Config{Certificates: []Certificate{f.pair("early", dated(time.Hour, 2*time.Hour))}}, "early.pem: CN=dated is not valid before "},
		"exposed": {Config{Certificates: []Certificate{open}}, "open.key can be read by everybody"},
		"old CRL": {Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}, ClientAuth: auth}, "old.crl: the list of CN=root was to be followed"},
		"gone":    {Config{Certificates: []Certificate{{Cert: "gone.pem"}}}, ""},
	} {
		var got []string
		c.cfg.Warn(func(path, message string) { got = append(got, path+": "+message) })
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q, want one of %q", name, got, c.want)
		}
		if name == "gone" {
			continue
		}
		c.cfg.Validate(func(path, message string) { t.Errorf("%s: %s: %s", name, path, message) })
	}
}
