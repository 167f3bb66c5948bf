package health

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// grpcServer serves gRPC on ln, with what register adds.
func grpcServer(t testing.TB, ln net.Listener, register func(*grpc.Server)) {
	t.Helper()
	srv := grpc.NewServer()
	register(srv)
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		srv.Stop()
		running.Wait()
	})
}

// healthService serves gRPC's own health service on ln; the server as a whole is up.
func healthService(t testing.TB, ln net.Listener) *health.Server {
	t.Helper()
	h := health.NewServer()
	grpcServer(t, ln, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, h) })
	return h
}

type servingStatus = healthpb.HealthCheckResponse_ServingStatus

// healthServer has the services' statuses.
func healthServer(t testing.TB, services map[string]servingStatus) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h := healthService(t, ln)
	for name, s := range services {
		h.SetServingStatus(name, s)
	}
	return ln.Addr().String()
}

func TestServices(t *testing.T) {
	long := strings.Repeat("a", 300) // its length takes two bytes
	address := healthServer(t, map[string]servingStatus{
		"up": healthpb.HealthCheckResponse_SERVING, "down": healthpb.HealthCheckResponse_NOT_SERVING,
		"unknown": healthpb.HealthCheckResponse_UNKNOWN, "lost": healthpb.HealthCheckResponse_SERVICE_UNKNOWN,
		"new": 17, "shop.Ördering": healthpb.HealthCheckResponse_SERVING, long: healthpb.HealthCheckResponse_SERVING,
	})
	f := func(service, want string) {
		t.Helper()
		if got := said(check(t, asking(&GRPC{Service: service}), address)); got != want {
			t.Errorf("%.20q: %s, want %s", service, got, want)
		}
	}
	f("", "up")
	f("up", "up")
	f("shop.Ördering", "up")
	f(long, "up")
	f("down", "grpc: NOT_SERVING")
	f("unknown", "grpc: UNKNOWN")
	f("lost", "grpc: SERVICE_UNKNOWN")
	f("new", "grpc: status 17")
	f("other", `grpc: NOT_FOUND "unknown service"`)
	without, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	grpcServer(t, without, func(*grpc.Server) {})
	want := `grpc: UNIMPLEMENTED "unknown service grpc.health.v1.Health"`
	if got := said(check(t, asking(&GRPC{}), without.Addr().String())); got != want {
		t.Errorf("without health: %s, want %s", got, want)
	}
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	must(t, err)
	healthService(t, ln)
	must(t, check(t, asking(&GRPC{}), "unix:"+socket))
}

func TestGRPCChangesAreReported(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h := healthService(t, ln)
	cfg := often(nil)
	cfg.GRPC = &GRPC{}
	changes, _ := watch(t, cfg, ln.Addr().String(), true)
	h.Shutdown()
	if c := next(t, changes); c.up || said(c.why) != "grpc: NOT_SERVING" {
		t.Errorf("after its shutdown: up %v, %v", c.up, c.why)
	}
	h.Resume()
	if c := next(t, changes); !c.up || c.why != nil {
		t.Errorf("resumed: up %v, %v", c.up, c.why)
	}
}

func TestGRPCRequest(t *testing.T) {
	type request struct {
		Proto, Line, Host, Body string
		Header                  http.Header
	}
	got := make(chan request, 1)
	address := h2(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.Proto, r.Method + " " + r.RequestURI, r.Host, string(body), r.Header}
	})
	f := func(g GRPC, host, body string) {
		t.Helper()
		_ = check(t, asking(&g), address)
		want := request{"HTTP/2.0", "POST /grpc.health.v1.Health/Check", host, body, http.Header{
			"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"sluice-health"}, "Content-Length": {strconv.Itoa(len(body))}}}
		if diff := cmp.Diff(want, receive(t, "the call is made", got)); diff != "" {
			t.Errorf("%+v: request (-want +got):\n%s", g, diff)
		}
	}
	f(GRPC{}, address, frame())
	f(GRPC{Authority: "app.test:443", Service: "shop"}, "app.test:443", frame([]byte("\x0a\x04shop")...))
}

// frame is a gRPC message.
func frame(message ...byte) string {
	b := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message)))
	return string(append(b, message...))
}

func TestGRPCAnswersUpAndDown(t *testing.T) {
	up := frame(1<<3, 1)
	type answer struct {
		status  int
		headers string // lines
		body    string
		trailer string // grpc-status's, or none
		message string // grpc-message's
	}
	const grpcType = "Content-Type: application/grpc"
	f := func(a answer, want string) {
		t.Helper()
		address := h2(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for line := range strings.Lines(a.headers) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				w.Header().Add(key, value)
			}
			if a.trailer != "" {
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", a.trailer)
			}
			if a.message != "" {
				w.Header().Set(http.TrailerPrefix+"Grpc-Message", a.message)
			}
			w.WriteHeader(a.status)
			_, _ = io.WriteString(w, a.body)
		})
		if got := said(check(t, asking(&GRPC{}), address)); got != want {
			t.Errorf("%+.80v: %s, want %s", a, got, want)
		}
	}
	f(answer{200, grpcType, up, "0", ""}, "up")
	f(answer{200, grpcType + "+proto", up, "0", ""}, "up")
	f(answer{200, grpcType + ";x=y", up, "0", "fine"}, "up")
	f(answer{200, grpcType, frame(2<<3|2, 1, 'x', 1<<3, 1), "0", ""}, "up") // a field of a later version
	f(answer{200, grpcType, frame(1<<3, 2), "0", ""}, "grpc: NOT_SERVING")
	f(answer{200, grpcType, frame(), "0", ""}, "grpc: UNKNOWN")
	f(answer{503, "", "down", "", ""}, "grpc: answered 503")
	f(answer{404, grpcType, up, "0", ""}, "grpc: answered 404")
	f(answer{200, "Content-Type: text/html", "<html>", "", ""}, `grpc: content type "text/html"`)
	f(answer{200, "Content-Type: application/grpc-web", up, "0", ""}, `grpc: content type "application/grpc-web"`)
	// Statuses, in the trailers and in the head.
	f(answer{200, grpcType, up, "", ""}, "grpc: no grpc-status")
	f(answer{200, grpcType, up, "x", ""}, `grpc: grpc-status "x"`)
	f(answer{200, grpcType, up, "-1", ""}, `grpc: grpc-status "-1"`)
	f(answer{200, grpcType, "", "14", ""}, "grpc: UNAVAILABLE")
	f(answer{200, grpcType, up, "16", "no%20token"}, `grpc: UNAUTHENTICATED "no token"`)
	f(answer{200, grpcType, "", "9", "1+1"}, `grpc: FAILED_PRECONDITION "1+1"`)
	f(answer{200, grpcType, "", "17", "100%"}, `grpc: status 17 "100%"`)
	f(answer{200, grpcType, "", "13", "a%0Ab%FF" + strings.Repeat("x", 100)}, `grpc: INTERNAL "a\nb\xff`+strings.Repeat("x", 56)+`"…`)
	f(answer{200, grpcType + "\nGrpc-Status: 12", "", "", ""}, "grpc: UNIMPLEMENTED")
	// Messages.
	f(answer{200, grpcType, "", "0", ""}, "grpc: no message")
	f(answer{200, grpcType, "\x00\x00\x00", "0", ""}, "grpc: malformed message")
	f(answer{200, grpcType, up[:len(up)-1], "0", ""}, "grpc: malformed message")
	f(answer{200, grpcType, up + "\x00", "0", ""}, "grpc: malformed message")
	f(answer{200, grpcType, up + up, "0", ""}, "grpc: malformed message")
	f(answer{200, grpcType, "\x01" + up[1:], "0", ""}, "grpc: malformed message") // compressed
	f(answer{200, grpcType, "\x00\xff\xff\xff\xff", "0", ""}, "grpc: malformed message")
	f(answer{200, grpcType, frame(1 << 3), "0", ""}, "grpc: malformed message")
	f(answer{200, grpcType, frame(2<<3|2, 5, 'x'), "0", ""}, "grpc: malformed message")
	f(answer{200, grpcType, frame(make([]byte, 4096)...), "0", ""}, "grpc: an answer of more than 4 KiB")
	f(answer{200, grpcType, strings.Repeat("x", 1<<20), "0", ""}, "grpc: an answer of more than 4 KiB")
}

func TestGRPCBrokenAnswers(t *testing.T) {
	f := func(name, address, want string) {
		t.Helper()
		got := said(check(t, asking(&GRPC{}), address))
		if !strings.HasPrefix(got, want) || len(got) > reasonBytes+20 {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	cut := func(w http.ResponseWriter, head bool) {
		if head {
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = io.WriteString(w, frame(1<<3, 1))
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}
	f("cut off before the head", h2(t, func(w http.ResponseWriter, _ *http.Request) { cut(w, false) }), "grpc: stream error: ")
	f("cut off before the trailers", h2(t, func(w http.ResponseWriter, _ *http.Request) { cut(w, true) }), "grpc: stream error: ")
	f("head too long", h2(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("X", strings.Repeat("a", 70<<10))
	}), "grpc: connection error: COMPRESSION_ERROR")
	f("head of too many lines", h2(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 2000 {
			w.Header().Set(fmt.Sprint("X-", i), "abcdefghijklmnopqrstuvwxyz")
		}
	}), "grpc: connection error: PROTOCOL_ERROR")
	f("HTTP/1.1", newApp(t, 200).address, "grpc: ")
	f("an HTTP/1.1 answer", says(t, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "grpc: ")
	f("another protocol", says(t, "SSH-2.0-OpenSSH_9.2\r\n"), "grpc: ")
	f("garbage", says(t, strings.Repeat("\xff", 100<<10)), "grpc: ")
	f("closed at once", says(t, ""), "grpc: ")
	f("settings and no more", says(t, "\x00\x00\x00\x04\x00\x00\x00\x00\x00"), "grpc: ")
	f("going away", says(t, "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"), "grpc: ")
}

// The other opinion is protobuf's own.
func FuzzHealthResponse(f *testing.F) {
	for _, m := range []string{
		"", "\x08\x01", "\x08\x02", "\x08", "\x08\x01\x08\x02", "\x12\x01x\x08\x01", "\x0a\x01\x01", "\x09\x01\x02\x03\x04\x05\x06\x07\x08",
		"\x0d\x01\x02\x03\x04", "\x0b\x0c", "\x0c", "\x08\x81\x80\x80\x80\x10", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "\x00\x01", "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x88\x80\x80\x80\x00\x01",
		"\xff\xff\xff\xff\x7f\x01", "\x80\x80\x80\x80\x10\x01",
	} {
		f.Add(frame([]byte(m)...))
	}
	f.Add("")
	f.Add("\x01\x00\x00\x00\x00")
	f.Add("\x00\x00\x00\x00\x01")
	f.Fuzz(func(t *testing.T, body string) {
		got, err := healthResponse([]byte(body))
		if len(body) < 5 || body[:5] != frame([]byte(body[5:])...)[:5] {
			if err == nil {
				t.Fatalf("%q: no frame, and status %d", body, got)
			}
			return
		}
		var want healthpb.HealthCheckResponse
		wantErr := proto.Unmarshal([]byte(body[5:]), &want)
		switch {
		case err == nil && wantErr != nil:
			t.Fatalf("%q: status %d, want %v", body, got, wantErr)
		case err == nil && got != uint64(uint32(want.Status)):
			t.Fatalf("%q: status %d, want %d", body, got, want.Status)
		case err != nil && wantErr == nil && !strings.ContainsFunc(body, func(r rune) bool { return r&7 == 3 || r&7 == 4 }):
			t.Fatalf("%q: %v, want status %d", body, err, want.Status) // but for groups
		}
	})
}

func TestHealthRequest(t *testing.T) {
	for _, service := range []string{"", "a", "shop.Ördering", strings.Repeat("a", 127), strings.Repeat("a", 128), strings.Repeat("a", maxMessage)} {
		message, err := proto.Marshal(&healthpb.HealthCheckRequest{Service: service})
		must(t, err)
		if got := string(healthRequest(service)); got != frame(message...) {
			t.Errorf("%.20q: %.40q, want %.40q", service, got, frame(message...))
		}
	}
}
