package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/bench"
)

// runBench runs the binary's bench command.
func runBench(t *testing.T, status int, args ...string) string {
	t.Helper()
	r := launch(t, append([]string{"bench"}, args...)...)
	if code := r.exits(); code != status {
		t.Errorf("bench %v: exit status %d, not %d: %s", args, code, status, r.output())
	}
	return r.output()
}

func TestBenchRun(t *testing.T) {
	dir := t.TempDir()
	file, history, page := filepath.Join(dir, "r.json"), filepath.Join(dir, "h.jsonl"), filepath.Join(dir, "r.html")
	out := runBench(t, 0, "run", "-s", "http-keepalive,http-chain,tcp-pingpong,https-keepalive,https-resume,tls-bulk,h2-keepalive", "--duration", "300ms", "--rate", "1000", "-o", file, "--history", history)
	for _, want := range []string{"http-keepalive\n", "http-keepalive@1000/s\n", "tcp-pingpong\n", "https-keepalive\n", "https-resume\n", "tls-bulk\n", "CPU µs/req", "CPU over http-keepalive, each its own: sluice ", "not possible: it needs HTTP/2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	r, err := bench.ReadResult(file)
	must(t, err)
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.Unavailable == "" && (!s.Measured() || s.CPU() <= 0 || s.Latency.P99 <= 0 || s.Allocs == nil || s.RSSPeak == 0) {
			t.Errorf("%+v", s)
		}
	}
	if r.Host.CPU == "" || r.Host.Kernel == "" || r.Host.Versions["sluice"] == "" {
		t.Errorf("the host's fingerprint: %+v", r.Host)
	}
	runBench(t, 0, "report", file, "--history", history, "-o", page)
	if b, err := os.ReadFile(page); err != nil || !strings.Contains(string(b), "<svg") {
		t.Errorf("the report: %v", err)
	}
	// Something against itself has not got worse; another host's result is refused, unless forced.
	runBench(t, 0, "compare", file, file)
	r.Host.CPU = "another"
	other := filepath.Join(dir, "other.json")
	must(t, r.Write(other))
	if out := runBench(t, 2, "compare", file, other); !strings.Contains(out, "--force") {
		t.Errorf("%s", out)
	}
	runBench(t, 0, "compare", "--force", file, other)
}

func TestBenchWrongUse(t *testing.T) {
	if out := runBench(t, 2, "run", "-s", "http-keepaliv"); !strings.Contains(out, `did you mean http-keepalive`) {
		t.Error(out)
	}
	for _, args := range [][]string{{"run", "--http", "127.0.0.1:1"},
		{"run", "--https", "127.0.0.1:1", "--origin", "127.0.0.1:2"}, {"run", "--tls", "127.0.0.1", "--ca", "x.pem", "--origin", "127.0.0.1:2"},
		{"run", "--rate", "fast"}, {"run", "--rounds", "0"}, {"compare", "x"}, {"regress"}} {
		runBench(t, 2, args...)
	}
	runBench(t, 1, "compare", "missing.json", "missing.json")
	runBench(t, 1, "run", "--tls", "127.0.0.1:1", "--ca", "missing.pem", "--origin", "127.0.0.1:2")
}

// A proxy that was started by somebody else is measured over TLS too, if its certificate is good for its address.
func TestBenchOutsideOverTLS(t *testing.T) {
	dir := t.TempDir()
	origin, https, tls := freePort(t), freePort(t), freePort(t)
	good, other, file := filepath.Join(dir, "good.pem"), filepath.Join(dir, "other.pem"), filepath.Join(dir, "sluice.yaml")
	selfSigned(t, good)
	selfSigned(t, other)
	must(t, os.WriteFile(file, fmt.Appendf(nil, `listeners:
  - {name: https, address: "%s", protocol: https, routes: all, tls: {certificates: [{cert: "%[2]s"}]}}
  - {name: tls, address: "%[3]s", protocol: tls, cluster: origin, tls: {certificates: [{cert: "%[2]s"}]}}
routes: {all: [{match: {path_prefix: /}, cluster: origin}]}
clusters: [{name: origin, endpoints: [{address: "%[4]s"}]}]
`, https, good, tls, origin), 0o644))
	launch(t, "run", "-c", file)
	eventually(t, "the proxy listens", func() bool {
		c, err := net.Dial("tcp", tls)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	args := func(ca string) []string {
		return []string{"run", "--https", https, "--tls", tls, "--ca", ca, "--origin", origin, "-s", "https-close,tls-bulk,http-close", "--duration", "300ms"}
	}
	out := runBench(t, 0, args(good)...)
	for _, want := range []string{"https-close\n", "tls-bulk\n", "not possible: no address was given for this protocol"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := runBench(t, 1, args(other)...); !strings.Contains(out, "https-close on target: ") || !strings.Contains(out, "certificate") {
		t.Errorf("of another authority: %s", out)
	}
}

// selfSigned writes a certificate for 127.0.0.1, and its key, into a file.
func selfSigned(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	must(t, os.WriteFile(file, pair, 0o600))
}

// A target that is not there: one line with the cause; what was measured before it was gone is kept, and marked.
func TestBenchTargetDown(t *testing.T) {
	origin, nobody := freePort(t), freePort(t)
	file := filepath.Join(t.TempDir(), "r.json")
	out := runBench(t, 1, "run", "--http", nobody, "--origin", origin, "-s", "http-keepalive", "-o", file)
	if !strings.Contains(out, "connection refused") || !strings.Contains(out, nobody) {
		t.Error(out)
	}
	b, err := os.ReadFile(file)
	must(t, err)
	var r bench.Result
	must(t, json.Unmarshal(b, &r))
	if !strings.Contains(r.Partial, "connection refused") {
		t.Errorf("partial: %q", r.Partial)
	}
}

// INT ends a run: its children too, and what was measured is written.
func TestBenchInterrupted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.json")
	r := launch(t, "bench", "run", "-s", "http-keepalive", "--duration", "10m", "-o", file)
	eventually(t, "the target is under load", func() bool {
		for _, pid := range children(t, r.Process.Pid) {
			cmd, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			fds, _ := os.ReadDir("/proc/" + pid + "/fd")
			if strings.Contains(string(cmd), "run\x00-c") && len(fds) > 100 {
				return true
			}
		}
		return false
	})
	started := children(t, r.Process.Pid)
	must(t, r.Process.Signal(os.Interrupt))
	if code := r.exits(); code != 1 || !strings.Contains(r.output(), "interrupted") {
		t.Errorf("exit status %d: %s", code, r.output())
	}
	if _, err := bench.ReadResult(file); err != nil {
		t.Error(err)
	}
	for _, pid := range started {
		if _, err := os.Stat("/proc/" + pid); err == nil {
			t.Errorf("process %s still runs", pid)
		}
	}
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	must(t, err)
	var out []string
	for _, f := range files {
		b, _ := os.ReadFile(f)
		out = append(out, strings.Fields(string(b))...)
	}
	return out
}
