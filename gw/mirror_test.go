package gw

import (
	"strings"
	"testing"
)

// A mirror gets a copy of each request, body and all, and what it answers nobody sees.
func TestMirror(t *testing.T) {
	main := recordOK(t)
	shadow := record(t, func(int, *seen) (string, error) {
		return "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nnope", nil
	})
	e := newEdge(t, Config{}, []Route{{Cluster: "c", Mirror: &MirrorConfig{Cluster: "shadow"}}},
		cluster("c", main.address), cluster("shadow", shadow.address))
	c := e.dial(t)
	for i := range 3 {
		c.send("PUT /a?b HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: one\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
		if resp, body := c.answer("PUT"); resp.StatusCode != 200 || body != "OK" {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
		eventually(t, "the mirror has seen it", func() bool { reqs, _ := shadow.requests(); return len(reqs) == i+1 && reqs[i].body == "hi" })
		eventually(t, "its connection is kept", func() bool { return e.clusters["shadow"].Endpoints()[0].InFlight() == 0 })
	}
	reqs, _ := shadow.requests()
	if r := reqs[0]; r.Method != "PUT" || r.RequestURI != "/a?b" || r.Host != "a.test" || r.Header.Get("X-Request-Id") != "one" {
		t.Errorf("the mirror saw %+v", r.Request)
	}
	if shadow.conns != 1 {
		t.Errorf("%d connections for three copies", shadow.conns)
	}
	if n := e.counters(); n.Mirrored.Load() != 3 || n.MirrorFailed.Load() != 0 {
		t.Errorf("%d mirrored, %d failed", n.Mirrored.Load(), n.MirrorFailed.Load())
	}
}

// A mirror that is down, silent or talks nonsense is nobody's trouble.
func TestMirrorFails(t *testing.T) {
	none := 0.0
	for name, f := range map[string]struct {
		address string
		percent *float64
		failed  uint64
	}{
		"down":     {dead(t), nil, 1},
		"hangs up": {record(t, func(int, *seen) (string, error) { return "", errHangUp }).address, nil, 1},
		"nonsense": {record(t, func(int, *seen) (string, error) { return "hello", errHangUp }).address, nil, 1},
		"too much": {record(t, func(int, *seen) (string, error) { return ok + "more", nil }).address, nil, 0},
		"nothing":  {dead(t), &none, 0},
	} {
		t.Run(name, func(t *testing.T) {
			main := recordOK(t)
			e := newEdge(t, Config{}, []Route{{Cluster: "c", Mirror: &MirrorConfig{Cluster: "shadow", Percent: f.percent}}},
				cluster("c", main.address), cluster("shadow", f.address))
			if status, _ := e.dial(t).get("/"); status != 200 {
				t.Errorf("%d", status)
			}
			eventually(t, "the copy is done with", func() bool {
				return e.clusters["shadow"].Endpoints()[0].InFlight() == 0 && e.counters().MirrorFailed.Load() == f.failed
			})
		})
	}
}

// What cannot be kept whole is not mirrored, rather than in part.
func TestLargeBodyIsNotMirrored(t *testing.T) {
	main, shadow := recordOK(t), recordOK(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c", Mirror: &MirrorConfig{Cluster: "shadow"}}},
		cluster("c", main.address), cluster("shadow", shadow.address))
	c := e.dial(t)
	body := strings.Repeat("x", 300<<10)
	c.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 307200\r\n\r\n" + body)
	if resp, _ := c.answer("PUT"); resp.StatusCode != 200 {
		t.Fatalf("%d", resp.StatusCode)
	}
	if status, _ := c.get("/after"); status != 200 {
		t.Fatalf("%d", status)
	}
	eventually(t, "the small one is mirrored", func() bool { reqs, _ := shadow.requests(); return len(reqs) > 0 })
	if reqs, _ := shadow.requests(); len(reqs) != 1 || reqs[0].URL.Path != "/after" {
		t.Errorf("the mirror saw %d requests, first %s", len(reqs), reqs[0].URL.Path)
	}
}
