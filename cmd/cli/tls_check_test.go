package cli

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checked is a configuration whose certificate, key and CAs a test chooses.
const checked = `listeners:
  - name: edge
    address: "127.0.0.1:0"
    protocol: tls
    cluster: origin
    tls:
      certificates: [{cert: DIR/%s, key: DIR/%s}]
      client_auth: {ca: DIR/%s}
clusters:
  - {name: origin, endpoints: [{address: "127.0.0.1:1"}], tls: {ca: DIR/%s}}
`

func check(t testing.TB, file string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(nil, []string{"check", "-c", file}, &o, &e)
	return code, o.String(), e.String()
}

// A pair or a CA that cannot be used is named, with its place in the configuration and the reason.
func TestCheckNamesUnusableFilesOfTLS(t *testing.T) {
	p := newPKI(t)
	p.pair("other", p.ca.host(t, "b.test"))
	p.write("empty.pem")
	p.write("broken.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")}))
	p.write("encrypted.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("?")}))
	p.write("old-encrypted.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{
		"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("?")}))
	must(t, os.Mkdir(p.path("folder"), 0o700))
	for name, c := range map[string]struct {
		cert, key, clients, ca string
		at, file, why          string
	}{
		"no certificate":      {"gone.pem", "host.key", "ca.pem", "ca.pem", "7:22", "gone.pem", "no such file"},
		"no key":              {"host.pem", "gone.key", "ca.pem", "ca.pem", "7:22", "gone.key", "no such file"},
		"another's key":       {"host.pem", "other.key", "ca.pem", "ca.pem", "7:22", "host.pem with DIR/other.key", "private key does not match public key"},
		"an empty file":       {"empty.pem", "host.key", "ca.pem", "ca.pem", "7:22", "empty.pem", "no certificate in PEM"},
		"no certificate's":    {"broken.pem", "host.key", "ca.pem", "ca.pem", "7:22", "broken.pem", "malformed certificate"},
		"a key for a cert":    {"host.key", "host.key", "ca.pem", "ca.pem", "7:22", "host.key", "no certificate in PEM"},
		"a cert for a key":    {"host.pem", "host.pem", "ca.pem", "ca.pem", "7:22", "host.pem", "no private key in PEM"},
		"encrypted":           {"host.pem", "encrypted.key", "ca.pem", "ca.pem", "7:22", "encrypted.key", "is encrypted"},
		"encrypted as of old": {"host.pem", "old-encrypted.key", "ca.pem", "ca.pem", "7:22", "old-encrypted.key", "is encrypted"},
		"a folder":            {"host.pem", "folder", "ca.pem", "ca.pem", "7:22", "folder", "is a directory"},
		"no CA of clients":    {"host.pem", "host.key", "gone.pem", "ca.pem", "8:25", "gone.pem", "no such file"},
		"no CA of endpoints":  {"host.pem", "host.key", "ca.pem", "empty.pem", "10:69", "empty.pem", "no certificate in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, p.in(fmt.Sprintf(checked, c.cert, c.key, c.clients, c.ca)))
			code, out, errs := check(t, file)
			if code != exitUsage || out != "" {
				t.Errorf("exit %d, %q", code, out)
			}
			first, _, _ := strings.Cut(errs, "\n")
			if !strings.HasPrefix(first, file+":"+c.at+": ") || !strings.Contains(first, p.in("DIR/"+c.file)) || !strings.Contains(first, c.why) {
				t.Errorf("%q, want %s, %s and %s", first, c.at, c.file, c.why)
			}
			if n := strings.Count(errs, file+":"); n != 1 {
				t.Errorf("%d errors: %s", n, errs)
			}
		})
	}
}

// A key that the process may not read is named too. Who is root may read everything, and so another user checks.
func TestCheckNamesUnreadableKeys(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	p := newPKI(t)
	file := writeConfig(t, p.in(fmt.Sprintf(checked, "host.pem", "host.key", "ca.pem", "ca.pem")))
	for dir := p.dir; dir != filepath.Dir(dir); dir = filepath.Dir(dir) { // t.TempDir is for its owner alone
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o001 == 0 {
			must(t, os.Chmod(dir, st.Mode().Perm()|0o055))
		}
	}
	for _, name := range []string{file, p.path("host.pem"), p.path("ca.pem")} {
		must(t, os.Chmod(name, 0o644))
	}
	must(t, os.Chmod(filepath.Dir(file), 0o755))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(file)), 0o755))
	name, err := binary()
	must(t, err)
	must(t, os.Chmod(filepath.Dir(name), 0o755))
	r := launchBy(t, []string{"setpriv", "--reuid=65534", "--clear-groups"}, "check", "-c", file)
	if code, out := r.exits(), r.output(); code != exitUsage || !strings.Contains(out, file+":7:22: ") ||
		!strings.Contains(out, p.path("host.key")) || !strings.Contains(out, syscall.EACCES.Error()) {
		t.Errorf("exit %d: %s", code, out)
	}
}

// What need not keep a process from starting is a warning: of check, which exits by 0, and in the log of run.
func TestWhatShouldBeKnownOfTLSIsWarnedOf(t *testing.T) {
	p := newPKI(t)
	p.pair("old", p.ca.sign(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.NotAfter = "old", []string{"a.test"}, time.Now().Add(-time.Hour)
	}))
	p.pair("early", p.ca.sign(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.NotBefore = "early", []string{"a.test"}, time.Now().Add(time.Hour)
	}))
	p.pair("open", p.ca.host(t, "a.test"))
	must(t, os.Chmod(p.path("open.key"), 0o644))
	good := fmt.Sprintf(checked, "host.pem", "host.key", "ca.pem", "ca.pem")
	for name, c := range map[string]struct{ text, want string }{
		"nothing":       {good, ""},
		"expired":       {strings.ReplaceAll(good, "/host.", "/old."), "7:22: warning: DIR/old.pem: CN=old expired on "},
		"not yet good":  {strings.ReplaceAll(good, "/host.", "/early."), "7:22: warning: DIR/early.pem: CN=early is not valid before "},
		"open to all":   {strings.ReplaceAll(good, "/host.", "/open."), "7:22: warning: DIR/open.key can be read by everybody (mode 0644)"},
		"not verified":  {strings.Replace(good, "{ca: DIR/ca.pem}}", "{insecure_skip_verify: true}}", 1), "10:87: warning: whoever answers"},
		"old of ours":   {strings.Replace(good, "{ca: DIR/ca.pem}}", "{cert: DIR/old.pem, key: DIR/old.key}}", 1), "10:71: warning: DIR/old.pem: CN=old expired on "},
		"a pair of two": {strings.Replace(good, "[{cert", "[{cert: DIR/old.pem, key: DIR/old.key}, {cert", 1), "7:22: warning: DIR/old.pem: CN=old expired on "},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, p.in(c.text))
			code, out, errs := check(t, file)
			if code != 0 || !strings.HasPrefix(out, file+" is good: ") {
				t.Errorf("exit %d, %q, %q", code, out, errs)
			}
			want := ""
			if c.want != "" {
				want = file + ":" + p.in(c.want)
			}
			if want == "" && errs != "" || !strings.HasPrefix(errs, want) || strings.Count(errs, "warning") > 1 {
				t.Errorf("%q, want %q", errs, want)
			}
			if want != "" && name == "expired" {
				r := launch(t, "run", "-c", file)
				r.says("CN=old expired on ")
				r.says("running")
			}
		})
	}
}
