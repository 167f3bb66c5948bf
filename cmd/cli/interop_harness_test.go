package cli

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Interoperation: the gateway between real clients and real servers, as Debian has them. make test-setup installs them.

// program is where a program is; the test is skipped where it is not.
func program(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name} { // which is not in every user's PATH
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	t.Skipf("%s is missing: install the package %s", name, pkg)
	return ""
}

// nobody runs the servers where the tests are root's: Apache refuses to serve as root.
const nobody = 65534

// site is a directory with what the servers serve, in www; they may write into all of it.
func site(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	r := rand.NewChaCha8([32]byte{1})
	noise := func(size int) []byte {
		b := make([]byte, size)
		_, _ = r.Read(b)
		return b
	}
	files := map[string][]byte{
		"www/small.txt":       []byte("a small file\n"),
		"www/empty.txt":       nil,
		"www/1m.bin":          noise(1 << 20),
		"www/5m.bin":          noise(5 << 20),
		"www/digits.log":      []byte(hex.EncodeToString(noise(200 << 10))),
		"www/echo.sh":         []byte("printf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec cat\n"),
		"www/stream.sh":       []byte("printf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec cat 1m.bin\n"),
		"www/a b/é+%25?.txt":  []byte("a name that must be escaped\n"),
		"www/dots.d/..hidden": []byte("two dots are no dot segment here\n"),
		"www/put/.keep":       nil,
		"www/limited/.keep":   nil,
		"tmp/lock/.keep":      nil,
	}
	for i := range 200 { // a listing of them is more than a server holds back to find its length
		files[fmt.Sprintf("www/list/a-file-with-a-long-name-%d.txt", i)] = []byte("x")
	}
	yesterday := time.Now().Add(-24 * time.Hour) // what was just changed has a weak validator only
	for name, content := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, content, 0o644))
		must(t, os.Chtimes(path, yesterday, yesterday))
	}
	if os.Getuid() == 0 {
		must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, nobody, nobody)
		}))
	}
	return dir
}

// serving runs a server until the end of the test, and waits until it accepts at every address.
func serving(t testing.TB, dir string, addresses []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var said bytes.Buffer // read when the server has ended
	cmd.Stdout, cmd.Stderr = &said, &said
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	must(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("%s: %s%s", name, said.Bytes(), log)
		}
	})
	for _, a := range addresses {
		eventually(t, name+" listens at "+a, func() bool {
			select {
			case <-done:
				t.Fatalf("%s ends: %v", name, cmd.ProcessState)
			default:
			}
			c, err := net.Dial("tcp", a)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
}

// gatewayTo runs a gateway with a listener before each of the addresses, and returns where those are.
func gatewayTo(t testing.TB, addresses ...string) []string {
	t.Helper()
	var listeners, routes, clusters strings.Builder
	var at []string
	for i, a := range addresses {
		at = append(at, freePort(t))
		fmt.Fprintf(&listeners, "  - {name: l%d, address: %q, protocol: http, routes: r%[1]d}\n", i, at[i])
		fmt.Fprintf(&routes, "  r%d: [{cluster: c%[1]d}]\n", i)
		fmt.Fprintf(&clusters, "  - {name: c%d, endpoints: [address: %q]}\n", i, a)
	}
	startServer(t, fmt.Sprintf("listeners:\n%sroutes:\n%sclusters:\n%sengine: {loops: 2}\n", &listeners, &routes, &clusters))
	return at
}

// visitor asks one address, on connections that it keeps.
type visitor struct {
	t       testing.TB
	address string
	http.Client
}

func visit(t testing.TB, address string) *visitor {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}
	t.Cleanup(tr.CloseIdleConnections)
	return &visitor{t, address, http.Client{Transport: tr, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// reply is a response, read to its end.
type reply struct {
	proto   string
	status  int
	framing string // how the end of the body is told: length, chunked or close
	header  http.Header
	body    []byte
}

// ask is one exchange; fields are header fields as they are written.
func (v *visitor) ask(method, path string, body io.Reader, fields ...string) (reply, error) {
	req, err := http.NewRequest(method, "http://"+v.address+path, body)
	if err != nil {
		return reply{}, err
	}
	req.Host = "site.test"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	resp, err := v.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	a := reply{proto: resp.Proto, status: resp.StatusCode, framing: "close", header: resp.Header}
	if resp.ContentLength >= 0 || resp.Header.Get("Content-Length") != "" {
		a.framing = "length"
	}
	if slices.Contains(resp.TransferEncoding, "chunked") {
		a.framing = "chunked"
	}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return reply{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return a, nil
}

func (v *visitor) mustAsk(method, path string, body io.Reader, fields ...string) reply {
	v.t.Helper()
	a, err := v.ask(method, path, body, fields...)
	must(v.t, err)
	return a
}

// endToEnd is what of a reply must arrive as it was sent: all but what concerns one connection, the time of day, and the
// boundary that a server makes up for each multipart body.
func (a reply) endToEnd() (http.Header, []byte) {
	h, body := maps.Clone(a.header), a.body
	for _, name := range []string{"Connection", "Keep-Alive", "Date"} {
		h.Del(name)
	}
	if kind, param, _ := mime.ParseMediaType(h.Get("Content-Type")); kind == "multipart/byteranges" {
		h.Set("Content-Type", kind)
		body = bytes.ReplaceAll(body, []byte(param["boundary"]), []byte("boundary"))
	}
	return h, body
}
