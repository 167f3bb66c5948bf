package gw

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/lb"
)

// The endpoint is told what is left of the route's time, or of the client's if that is shorter.
func TestDeadlineIsPassedOn(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}, {Match: prefix("/timed"), Cluster: "c", Timeout: 20 * time.Second}},
		cluster("c", rec.address))
	c := e.dial(t)
	f := func(path, header string, most float64, grpc string) {
		t.Helper()
		c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n" + header + "\r\n")
		c.gets(200)
		reqs, _ := rec.requests()
		h := reqs[len(reqs)-1].Header
		left := h.Values("X-Request-Timeout")
		if most == 0 {
			if len(left) > 0 {
				t.Errorf("%s %q: the endpoint is told %q", path, header, left)
			}
		} else if n, err := strconv.ParseFloat(strings.Join(left, ","), 64); err != nil || n > most || n < most-5 {
			t.Errorf("%s %q: the endpoint is told %q", path, header, left)
		}
		if got := strings.Join(h.Values("Grpc-Timeout"), ","); (got == "") != (grpc == "") || !strings.HasSuffix(got, grpc) {
			t.Errorf("%s %q: grpc-timeout %q", path, header, got)
		}
	}
	f("/", "", 0, "")
	f("/timed", "", 20, "")
	f("/timed", "X-Request-Timeout: 10\r\n", 10, "")
	f("/timed", "X-Request-Timeout: 7.5\r\n", 7.5, "")
	f("/timed", "X-Request-Timeout: 100\r\n", 20, "")
	f("/", "x-request-timeout: 15s\r\n", 15, "")
	f("/", "X-Request-Timeout: 12000ms\r\n", 12, "")
	f("/", "X-Request-Timeout: soon\r\n", 0, "")
	f("/", "X-Request-Timeout: -3\r\n", 0, "")
	f("/", "X-Request-Timeout: 5\r\nX-Request-Timeout: 9\r\n", 5, "")
	f("/timed", "grpc-timeout: 10S\r\n", 10, "m")
	f("/", "grpc-timeout: 9000m\r\n", 9, "m")
	f("/", "grpc-timeout: 1234567890S\r\n", 0, "")
}

// An exchange that is not over in time is: by 504, or by the end of a connection that has got some of the response.
func TestWholeExchangeHasATime(t *testing.T) {
	slow := silent(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c", Timeout: 50 * time.Millisecond}}, cluster("c", slow.address))
	c := e.dial(t)
	c.ask("/")
	c.gets(504)
	e.nothingInFlight(t)
	c.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 0.02\r\n\r\n")
	c.gets(504)

	half := record(t, func(int, *seen) (string, error) { return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", nil })
	e = newEdge(t, Config{}, []Route{{Cluster: "c", Timeout: 50 * time.Millisecond}}, cluster("c", half.address))
	c = e.dial(t)
	c.ask("/")
	if all, err := c.rest(); !strings.HasSuffix(all, "half") || err != nil {
		t.Errorf("%q and %v", all, err)
	}
	e.nothingInFlight(t)
}

// Who does not answer a try in its time loses it to another endpoint.
func TestEachTryHasATime(t *testing.T) {
	slow, good := silent(t), recordOK(t)
	cfg := cluster("c", slow.address, good.address)
	cfg.Retry = lb.Retry{PerTry: 30 * time.Millisecond}
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	for range 4 {
		c.ask("/")
		c.gets(200)
	}
	e.nothingInFlight(t)
	if n := e.counters().Retries.Load(); n != 2 {
		t.Errorf("%d retries", n)
	}
	// What may not be sent twice ends there.
	got := map[int]int{}
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
		resp, _ := c.answer("POST")
		got[resp.StatusCode]++
	}
	if got[200] != 1 || got[504] != 1 {
		t.Errorf("POST: %v", got)
	}
}
