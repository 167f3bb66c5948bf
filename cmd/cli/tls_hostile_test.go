package cli

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/engine/tlslayer"
)

// besides is a configuration that bears what a test does to it: https and tls listeners on one loop, with more keys of TLS in MORE,
// and bounds of handshakes.
const besides = `listeners:
  - {name: https, address: "127.0.0.1:0", protocol: https, routes: api, tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}] MORE}}
  - {name: tls, address: "127.0.0.2:0", protocol: tls, cluster: origin, tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}] MORE}}
routes:
  api: [{match: {path_prefix: /}, cluster: origin}]
clusters:
  - {name: origin, endpoints: [address: ORIGIN]}
engine: {loops: 1}
`

func besidesBefore(t testing.TB, p pki, more, bounds string, f http.HandlerFunc) edge {
	t.Helper()
	return startEdge(t, p.in(strings.NewReplacer("ORIGIN", httpOrigin(t, f), " MORE", more).Replace(besides))+bounds)
}

// clientHello is what a client says first.
func clientHello(t testing.TB) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go tls.Client(ours, &tls.Config{ServerName: "a.test"}).Handshake()
	b := make([]byte, 1<<14)
	n, err := theirs.Read(b)
	must(t, err)
	return b[:n]
}

// Whoever does not speak TLS, or ends or stops in the middle, is counted for what it did and is gone; who came before goes on.
func TestBadHandshakesAreCountedByKind(t *testing.T) {
	p := newPKI(t)
	hello := clientHello(t)
	oversize := bytes.Clone(hello)
	oversize[3], oversize[4] = 0x48, 1
	for _, listener := range []string{"https", "tls"} {
		for name, c := range map[string]struct {
			says   string
			end    bool // by FIN
			alert  string
			kind   tlslayer.Kind
			expect string // of the answer in plain text
		}{
			"nothing, ended":              {"", true, "", tlslayer.Reset, ""},
			"nothing":                     {"", false, "", tlslayer.Timeout, ""},
			"half a hello, ended":         {string(hello[:100]), true, "", tlslayer.Reset, ""},
			"half a hello":                {string(hello[:100]), false, "", tlslayer.Timeout, ""},
			"a hello, and no more":        {string(hello), false, "", tlslayer.Timeout, ""},
			"garbage":                     {"\x00\x01\x02\x03\x04\x05\x06\x07", false, "", tlslayer.NotTLS, ""},
			"SSH":                         {"SSH-2.0-OpenSSH_9.2\r\n", false, "", tlslayer.NotTLS, ""},
			"a record of data":            {"\x17\x03\x03\x00\x05hello", false, "", tlslayer.NotTLS, ""},
			"a record of 18433 bytes":     {string(oversize), false, "", tlslayer.NotTLS, ""},
			"SSL 2":                       {"\x80\x2e\x01\x00\x02\x00\x15\x00\x00", false, "\x15\x03\x01\x00\x02\x02\x46", tlslayer.NotTLS, ""},
			"a hello, then garbage":       {string(hello) + strings.Repeat("\xff", 100), false, "", tlslayer.NotTLS, ""},
			"a hello that means nothing":  {"\x16\x03\x01\x00\x08\x01\x00\x00\x04\xff\xff\xff\xff", false, "\x15\x03\x01\x00\x02\x02\x32", tlslayer.Other, ""},
			"HTTP":                        {getRoot, false, "", tlslayer.PlainHTTP, "HTTP/1.1 400 Bad Request\r\n"},
			"HTTP of a method of its own": {"PROPFIND / HTTP/1.1\r\n\r\n", false, "", tlslayer.PlainHTTP, "HTTP/1.1 400 Bad Request\r\n"},
		} {
			t.Run(listener+"/"+name, func(t *testing.T) {
				bounds := ""
				if c.kind == tlslayer.Timeout {
					bounds = "tls: {timeout: 500ms}\n"
				}
				e := besidesBefore(t, p, "", bounds, echo)
				before := open{t, "before", nil, nil, ""}
				before.conn = e.dial(listener, p.client())
				before.r = bufio.NewReader(before.conn)
				raw := connect(t, e.bound(listener))
				say(t, raw, c.says)
				if c.end {
					closeWrite(t, raw)
				}
				e.failed(c.kind, 1)
				before.get()
				if c.kind == tlslayer.PlainHTTP {
					closeWrite(t, raw)
				}
				got, _ := io.ReadAll(raw) // by now it has an end
				if c.alert != "" && string(got) != c.alert || !strings.HasPrefix(string(got), c.expect) {
					t.Errorf("it is answered %q", got)
				}
				eventually(t, "no handshake is under way", func() bool { return e.handshakes.Counters().UnderWay.Load() == 0 })
			})
		}
	}
}

// A client that speaks HTTP to a port of TLS, and goes on to send its body, reads the whole answer all the same.
func TestPlainHTTPIsAnsweredThoughABodyComes(t *testing.T) {
	p := newPKI(t)
	e := besidesBefore(t, p, "", "", echo)
	for _, listener := range []string{"https", "tls"} {
		c := connect(t, e.bound(listener))
		// Only who has sent all reads, as some clients do: by then the connection must not be reset.
		_, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", 16<<20, strings.Repeat("x", 16<<20))
		must(t, err)
		must(t, c.CloseWrite())
		resp, body := answered(t, bufio.NewReader(c), "POST")
		if resp.StatusCode != 400 || !strings.Contains(body, "TLS") || !resp.Close || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %s, %q", listener, resp.Status, body)
		}
	}
	e.failed(tlslayer.PlainHTTP, 2)
}

// One that never ends its body does not keep the loop to itself, and not for long.
func TestPlainHTTPThatDoesNotEndLeavesTheLoopToOthers(t *testing.T) {
	p := newPKI(t)
	e := besidesBefore(t, p, "", "", echo)
	gone := make(chan struct{})
	for range 2 {
		c := connect(t, e.bound("https"))
		go func() {
			defer func() { gone <- struct{}{} }()
			block := bytes.Repeat([]byte("GET / HT"), 1<<14)
			for {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		}()
	}
	e.failed(tlslayer.PlainHTTP, 2)
	c := e.dial("https", p.client())
	r := bufio.NewReader(c)
	for i := 0; i < 100; i++ {
		open{t, "beside", c, r, ""}.get()
	}
	for range 2 {
		select {
		case <-gone:
		case <-within():
			t.Fatal("it goes on")
		}
	}
}

// With strict_sni a name that no certificate is for is refused by an alert; without, the first certificate is shown.
func TestUnknownNamesAreRefusedWhereSNIIsStrict(t *testing.T) {
	p := newPKI(t)
	for name, strict := range map[string]bool{"strict": true, "lenient": false} {
		for version, v := range versions {
			t.Run(name+" by TLS "+version, func(t *testing.T) {
				more, refused := "", uint64(0)
				if strict {
					more = ", strict_sni: true"
				}
				e := besidesBefore(t, p, more, "", echo)
				for _, sni := range []string{"b.test", "x.a.test", ""} {
					cfg := &tls.Config{ServerName: sni, InsecureSkipVerify: true, MinVersion: v, MaxVersion: v}
					c, err := tls.Dial("tcp", e.bound("https"), cfg)
					if err == nil {
						c.Close()
					}
					if strict {
						refused++
						if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
							t.Errorf("%q: %v", sni, err)
						}
					} else if err != nil {
						t.Errorf("%q: %v", sni, err)
					}
				}
				e.dial("https", p.client())
				e.failed(tlslayer.NoCertificate, refused)
			})
		}
	}
}

// Renegotiation, by which clients once had servers work (CVE-2011-1473), ends the connection.
func TestRenegotiationIsRefused(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	p := newPKI(t)
	e := besidesBefore(t, p, "", "", echo)
	cmd := exec.Command(openssl, "s_client", "-connect", e.bound("https"), "-servername", "a.test", "-CAfile", p.path("ca.pem"), "-tls1_2")
	in, err := cmd.StdinPipe() // open: the end is not to be the client's
	must(t, err)
	defer in.Close()
	var said journal
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	eventually(t, "the handshake is done", func() bool { return strings.Contains(said.String(), "Verify return code: 0") })
	_, err = io.WriteString(in, "R\n")
	must(t, err)
	select {
	case <-done:
	case <-within():
		t.Fatal("the connection goes on")
	}
	if !strings.Contains(said.String(), "RENEGOTIATING") || !strings.Contains(said.String(), "alert") {
		t.Errorf("openssl: %s", &said)
	}
	if n := e.handshakes.Counters().Server.TLS12.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}

// What is no record, or too long a one, after the handshake ends the connection by an alert, and the endpoint's by a reset.
func TestBadRecordsEndTheConnection(t *testing.T) {
	p := newPKI(t)
	for name, record := range map[string]string{
		"too long":        "\x17\x03\x03\x48\x01" + strings.Repeat("x", 100),
		"not our key":     "\x17\x03\x03\x00\x20" + strings.Repeat("x", 32),
		"of no type":      "\x63\x03\x03\x00\x20" + strings.Repeat("x", 32),
		"in clear":        getRoot + getRoot,
		"of no version":   "\x17\x07\x07\x00\x20" + strings.Repeat("x", 32),
		"an empty record": "\x17\x03\x03\x00\x00",
	} {
		for version, v := range versions {
			t.Run(name+" by TLS "+version, func(t *testing.T) {
				plain := listenFar(t, nil)
				e := startEdge(t, p.in(strings.NewReplacer("PLAIN", plain.address, "SECURE", plain.address).Replace(terminates)))
				cfg := p.client()
				cfg.MinVersion, cfg.MaxVersion = v, v
				c := e.dial("edge", cfg)
				far := plain.next()
				_ = far.SetDeadline(deadline())
				say(t, c, "good")
				read(t, far, "good")
				_, err := io.WriteString(c.NetConn(), record)
				must(t, err)
				if n, err := far.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
					t.Errorf("the endpoint reads %d bytes, %v", n, err)
				}
				if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
					t.Errorf("the client reads %v", err)
				}
			})
		}
	}
}

// A client that does not read has its response wait at the origin, not in our memory; and has it whole when it does read.
func TestClientsThatDoNotReadHoldTheOriginBack(t *testing.T) {
	const size = 64 << 20
	p := newPKI(t)
	var written atomic.Int64
	block := make([]byte, 64<<10)
	e := besidesBefore(t, p, "", "", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/big" {
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for range size / len(block) {
			n, err := w.Write(block)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	for _, listener := range []string{"https", "tls"} {
		written.Store(0)
		c := e.dial(listener, p.client())
		must(t, c.NetConn().(*tap).SetReadBuffer(64<<10))
		say(t, c, "GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n")
		eventually(t, "the response begins", func() bool { return written.Load() > 0 })
		beside := open{t, "beside", e.dial(listener, p.client()), nil, ""}
		beside.r = bufio.NewReader(beside.conn)
		for range 300 { // in the time of which an origin that is not held back has said all
			beside.get()
		}
		if n := written.Load(); n > size/2 {
			t.Errorf("%s: %d of %d bytes were taken from the origin", listener, n, size)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
			t.Errorf("%s: %d bytes, %v", listener, n, err)
		}
	}
}

// Handshakes beyond the bounds are shed, while connections that stand go on, and new ones find their way when the flood is over.
func TestFloodsOfHandshakesAreBounded(t *testing.T) {
	p := newPKI(t)
	hello := clientHello(t)
	for name, c := range map[string]struct {
		says   []byte
		bounds string
		most   int64
	}{
		"that never begin":     {hello[:50], "tls: {handshakes: 20, timeout: 5s}\n", 20},
		"that never go on":     {hello, "tls: {handshakes: 20, timeout: 5s}\n", 20},
		"more than can queue":  {hello, "tls: {running: 1, queue: 1, timeout: 5s}\n", 300},
		"that come and are on": {hello, "tls: {handshakes: 20, running: 1, queue: 1, timeout: 5s}\n", 20},
	} {
		t.Run(name, func(t *testing.T) {
			e := besidesBefore(t, p, "", c.bounds, echo)
			counters := e.handshakes.Counters()
			before := open{t, "before", e.dial("https", p.client()), nil, ""}
			before.r = bufio.NewReader(before.conn)
			var flood []net.Conn
			for i := range 300 {
				if f, err := net.Dial("tcp", e.bound("https")); err == nil { // the reset may come at once
					_, _ = f.Write(c.says)
					flood = append(flood, f)
				}
				if i%10 == 0 {
					before.get()
				}
				if n := counters.UnderWay.Load(); n > c.most+1 { // the one beyond is counted until it is found to be
					t.Fatalf("%d handshakes are under way", n)
				}
			}
			eventually(t, "some are shed", func() bool { before.get(); return counters.Server.Failed(tlslayer.Shed) > 0 })
			for _, f := range flood {
				_ = f.Close()
			}
			eventually(t, "the flood is over", func() bool { return counters.UnderWay.Load() == 0 })
			open := open{t, "after", e.dial("https", p.client()), nil, ""}
			open.r = bufio.NewReader(open.conn)
			open.get()
			before.get()
		})
	}
}
