package cli

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// webSocketPackage is where Debian has the package ws for Node.
const webSocketPackage = "/usr/share/nodejs/ws/package.json"

// node is a script of testdata, not started yet.
func node(t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	path := program(t, "node", "nodejs")
	if _, err := os.Stat(webSocketPackage); err != nil {
		t.Skip("Node's package ws is missing: install the package node-ws")
	}
	cmd := exec.Command(path, append([]string{"testdata/" + script}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH=/usr/share/nodejs")
	return cmd
}

// saying collects what a program prints while it runs.
type saying struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *saying) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *saying) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// webSocketServer runs the echo server, and returns its address and what it says.
func webSocketServer(t testing.TB) (address string, said *saying) {
	t.Helper()
	cmd, said := node(t, "websocket_server.js"), new(saying)
	cmd.Stdout, cmd.Stderr = said, said
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	eventually(t, "the server listens", func() bool {
		line, _, whole := strings.Cut(said.String(), "\n")
		address = strings.TrimPrefix(line, "listening ")
		return whole
	})
	return address, said
}

// WebSocket between Node's ws and itself: without the gateway, which is the trials' own proof, and through it.
func TestWebSocket(t *testing.T) {
	for _, through := range []bool{false, true} {
		name := "direct"
		if through {
			name = "through the gateway"
		}
		t.Run(name, func(t *testing.T) {
			address, server := webSocketServer(t)
			if through {
				address = gatewayTo(t, address)[0]
			}
			out, err := node(t, "websocket_client.js", address).CombinedOutput()
			n := 0
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "ok ") {
					n++
				} else {
					t.Error(strings.TrimSpace(line))
				}
			}
			if err != nil || n != 15 {
				t.Errorf("%v; %d trials are good", err, n)
			}
			if t.Failed() {
				return
			}
			for _, end := range []string{"closed /closing 4002 I have what I want\n", "closed /closed 4001 that is all\n",
				"closed /vanishing 1006 \n", "closed /many/49 1000 done\n"} {
				eventually(t, "the server says "+end, func() bool { return strings.Contains(server.String(), end) })
			}
		})
	}
}
