package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// front is a target at which TLS ends.
type front struct {
	address       string
	trust         *Trust
	full, resumed atomic.Int64 // handshakes
	tickets       atomic.Int64 // that were sent
}

// terminating runs a front of an address for the time of the test; each connection has a configuration, which change may alter.
func terminating(t testing.TB, to string, change func(n int64, c *tls.Config)) *front {
	t.Helper()
	f := &front{}
	pair, trust, err := newCertificate()
	must(t, err)
	f.trust = trust
	certificate, err := tls.X509KeyPair(pair, pair)
	must(t, err)
	base := &tls.Config{Certificates: []tls.Certificate{certificate}}
	var n atomic.Int64
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c := base.Clone()
		c.GetConfigForClient = nil
		change(n.Add(1)-1, c)
		c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
			f.tickets.Add(1)
			return base.EncryptTicket(cs, ss)
		}
		c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
			return base.DecryptTicket(identity, cs)
		}
		return c, nil
	}
	f.address = serve(t, func(conn *net.TCPConn) {
		c := tls.Server(conn, base)
		if c.Handshake() != nil {
			return
		}
		if c.ConnectionState().DidResume {
			f.resumed.Add(1)
		} else {
			f.full.Add(1)
		}
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			_, _ = io.Copy(up, c)
			up.Close()
		}()
		_, _ = io.Copy(c, up)
		c.Close()
	})
	return f
}

func asItIs(int64, *tls.Config) {}

// Keep-alive connections have one handshake each; the others one for each request, full or resumed as the scenario says. All
// clients want tickets, as browsers do.
func TestHandshakesAreAsTheScenarioSays(t *testing.T) {
	const conns, each = 4, -1 // each: one for each request, and for those that were not counted
	origin := testOrigin(t)
	for _, at := range []struct {
		scenario               string
		full, resumed, tickets int64
	}{
		{"https-keepalive", conns, 0, conns},
		{"tls-bulk", conns, 0, conns},
		{"https-close", each, 0, each},
		{"https-resume", conns, each, each},
	} {
		t.Run(at.scenario, func(t *testing.T) {
			f := terminating(t, origin, asItIs)
			sum, err := measuredSome(t, at.scenario, f.address, Aim{Conns: conns, Trust: f.trust})
			must(t, err)
			if sum.requests == 0 || len(sum.errors) > 0 {
				t.Fatalf("%d requests, errors %v", sum.requests, sum.errors)
			}
			for _, c := range []struct {
				what      string
				got, want int64
			}{{"full handshakes", f.full.Load(), at.full}, {"resumed ones", f.resumed.Load(), at.resumed}, {"tickets", f.tickets.Load(), at.tickets}} {
				if c.want == each && c.got < int64(sum.requests) || c.want != each && c.got != c.want {
					t.Errorf("%d %s for %d requests, not %d", c.got, c.what, sum.requests, c.want)
				}
			}
		})
	}
}

// What speaks another TLS than the others, or is somebody else, is not measured.
func TestTLSIsProvedBeforeTheRun(t *testing.T) {
	origin := testOrigin(t)
	for _, at := range []struct {
		name, scenario string
		change         func(n int64, c *tls.Config)
		trust          func(f *front) *Trust
		want           string
	}{
		{"as it is to be", "https-resume", asItIs, nil, ""},
		{"old", "https-keepalive", func(_ int64, c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, nil, "protocol version"},
		{"another curve", "https-keepalive", func(_ int64, c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }, nil, "handshake failure"},
		{"no tickets", "https-resume", func(_ int64, c *tls.Config) { c.SessionTicketsDisabled = true }, nil, "does not resume the session of its own ticket"},
		{"no tickets, and none needed", "https-close", func(_ int64, c *tls.Config) { c.SessionTicketsDisabled = true }, nil, ""},
		{"somebody else", "tls-bulk", asItIs, func(*front) *Trust {
			_, other, err := newCertificate()
			must(t, err)
			return other
		}, "certificate"},
		{"for another name", "tls-bulk", asItIs, func(f *front) *Trust { return &Trust{Roots: f.trust.Roots, Name: "other.test"} }, "not other.test"},
		{"nothing to verify it by", "tls-bulk", asItIs, func(*front) *Trust { return nil }, "no authority is known"},
	} {
		t.Run(at.name, func(t *testing.T) {
			f := terminating(t, origin, at.change)
			trust := f.trust
			if at.trust != nil {
				trust = at.trust(f)
			}
			r := &Result{}
			s := &Suite{Scenarios: []Scenario{scenario(t, at.scenario)}, Origin: origin, Trust: trust, Rounds: 1, Warm: time.Second / 2, Duration: time.Second / 2,
				Targets: []Target{{Name: "t", HTTPS: f.address, TLS: f.address}}}
			err := s.Run(t.Context(), r)
			if at.want == "" && (err != nil || len(r.Samples) != 1 || !r.Samples[0].Measured()) {
				t.Errorf("%v, %+v", err, r.Samples)
			}
			if at.want != "" && (err == nil || !strings.Contains(err.Error(), at.scenario+" on t: ") || !strings.Contains(err.Error(), at.want) || len(r.Samples) > 0) {
				t.Errorf("%v, not %q; %d samples", err, at.want, len(r.Samples))
			}
		})
	}
}

// What a handshake came to is told apart in all that makes a difference to the figures.
func TestAgreed(t *testing.T) {
	good := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, CurveID: tls.X25519}
	for _, at := range []struct {
		name, scenario string
		change         func(cs *tls.ConnectionState)
		want           string
	}{
		{"full", "https-close", func(*tls.ConnectionState) {}, ""},
		{"full, where some may be", "https-resume", func(*tls.ConnectionState) {}, ""},
		{"resumed", "https-resume", func(cs *tls.ConnectionState) { cs.DidResume = true }, ""},
		{"resumed, where none may be", "https-close", func(cs *tls.ConnectionState) { cs.DidResume = true }, "it resumed a session"},
		{"version", "https-close", func(cs *tls.ConnectionState) { cs.Version = tls.VersionTLS12 }, "negotiates TLS 1.2, TLS_AES_128_GCM_SHA256 and X25519, not TLS 1.3,"},
		{"suite", "https-close", func(cs *tls.ConnectionState) { cs.CipherSuite = tls.TLS_CHACHA20_POLY1305_SHA256 }, "negotiates TLS 1.3, TLS_CHACHA20_POLY1305_SHA256"},
		{"curve", "https-close", func(cs *tls.ConnectionState) { cs.CurveID = tls.X25519MLKEM768 }, "and X25519MLKEM768, not"},
	} {
		t.Run(at.name, func(t *testing.T) {
			sc, cs := scenario(t, at.scenario), good
			at.change(&cs)
			if err := sc.agreed(&cs); at.want == "" && err != nil || at.want != "" && (err == nil || !strings.Contains(err.Error(), at.want)) {
				t.Errorf("%v, not %q", err, at.want)
			}
		})
	}
}

// A target that begins to negotiate something else, or to resume less, while it is measured fails at once.
func TestTLSIsCheckedOnEachConnection(t *testing.T) {
	origin := testOrigin(t)
	t.Run("resumes half of them", func(t *testing.T) {
		f := terminating(t, origin, func(n int64, c *tls.Config) { c.SessionTicketsDisabled = n%2 == 1 })
		_, err := measured(t, "https-resume", f.address, Aim{Conns: 2, Trust: f.trust}, time.Second)
		if err == nil || !strings.Contains(err.Error(), "connections were resumed by their tickets") {
			t.Errorf("%v", err)
		}
	})
	t.Run("becomes old", func(t *testing.T) {
		f := terminating(t, origin, func(n int64, c *tls.Config) {
			if n > 20 {
				c.MaxVersion = tls.VersionTLS12
			}
		})
		_, err := measured(t, "https-close", f.address, Aim{Conns: 2, Trust: f.trust}, 10*time.Second)
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%v", err)
		}
	})
	t.Run("another suite", func(t *testing.T) {
		address, trust := nginxOfSuite(t, "TLS_AES_256_GCM_SHA384")
		const want = "it negotiates TLS 1.3, TLS_AES_256_GCM_SHA384 and X25519, not TLS 1.3, TLS_AES_128_GCM_SHA256 and X25519"
		_, err := measured(t, "https-close", address, Aim{Conns: 2, Trust: trust}, 10*time.Second)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
		sc := scenario(t, "https-close")
		if err := trust.prove(t.Context(), &sc, address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("before the run: %v", err)
		}
	})
}

// nginxOfSuite is an nginx that answers by itself, over TLS with one suite.
func nginxOfSuite(t *testing.T, suite string) (address string, trust *Trust) {
	t.Helper()
	binary, err := look("nginx")
	if err != nil {
		t.Skip(err)
	}
	address, err = freePort()
	must(t, err)
	dir := t.TempDir()
	pair, trust, err := newCertificate()
	must(t, err)
	file, conf := filepath.Join(dir, "pair.pem"), filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(file, pair, 0o600))
	must(t, writeFile(conf, fmt.Sprintf(`worker_processes 1; daemon off; pid %[1]s/pid; error_log %[1]s/log crit;
events { worker_connections 64; }
http { access_log off; server { listen %[2]s ssl; ssl_certificate %[3]s; ssl_certificate_key %[3]s; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites %[4]s;
  location / { return 200 "ok"; } } }
`, dir, address, file, suite)))
	c, err := spawn(t.Context(), []string{address}, binary, "-c", conf, "-p", dir)
	must(t, err)
	t.Cleanup(c.stop)
	return address, trust
}

// Over TLS too several requests are under way on a connection, if they are to be.
func TestPipelineOverTLS(t *testing.T) {
	var together atomic.Int64
	f := terminating(t, serve(t, func(c *net.TCPConn) {
		for buf := make([]byte, 16<<10); ; {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			asked := strings.Count(string(buf[:n]), "GET ")
			together.Store(max(together.Load(), int64(asked)))
			if _, err := io.WriteString(c, strings.Repeat(response("200 OK", "ok"), asked)); err != nil {
				return
			}
		}
	}), asItIs)
	sum, err := measuredSome(t, "https-keepalive", f.address, Aim{Conns: 2, Pipeline: 8, Trust: f.trust})
	must(t, err)
	if len(sum.errors) > 0 || together.Load() != 8 {
		t.Errorf("%d requests at once, errors %v", together.Load(), sum.errors)
	}
}

// Over TLS too the open loop sends no more than it is to, and counts how late it was.
func TestOpenLoopOverTLS(t *testing.T) {
	f := terminating(t, testOrigin(t), asItIs)
	for _, name := range []string{"https-keepalive", "https-resume"} {
		sum, err := measured(t, name, f.address, Aim{Conns: 4, Rate: 100, Trust: f.trust}, time.Second)
		must(t, err)
		if sum.requests > 130 || len(sum.errors) > 0 || sum.slip.TotalCount() == 0 {
			t.Errorf("%s: %d requests in a second at 100/s, %d slips, errors %v", name, sum.requests, sum.slip.TotalCount(), sum.errors)
		}
	}
}

// What is no answer to the last request ends the measurement.
func TestAnswersThatNobodyAskedFor(t *testing.T) {
	twice := answering(t, func(int) string { return response("200 OK", "ok") + response("200 OK", "ok") })
	f := terminating(t, twice, asItIs)
	for name, address := range map[string]string{"https-keepalive": f.address, "http-close": twice} {
		if _, err := measured(t, name, address, Aim{Conns: 1, Trust: f.trust}, 10*time.Second); err == nil || !strings.Contains(err.Error(), "nobody asked for") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The peers that are here speak the same TLS, and pass on what they decrypt.
func TestTLSOfPeers(t *testing.T) {
	for _, p := range []struct {
		name  string
		start func(*Rig, context.Context, int) error
	}{{"haproxy", (*Rig).HAProxy}, {"nginx", (*Rig).Nginx}} {
		t.Run(p.name, func(t *testing.T) {
			if _, err := look(p.name); err != nil {
				t.Skip(err)
			}
			r := testRig(t)
			must(t, p.start(r, t.Context(), 1))
			for _, sc := range Scenarios {
				address, why := r.Targets[0].address(&sc)
				if !sc.secure() {
					continue
				}
				if address == "" {
					t.Logf("%s: %s", sc.Name, why)
					continue
				}
				if err := r.Trust.prove(t.Context(), &sc, address); err != nil {
					t.Errorf("%s: %v", sc.Name, err)
				}
			}
		})
	}
}

// A throughput that the generator bounded, which speaks TLS as the target does, is marked.
func TestBusyGeneratorOverTLSIsMarked(t *testing.T) {
	for _, at := range []struct {
		target, generator float64
		marked            bool
	}{{0.95, 1.2, false}, {0.6, 1.1, true}, {0.6, 0.5, false}} {
		out := Sample{Requests: 1, Throughput: 1, TargetBusy: at.target, GeneratorBusy: at.generator}
		(&Suite{}).judge(scenario(t, "https-close"), &out)
		if marked := len(out.Warnings) > 0; marked != at.marked {
			t.Errorf("target %v, generator %v: %v", at.target, at.generator, out.Warnings)
		}
	}
}
