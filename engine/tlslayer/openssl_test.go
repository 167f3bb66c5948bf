package tlslayer

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/engine"
)

// peer is an openssl that is talked to by its standard input.
type peer struct {
	t    *testing.T
	in   io.WriteCloser
	mu   sync.Mutex
	said strings.Builder
}

func openssl(t *testing.T, args ...string) *peer {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command(path, args...)
	p := &peer{t: t}
	p.in, err = cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = cmd.Stdout
	must(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := bufio.NewReader(out); ; {
			b, err := r.ReadByte()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.said.WriteByte(b)
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return p
}

// say writes a line, and waits for hear, which is new.
func (p *peer) say(line, hear string) {
	p.t.Helper()
	p.mu.Lock()
	before := p.said.Len()
	p.mu.Unlock()
	if line != "" {
		_, err := io.WriteString(p.in, line+"\n")
		must(p.t, err)
	}
	for deadline := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
		p.mu.Lock()
		said := p.said.String()
		p.mu.Unlock()
		if line == "" {
			before = 0
		}
		if strings.Contains(said[before:], hear) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("after %q no %q came: %s", line, hear, said)
		}
	}
}

func TestOpenSSLUpdatesKeys(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
	c := openssl(t, "s_client", "-connect", p.Bound(), "-servername", "edge.test", "-tls1_3")
	c.say("", "Verify return code")
	for i := range 40 {
		c.say("K", "KEYUPDATE") // and asks for ours
		c.say(fmt.Sprintf("line %d", i), fmt.Sprintf("line %d", i))
		c.say("k", "KEYUPDATE")
	}
	c.say("the last", "the last")
	must(t, c.in.Close())
	if err := next(t, p.ended); err != nil {
		t.Errorf("the relay ended with %v", err)
	}
}

func TestOpenSSLMayNotRenegotiate(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, upstream(t, echo), engine.ListenOptions{})
	c := openssl(t, "s_client", "-connect", p.Bound(), "-servername", "edge.test", "-tls1_2")
	c.say("", "Verify return code")
	c.say("hello", "hello")
	c.say("R", "alert")
	if err := next(t, p.ended); err == nil {
		t.Error("the relay ended well")
	}
}

func TestOpenSSLServes(t *testing.T) {
	dir := t.TempDir()
	cert := certificate(t, "edge.test")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	must(t, err)
	var b bytes.Buffer
	must(t, pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	must(t, pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	file := filepath.Join(dir, "server.pem")
	must(t, os.WriteFile(file, b.Bytes(), 0o600))
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		s := openssl(t, "s_server", "-accept", "127.0.0.1:0", "-cert", file, "-key", file, version)
		s.say("", "ACCEPT 127.0.0.1:")
		s.mu.Lock()
		_, port, _ := strings.Cut(s.said.String(), "ACCEPT 127.0.0.1:")
		s.mu.Unlock()
		port, _, _ = strings.Cut(port, "\n")
		to, err := net.ResolveTCPAddr("tcp", "127.0.0.1:"+port)
		must(t, err)
		p := newProxy(t, Config{}, nil, clientConfig(), to, engine.ListenOptions{})
		c := dial(t, p.Bound())
		_, err = io.WriteString(c, "from the client\n")
		must(t, err)
		s.say("", "from the client")
		if version == "-tls1_3" {
			s.say("K", "SSL_do_handshake ->")
		}
		_, err = io.WriteString(s.in, "from the server\n")
		must(t, err)
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "from the server\n" {
			t.Errorf("%s: %q, %v", version, line, err)
		}
		_, err = io.WriteString(c, "again\n")
		must(t, err)
		s.say("", "again")
		if version == "-tls1_2" {
			// A server that asks for renegotiation is refused.
			s.say("R", "SSL_do_handshake ->")
			_, _ = io.WriteString(s.in, "\n")
			if err := next(t, p.ended); err == nil {
				t.Error("the relay ended well")
			}
		}
	}
}
