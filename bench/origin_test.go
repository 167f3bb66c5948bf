package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
)

// The origin answers requests of every size and form, split anywhere, and echoes what is no HTTP; through the floor too.
func TestOriginAndFloor(t *testing.T) {
	origin := testOrigin(t)
	floor, err := freePort()
	must(t, err)
	f, err := StartFloor(floor, origin, 1)
	must(t, err)
	t.Cleanup(f.Stop)
	for name, address := range map[string]string{"origin": origin, "floor": floor} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 1, smallAnswer, 1 << 20} {
				resp, err := http.Get(fmt.Sprintf("http://%s%s%d", address, answerPath, size))
				must(t, err)
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || len(b) != size {
					t.Errorf("%d bytes of %d, %v", len(b), size, err)
				}
			}
			resp, err := http.Post("http://"+address+"/", "text/plain", bytes.NewReader(make([]byte, 1<<20)))
			must(t, err)
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if len(b) != smallAnswer {
				t.Errorf("upload: %d bytes", len(b))
			}
			// A header to remove, and what a request looks like here, each its own on one connection.
			resp, err = http.Get("http://" + address + chainPath + "33")
			must(t, err)
			b, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
			if len(b) != smallAnswer || resp.Header.Get(chainRemoved) == "" {
				t.Errorf("%d bytes, header %v", len(b), resp.Header)
			}
			for _, mark := range []string{"one", "two"} {
				req, err := http.NewRequest(http.MethodGet, "http://"+address+headPath, nil)
				must(t, err)
				req.Header.Set("X-Mark", mark)
				resp, err := http.DefaultClient.Do(req)
				must(t, err)
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !bytes.HasPrefix(b, []byte("GET "+headPath+" HTTP/1.1\r\n")) || !bytes.Contains(b, []byte("\r\nX-Mark: "+mark+"\r\n")) ||
					!bytes.HasSuffix(b, []byte("\r\n\r\n")) {
					t.Errorf("%s: the head is %q", mark, b)
				}
			}
			c, err := net.Dial("tcp", address)
			must(t, err)
			defer c.Close()
			ping := bytes.Repeat([]byte("p"), pingSize)
			for range 3 {
				_, err := c.Write(ping)
				must(t, err)
				pong := make([]byte, pingSize)
				if _, err := io.ReadFull(c, pong); err != nil || !bytes.Equal(ping, pong) {
					t.Errorf("%q, %v", pong, err)
				}
			}
			byByte, err := net.Dial("tcp", address)
			must(t, err)
			defer byByte.Close()
			for _, b := range []byte("GET " + answerPath + "7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") {
				_, err := byByte.Write([]byte{b})
				must(t, err)
			}
			all, err := io.ReadAll(byByte)
			if err != nil || !bytes.HasSuffix(all, []byte("\r\n\r\nxxxxxxx")) {
				t.Errorf("%q, %v", all, err)
			}
		})
	}
}

func TestOriginOnAnAddressInUse(t *testing.T) {
	address := serve(t, func(*net.TCPConn) {})
	if _, err := StartOrigin(address, 1); err == nil {
		t.Error("it starts")
	}
	if _, err := StartFloor("nonsense", address, 1); err == nil {
		t.Error("it starts")
	}
}

// A proxy's processes are found by what they listen on, and what they use is known.
func TestListenersAndUsage(t *testing.T) {
	pids, err := listenersOf(TCP, serve(t, func(*net.TCPConn) {}))
	must(t, err)
	if !slices.Equal(pids, []int{os.Getpid()}) {
		t.Errorf("%v, not %d", pids, os.Getpid())
	}
	free, err := freePort()
	must(t, err)
	if _, err := listenersOf(TCP, free); err == nil {
		t.Error("somebody listens where nobody does")
	}
	u, err := processUsage(pids)
	must(t, err)
	if u.cpu <= 0 || u.voluntary == 0 {
		t.Errorf("%+v", u)
	}
	if rss, peak := memory(pids); rss < 1<<20 || peak < rss {
		t.Errorf("%d, peak %d bytes", rss, peak)
	}
	if _, err := processUsage([]int{1 << 30}); err == nil {
		t.Error("a process that is none has usage")
	}
}
