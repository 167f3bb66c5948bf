package gw

import "testing"

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
