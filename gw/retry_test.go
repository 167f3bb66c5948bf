package gw

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"sluice/lb"
)

// An endpoint that takes requests and hangs up on them costs a client nothing, if what it asks may be asked twice.
func TestAnotherEndpointWhenOneHangsUp(t *testing.T) {
	f := func(method string, want int) {
		t.Helper()
		bad := record(t, func(int, *seen) (string, error) { return "", errHangUp })
		good := recordOK(t)
		e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cluster("c", bad.address, good.address))
		c := e.dial(t)
		got := map[int]int{}
		for range 8 {
			c.send(method + " / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
			resp, _ := c.answer(method)
			got[resp.StatusCode]++
		}
		if want == 200 && got[200] != 8 || want != 200 && (got[want] == 0 || got[200]+got[want] != 8) {
			t.Errorf("%s: %v", method, got)
		}
		reqs, _ := bad.requests()
		if len(reqs) == 0 {
			t.Errorf("%s: nobody hung up", method)
		}
		retries := uint64(0)
		if want == 200 {
			retries = uint64(len(reqs))
		}
		if n := e.counters().Retries.Load(); n != retries {
			t.Errorf("%s: %d retries, and %d requests were hung up on", method, n, len(reqs))
		}
		for _, ep := range e.clusters["c"].Endpoints() {
			eventually(t, "nothing is in flight to "+ep.String(), func() bool { return ep.InFlight() == 0 })
		}
	}
	f("GET", 200)
	f("PUT", 200)
	f("POST", 502)
}

// A cluster whose endpoints all hang up is asked no more than its budget allows.
func TestRetriesHaveABudget(t *testing.T) {
	var recs []*recorder
	var addresses []string
	for range 3 {
		r := record(t, func(int, *seen) (string, error) { return "", errHangUp })
		recs, addresses = append(recs, r), append(addresses, r.address)
	}
	cfg := cluster("c", addresses...)
	cfg.RetryBudget = 1
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	const requests = 100
	c := e.dial(t)
	for range requests {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, _ := c.answer("GET"); resp.StatusCode != 502 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	asked := 0
	for _, r := range recs {
		reqs, _ := r.requests()
		asked += len(reqs)
	}
	// Without a bound each request is tried at all three.
	if asked <= requests || 2*asked >= 5*requests {
		t.Errorf("%d requests were asked %d times", requests, asked)
	}
}

// A status of the cluster's list is another endpoint's turn; the last one's answer stands.
func TestStatusesThatAreRetried(t *testing.T) {
	busy := func() *recorder {
		return record(t, func(_ int, s *seen) (string, error) {
			return "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", nil
		})
	}
	one, good := busy(), recordOK(t)
	cfg := cluster("c", one.address, good.address)
	cfg.Retry = lb.Retry{Statuses: []int{503}}
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	for range 4 {
		if status, body := c.get("/"); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	a, _ := c.answer("POST")
	b, _ := c.answer("POST")
	if a.StatusCode+b.StatusCode != 200+503 {
		t.Errorf("POST: %d and %d", a.StatusCode, b.StatusCode)
	}
	e.nothingInFlight(t)

	cfg = cluster("c", one.address, busy().address)
	cfg.Retry = lb.Retry{Statuses: []int{503}}
	e = newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	if status, body := e.dial(t).get("/"); status != 503 || body != "busy" {
		t.Errorf("%d %s, not what the last endpoint said", status, body)
	}
}

// A body within the bound goes to another endpoint with its request, also if it came in pieces; a larger one does not.
func TestBodiesAreReplayed(t *testing.T) {
	f := func(size int, want int) {
		t.Helper()
		bad := record(t, func(_ int, s *seen) (string, error) {
			_, _ = io.CopyN(io.Discard, s.Body, int64(size)) // and hangs up when it has all
			return "", errHangUp
		})
		good := recordOK(t)
		e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cluster("c", bad.address, good.address))
		body := strings.Repeat("0123456789", size/10)
		c := e.dial(t)
		got := map[int]int{}
		for i := range 2 {
			c.send(fmt.Sprintf("PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", i))
			for rest := body; rest != ""; {
				n := min(len(rest), 7000)
				c.send(fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n]))
				rest = rest[n:]
			}
			c.send("0\r\n\r\n")
			resp, _ := c.answer("PUT")
			got[resp.StatusCode]++
			if resp.Close {
				c = e.dial(t)
			}
		}
		if got[want] == 0 || want != 200 && got[200]+got[want] != 2 {
			t.Errorf("%d bytes: %v, want %d", size, got, want)
		}
		reqs, _ := good.requests()
		for _, r := range reqs {
			if r.body != body {
				t.Errorf("%d bytes came as %d", size, len(r.body))
			}
		}
		e.nothingInFlight(t)
	}
	f(50_000, 200)
	f(200_000, 502)
}
