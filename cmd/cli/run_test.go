package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func runConfig(gateway, admin, upstream string) string {
	return fmt.Sprintf(`listeners: [{name: gateway, address: %q, protocol: http, routes: all}]
routes: {all: [{cluster: origin}]}
clusters: [{name: origin, endpoints: [address: %q]}]
admin: {address: %q}
engine: {loops: 1}
`, gateway, upstream, admin)
}

func TestRunAddressInUse(t *testing.T) {
	taken := origin(t, "other")
	r := launch(t, "run", "-c", writeConfig(t, runConfig(taken, freePort(t), taken)))
	if code := r.exits(); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	r.says(taken + ": address already in use")
	r = launch(t, "run", "-c", writeConfig(t, runConfig(freePort(t), taken, taken)))
	if code := r.exits(); code != exitFailed {
		t.Errorf("admin: exit %d", code)
	}
	r.says("address already in use")
}

// Another sluice on the same address is not joined through SO_REUSEPORT.
func TestRunTwice(t *testing.T) {
	gateway := freePort(t)
	first := launch(t, "run", "-c", writeConfig(t, runConfig(gateway, freePort(t), freePort(t))))
	first.says("running")
	second := launch(t, "run", "-c", writeConfig(t, runConfig(gateway, freePort(t), freePort(t))))
	if code := second.exits(); code != exitFailed {
		t.Errorf("exit %d", code)
	}
}

func TestRunBadConfigStartsNothing(t *testing.T) {
	gateway := freePort(t)
	r := launch(t, "run", "-c", writeConfig(t, strings.Replace(runConfig(gateway, freePort(t), freePort(t)), "cluster: origin", "cluster: orign", 1)))
	if code := r.exits(); code != exitUsage {
		t.Errorf("exit %d", code)
	}
	r.says(`no cluster named "orign"; did you mean "origin"?`)
	if c, err := net.Dial("tcp", gateway); err == nil {
		c.Close()
		t.Error("something listens")
	}
}

func TestRunSignals(t *testing.T) {
	gateway, admin := freePort(t), freePort(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
		_, _ = io.WriteString(w, "here")
	}))
	defer up.Close()
	good := runConfig(gateway, admin, up.Listener.Addr().String())
	file := writeConfig(t, good)
	r := launch(t, "run", "-c", file)
	r.says("running")
	if status, body := get(t, "http://"+gateway+"/"); status != 200 || body != "here" {
		t.Errorf("%d %q", status, body)
	}
	if status, _ := get(t, "http://"+admin+"/readyz"); status != 200 {
		t.Error(status)
	}

	must(t, os.WriteFile(file, []byte("listners: []\n"), 0o600))
	must(t, r.Process.Signal(syscall.SIGHUP))
	eventually(t, "the bad file is in the metrics", func() bool {
		return metric(t, admin, `sluice_reloads_total{result="failed"}`) == "1"
	})
	r.says(`unknown key \"listners\"; did you mean \"listeners\"?`)
	if v := metric(t, admin, "sluice_reload_successful"); v != "0" {
		t.Error(v)
	}
	if status, _ := get(t, "http://"+gateway+"/"); status != 200 {
		t.Errorf("after a bad file: %d", status)
	}
	must(t, os.WriteFile(file, []byte(strings.Replace(good, "{cluster: origin}", "{cluster: origin, match: {path_prefix: /new}}, {match: {path_prefix: /slow}, cluster: origin}", 1)), 0o600))
	must(t, r.Process.Signal(syscall.SIGHUP))
	eventually(t, "the new routes are in force", func() bool {
		status, _ := get(t, "http://"+gateway+"/")
		return status == 404
	})
	if v := metric(t, admin, `sluice_reload_successful`); v != "1" {
		t.Error(v)
	}

	c, err := net.Dial("tcp", gateway)
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	must(t, err)
	<-begun
	idle := keepAliveClient{address: gateway}
	defer idle.close()
	_, err = idle.get("/new")
	must(t, err)
	must(t, r.Process.Signal(syscall.SIGTERM))
	eventually(t, "it is not ready any more", func() bool {
		status, _ := get(t, "http://"+admin+"/readyz")
		return status == 503
	})
	eventually(t, "nothing new is taken", func() bool {
		n, err := net.Dial("tcp", gateway)
		if err == nil {
			n.Close()
		}
		return err != nil
	})
	_, err = io.ReadAll(idle.conn) // it is asked to go when the loops begin to drain
	must(t, err)
	close(finish)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != "here" || !resp.Close {
		t.Errorf("%d %q close %v", resp.StatusCode, body, resp.Close)
	}
	if code := r.exits(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// TERM waits for what is open no longer than the drain timeout; INT does not wait.
func TestRunStopsInTheEnd(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		gateway, admin := freePort(t), freePort(t)
		r := launch(t, "run", "-c", writeConfig(t, runConfig(gateway, admin, silent.Addr().String())+"drain_timeout: 50ms\n"))
		r.says("running")
		c, err := net.Dial("tcp", gateway)
		must(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		must(t, err)
		eventually(t, "the request is under way", func() bool {
			return metric(t, admin, fmt.Sprintf("sluice_endpoint_in_flight{cluster=\"origin\",endpoint=%q}", silent.Addr())) == "1"
		})
		must(t, r.Process.Signal(sig))
		if code := r.exits(); code != 0 {
			t.Errorf("%v: exit %d", sig, code)
		}
	}
}

// The demo, as a user sees it: in the binary, through curl.
func TestDemo(t *testing.T) {
	for _, a := range []string{"127.0.0.1:8000", "127.0.0.1:8101", "127.0.0.1:8102", "127.0.0.1:9101", "127.0.0.1:9102",
		"127.0.0.1:9103", "127.0.0.1:9900", "127.0.0.1:8443"} {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			t.Skipf("the demo's address is taken on this machine: %v", err)
		}
		ln.Close()
	}
	r := launch(t, "demo")
	r.says("Ctrl-C")
	if !strings.Contains(r.output(), string(demoConfig)) {
		t.Error("the configuration is not printed")
	}
	curl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("curl", append([]string{"-sS", "-m", "10"}, args...)...).Output()
		if err != nil {
			t.Fatalf("curl %q: %v", args, err)
		}
		return string(out)
	}
	seen := map[string]bool{}
	for i := 0; len(seen) < 2 && i < 100; i++ {
		out := curl("-i", "http://127.0.0.1:8000/order")
		if !strings.HasPrefix(out, "HTTP/1.1 200 OK\r\n") {
			t.Fatal(out)
		}
		_, after, _ := strings.Cut(out, "X-Gateway: ")
		gateway, _, _ := strings.Cut(after, "\r\n")
		seen[gateway] = true
	}
	if !seen["gateway-1"] || !seen["gateway-2"] {
		t.Errorf("gateways %v", seen)
	}
	if out := curl("http://127.0.0.1:8000/cart", "-d", `{"item": "lamp", "count": 2}`); out != `{"count":2,"id":2,"item":"lamp"}`+"\n" {
		t.Error(out)
	}
	if out := curl("http://127.0.0.1:8000/cart/2"); !strings.Contains(out, "lamp") {
		t.Error(out)
	}
	if out := curl("-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8000/admin"); out != "403" {
		t.Error(out)
	}
	_, after, _ := strings.Cut(r.output(), "--cacert ")
	ca, _, _ := strings.Cut(after, " ")
	if out := curl("--cacert", ca, "https://localhost:8443/user"); !strings.Contains(out, "Ada") {
		t.Error(out)
	}
	page := curl("http://127.0.0.1:9900/metrics")
	for _, want := range []string{`sluice_tls_handshakes_total{side="server",version="1.3"} 1`, `sluice_tls_certificate_days{listener="secure",certificate="` + filepath.Dir(ca) + `/server.pem",name="localhost"} 30`} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("no metric %s", want)
		}
	}
	must(t, r.Process.Signal(syscall.SIGINT))
	if code := r.exits(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(ca); err == nil {
		t.Error("the certificate is still there")
	}
}

func TestDemoService(t *testing.T) {
	v := &service{name: "cart", items: map[int]item{1: {"item": "chair"}}}
	for _, x := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/cart", "", 200, `[{"id":1,"item":"chair"}]`},
		{"GET", "/cart/1", "", 200, `{"id":1,"item":"chair"}`},
		{"GET", "/cart/2", "", 404, ""},
		{"GET", "/cart/x", "", 404, ""},
		{"GET", "/carts", "", 404, ""},
		{"POST", "/cart", `{"item":"lamp","id":99}`, 201, `{"id":2,"item":"lamp"}`},
		{"POST", "/cart", `[]`, 400, ""},
		{"POST", "/cart", `null`, 400, ""},
		{"POST", "/cart", strings.Repeat("x", 100<<10), 400, ""},
		{"DELETE", "/cart/1", "", 405, ""},
		{"POST", "/cart/1", "{}", 405, ""},
		{"GET", "/cart/2", "", 200, `{"id":2,"item":"lamp"}`},
	} {
		w := httptest.NewRecorder()
		v.ServeHTTP(w, httptest.NewRequest(x.method, x.path, strings.NewReader(x.body)))
		if w.Code != x.status || !json.Valid(w.Body.Bytes()) || x.want != "" && strings.TrimSpace(w.Body.String()) != x.want {
			t.Errorf("%s %s: %d %s", x.method, x.path, w.Code, w.Body)
		}
	}
}
