package cli

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptrace"
	"os/exec"
	"strings"
	"testing"

	"sluice/engine/tlslayer"
)

// https is a gateway that terminates TLS before an origin, and one in clear that sends its clients to it.
const https = `listeners:
  - {name: secure, address: "127.0.0.1:0", protocol: https, routes: api, tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}]}}
  - {name: clear, address: "127.0.0.2:0", protocol: http, routes: lead}
routes:
  api:
    - {match: {path_prefix: /}, cluster: origin, upgrades: [websocket], filters: [security_headers: {}]}
  lead:
    - {match: {path_prefix: /}, filters: [redirect: {scheme: https}]}
clusters:
  - {name: origin, endpoints: [address: ORIGIN]}
engine: {loops: 1}
`

func httpsBefore(t testing.TB, p pki, f http.HandlerFunc) edge {
	t.Helper()
	return startEdge(t, p.in(strings.ReplaceAll(https, "ORIGIN", httpOrigin(t, f))))
}

// echo answers with what it was asked, and how.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL.Path, r.Header.Get("X-Forwarded-Proto"), body)
}

// versions are those that clients may speak.
var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func TestHTTPSIsServedInEveryVersion(t *testing.T) {
	p := newPKI(t)
	e := httpsBefore(t, p, echo)
	for name, v := range versions {
		t.Run(name, func(t *testing.T) {
			cfg := p.client()
			cfg.MinVersion, cfg.MaxVersion = v, v
			tr := &http.Transport{TLSClientConfig: cfg}
			defer tr.CloseIdleConnections()
			reused := 0
			for i := range 3 {
				req, _ := http.NewRequest("POST", "https://"+e.bound("secure")+"/path", strings.NewReader("body"))
				req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
					if c.Reused {
						reused++
					}
				}}))
				resp, err := tr.RoundTrip(req)
				must(t, err)
				body, err := io.ReadAll(resp.Body)
				must(t, err)
				resp.Body.Close()
				if string(body) != "POST /path https body" || resp.TLS.Version != v || resp.TLS.NegotiatedProtocol != "" {
					t.Errorf("request %d: %q by TLS %x, %q", i, body, resp.TLS.Version, resp.TLS.NegotiatedProtocol)
				}
				if got := resp.Header.Get("Strict-Transport-Security"); !strings.HasPrefix(got, "max-age=31536000") {
					t.Errorf("Strict-Transport-Security: %q", got)
				}
			}
			if reused != 2 {
				t.Errorf("3 requests reused a connection %d times", reused)
			}
		})
	}
	n := &e.handshakes.Counters().Server
	if n.TLS12.Load() != 1 || n.TLS13.Load() != 1 {
		t.Errorf("handshakes: %d of 1.2, %d of 1.3", n.TLS12.Load(), n.TLS13.Load())
	}
}

func TestCurlIsServedOverTLS(t *testing.T) {
	p := newPKI(t)
	e := httpsBefore(t, p, echo)
	_, port, _ := net.SplitHostPort(e.bound("secure"))
	url := "https://a.test:" + port
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--tls-max", "1.2"}, "GET / https \n1.1"},
		{[]string{"--tlsv1.3"}, "GET / https \n1.1"},
		{[]string{"--tlsv1.3", "--http2"}, "GET / https \n1.1"}, // h2 is offered beside http/1.1
		{[]string{"-T", "-", "-H", "Transfer-Encoding: chunked"}, "PUT / https sent\n1.1"},
		{[]string{"--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"}, "GET / https \n1.1"},
	} {
		args := append([]string{"-sS", "--max-time", "20", "--cacert", p.path("ca.pem"), "--resolve", "a.test:" + port + ":127.0.0.1",
			"-w", "\n%{http_version}"}, c.args...)
		cmd := exec.Command("curl", append(args, url+"/")...)
		cmd.Stdin = strings.NewReader("sent")
		out, err := cmd.CombinedOutput()
		if got := string(out); err != nil || got != c.want {
			t.Errorf("curl %v: %q %v, want %q", c.args, got, err, c.want)
		}
	}
}

func TestHeadsAreAnsweredOverTLSWithoutBody(t *testing.T) {
	p := newPKI(t)
	e := httpsBefore(t, p, echo)
	c := e.dial("secure", p.client())
	r := bufio.NewReader(c)
	_, err := io.WriteString(c, "HEAD /h HTTP/1.1\r\nHost: a.test\r\n\r\n"+getRoot)
	must(t, err)
	if resp, body := answered(t, r, "HEAD"); resp.StatusCode != 200 || body != "" || resp.ContentLength != int64(len("HEAD /h https ")) {
		t.Errorf("HEAD: %s, %q, length %d", resp.Status, body, resp.ContentLength)
	}
	if _, body := answered(t, r, "GET"); body != "GET / https " {
		t.Errorf("after it: %q", body)
	}
}

// Requests of which many are in one record, and one in many records, are answered in order.
func TestPipelinedRequestsAreAnsweredOverTLS(t *testing.T) {
	p := newPKI(t)
	e := httpsBefore(t, p, echo)
	for name, size := range map[string]int{"in one record": 1 << 14, "in records of 7 bytes": 7} {
		t.Run(name, func(t *testing.T) {
			c := e.dial("secure", p.client())
			var all strings.Builder
			for i := range 20 {
				fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n%02d", i, i)
			}
			for text := all.String(); text != ""; {
				n := min(size, len(text))
				_, err := io.WriteString(c, text[:n])
				must(t, err)
				text = text[n:]
			}
			r := bufio.NewReader(c)
			for i := range 20 {
				if _, body := answered(t, r, "POST"); body != fmt.Sprintf("POST /%d https %02d", i, i) {
					t.Fatalf("answer %d: %q", i, body)
				}
			}
		})
	}
}

// Bodies far beyond what sockets and buffers hold come through whole, either way at once, by length and chunked.
func TestBigBodiesAreRelayedOverTLS(t *testing.T) {
	const size = 24 << 20
	data := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(data)
	p := newPKI(t)
	e := httpsBefore(t, p, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	tr := &http.Transport{TLSClientConfig: p.client()}
	defer tr.CloseIdleConnections()
	for name, body := range map[string]io.Reader{"by length": bytes.NewReader(data), "chunked": io.MultiReader(bytes.NewReader(data))} {
		t.Run(name, func(t *testing.T) {
			req, _ := http.NewRequest("POST", "https://"+e.bound("secure")+"/", body)
			resp, err := tr.RoundTrip(req)
			must(t, err)
			defer resp.Body.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, resp.Body)
			if want := sha256.Sum256(data); err != nil || n != size || !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Errorf("%d bytes of %d came back, or others: %v", n, size, err)
			}
		})
	}
}

// An event that the origin flushes is with the client before the next one is made.
func TestEventsAreStreamedOverTLS(t *testing.T) {
	p := newPKI(t)
	next := make(chan string)
	e := httpsBefore(t, p, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for text := range next {
			fmt.Fprintf(w, "data: %s\n\n", text)
			w.(http.Flusher).Flush()
		}
	})
	tr := &http.Transport{TLSClientConfig: p.client()}
	defer tr.CloseIdleConnections()
	req, _ := http.NewRequest("GET", "https://"+e.bound("secure")+"/", nil)
	go func() { next <- "0" }()
	resp, err := tr.RoundTrip(req)
	must(t, err)
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for i := range 5 {
		line, err := r.ReadString('\n')
		must(t, err)
		if line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q", i, line)
		}
		_, _ = r.ReadString('\n')
		if i < 4 {
			next <- fmt.Sprint(i + 1)
		}
	}
	close(next)
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("after the last event: %q %v", rest, err)
	}
}

// What is tunnelled after an upgrade goes both ways, and the end of either side is the other's.
func TestUpgradesAreTunnelledOverTLS(t *testing.T) {
	p := newPKI(t)
	e := httpsBefore(t, p, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
		_, _ = io.WriteString(c, "last")
	})
	c := e.dial("secure", p.client())
	r := bufio.NewReader(c)
	_, err := io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	must(t, err)
	resp, err := http.ReadResponse(r, nil)
	must(t, err)
	if resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	got := make([]byte, 5)
	_, err = io.ReadFull(r, got)
	must(t, err)
	_, err = io.WriteString(c, "there and back")
	must(t, err)
	must(t, c.CloseWrite())
	rest, err := io.ReadAll(r)
	if all := string(got) + string(rest); err != nil || all != "firstthere and backlast" {
		t.Errorf("through the tunnel came %q %v", all, err)
	}
}

func TestClientsInClearAreLedToHTTPS(t *testing.T) {
	e := httpsBefore(t, newPKI(t), echo)
	resp, _ := asked(t, connect(t, e.bound("clear")), "GET /a?b=c HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if got := resp.Header.Get("Location"); resp.StatusCode/100 != 3 || got != "https://a.test/a?b=c" {
		t.Errorf("%s to %q", resp.Status, got)
	}
	// RFC 6797, section 7.2: not over what is not secure.
	if got := resp.Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("Strict-Transport-Security in clear: %q", got)
	}
}

// A client that speaks HTTP/2 alone is told so in its handshake, before it sends what could not be understood.
func TestClientsThatSpeakOnlyHTTP2AreRefusedByALPN(t *testing.T) {
	p := newPKI(t)
	e := httpsBefore(t, p, echo)
	for name, v := range versions {
		t.Run(name, func(t *testing.T) {
			cfg := p.client()
			cfg.NextProtos, cfg.MinVersion, cfg.MaxVersion = []string{"h2"}, v, v
			c, err := tls.Dial("tcp", e.bound("secure"), cfg)
			if err == nil {
				c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "no application protocol") {
				t.Errorf("handshake: %v", err)
			}
		})
	}
	e.failed(tlslayer.Protocol, 2)
}

// A connection that the client wants no more of ends by close_notify.
func TestHTTPSConnectionsEndByCloseNotify(t *testing.T) {
	p := newPKI(t)
	e := httpsBefore(t, p, echo)
	for _, v := range versions {
		cfg := p.client()
		cfg.MinVersion, cfg.MaxVersion = v, v
		c := e.dial("secure", cfg)
		if resp, _ := asked(t, c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"); !resp.Close {
			t.Error("the connection is to go on")
		}
		ends(t, c)
	}
}

// What would become of a request is explained for listeners of TLS too, by the file and by the process that runs.
func TestRequestsToHTTPSAreExplained(t *testing.T) {
	p := newPKI(t)
	admin := freePort(t)
	text := p.in(strings.ReplaceAll(https, "ORIGIN", httpOrigin(t, echo))) + fmt.Sprintf("admin: {address: %q}\n", admin)
	startEdge(t, text)
	file := writeConfig(t, text)
	for _, args := range [][]string{nil, {"--live"}} {
		var out, errs bytes.Buffer
		args = append([]string{"explain", "request", "-c", file, "--listener", "secure", "GET", "https://a.test/"}, args...)
		if code := execute(nil, args, &out, &errs); code != 0 || !strings.Contains(out.String(), "X-Forwarded-Proto: https") {
			t.Errorf("%q: exit %d, %s%s", args, code, &out, &errs)
		}
	}
}
