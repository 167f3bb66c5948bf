package gw

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"sluice/lb"
)

// silent is an upstream that takes requests, and answers none of them.
func silent(t testing.TB) *recorder {
	hold := make(chan struct{})
	rec := record(t, func(int, *seen) (string, error) { <-hold; return "", errHangUp })
	t.Cleanup(func() { close(hold) }) // before the recorder waits for its connections
	return rec
}

func hedging(addresses ...string) lb.Config {
	cfg := cluster("c", addresses...)
	cfg.Hedge = &lb.Hedge{After: 20 * time.Millisecond, MaxPercent: 100}
	return cfg
}

// Who has not begun to answer in time has a rival, and the first to answer serves the client.
func TestSecondEndpointIsAsked(t *testing.T) {
	slow, good := silent(t), recordOK(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, hedging(slow.address, good.address))
	c := e.dial(t)
	for range 4 {
		if status, body := c.get("/"); status != 200 || body != "OK" {
			t.Fatalf("%d %s", status, body)
		}
	}
	if n := e.counters().Hedges.Load(); n != 2 {
		t.Errorf("%d requests hedged, of the 2 that went to the silent endpoint", n)
	}
	e.nothingInFlight(t)
	if reqs, _ := good.requests(); len(reqs) != 4 {
		t.Errorf("the other endpoint saw %d requests", len(reqs))
	}
}

// The endpoint that was asked first may still be the first to answer: its rival is hung up on.
func TestRivalMayLose(t *testing.T) {
	second := silent(t)
	first := record(t, func(int, *seen) (string, error) {
		for {
			if reqs, _ := second.requests(); len(reqs) > 0 {
				return ok, nil
			}
			<-time.After(time.Millisecond)
		}
	})
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, hedging(first.address, second.address))
	c := e.dial(t)
	if status, _ := c.get("/"); status != 200 {
		t.Fatalf("%d", status)
	}
	e.nothingInFlight(t)
}

// An endpoint that fails while its rival is at it costs the client nothing.
func TestRivalTakesOver(t *testing.T) {
	release := make(chan struct{})
	good := serveTCP(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		close(release)
		_, _ = io.Copy(io.Discard, c) // until the test ends: nothing comes
	})
	first := record(t, func(int, *seen) (string, error) { <-release; return "", errHangUp })
	cfg := hedging(first.address, good)
	cfg.ResponseTimeout = 300 * time.Millisecond
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	c.ask("/")
	c.gets(504) // the rival's own time has passed; the first one's end would have been 502
	e.nothingInFlight(t)
}

// What may not be done twice is not hedged.
func TestPOSTIsNotHedged(t *testing.T) {
	answer := make(chan struct{})
	slow := record(t, func(int, *seen) (string, error) { <-answer; return ok, nil })
	good := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, hedging(slow.address, good.address))
	post, get := e.dial(t), e.dial(t)
	post.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
	eventually(t, "the request has come", func() bool { reqs, _ := slow.requests(); return len(reqs) == 1 })
	_, _ = get.get("/")
	get.ask("/hedged") // to the slow one, whose time has passed when this has been answered
	get.gets(200)
	if reqs, _ := good.requests(); len(reqs) != 2 {
		t.Errorf("the other endpoint saw %d requests, not two GETs", len(reqs))
	}
	close(answer)
	if resp, _ := post.answer("POST"); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
	e.nothingInFlight(t)
}
