package cli

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Server-sent events: the origin sends each one when the client has told, beside the gateway, that it has the one before.
// What is held back anywhere is never told.
func TestServerSentEvents(t *testing.T) {
	const events = 50
	for _, version := range []string{"--http1.1", "--http1.0"} {
		t.Run(version, func(t *testing.T) {
			got, gone, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(gone)
				w.Header().Set("Content-Type", "text/event-stream")
				w.(http.Flusher).Flush()
				for i := range events {
					select {
					case <-got:
					case <-over:
						return
					}
					fmt.Fprintf(w, "id: %d\ndata: %s\n\n", i, strings.Repeat("x", i*i))
					w.(http.Flusher).Flush()
				}
				for r.Context().Err() == nil { // until it is known here that the client has left
					_, _ = io.WriteString(w, ": still here\n\n")
					w.(http.Flusher).Flush()
				}
			}))
			defer up.Close()
			defer close(over)
			gateway := gatewayTo(t, up.Listener.Addr().String())[0]
			curl := exec.Command(program(t, "curl", "curl"), "-sSN", "-D", "-", "-m", "20", version, "http://"+gateway+"/events")
			out, err := curl.StdoutPipe()
			must(t, err)
			must(t, curl.Start())
			leave := func() {
				_ = curl.Process.Kill()
				_ = curl.Wait()
			}
			defer leave()
			r := bufio.NewReader(out)
			until := func(last string) string {
				var said strings.Builder
				for {
					line, err := r.ReadString('\n')
					if said.WriteString(line); err != nil {
						t.Fatalf("%v after %q", err, said.String())
					}
					if line == last {
						return said.String()
					}
				}
			}
			if head := until("\r\n"); !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") ||
				!strings.Contains(head, "Content-Type: text/event-stream\r\n") {
				t.Fatal(head)
			}
			for i := range events {
				got <- struct{}{}
				if event, want := until("\n"), fmt.Sprintf("id: %d\ndata: %s\n\n", i, strings.Repeat("x", i*i)); event != want {
					t.Fatalf("event %q, want %q", event, want)
				}
			}
			leave()
			select {
			case <-gone:
			case <-time.After(patience):
				t.Error("the origin does not learn that the client has left")
			}
		})
	}
}
