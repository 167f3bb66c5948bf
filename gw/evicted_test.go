package gw

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/lb"
)

// maintain has these endpoints of the cluster go into maintenance, and no others: what goes on with them ends.
func (e *edge) maintain(addresses ...string) {
	cl := e.clusters["c"]
	var list []lb.EndpointConfig
	for _, ep := range cl.Endpoints() {
		c := lb.EndpointConfig{Address: ep.String()}
		if slices.Contains(addresses, ep.String()) {
			c.State = "maint"
		}
		list = append(list, c)
	}
	cl.Start()
	cl.SetEndpoints(list)
}

// held is an upstream that answers each request with head, and then says nothing.
func held(t testing.TB, head string) (address string, begun <-chan struct{}) {
	ch := make(chan struct{}, 64)
	return serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, head)
		ch <- struct{}{}
		_, _ = io.Copy(io.Discard, r)
	}), ch
}

const half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"

// An exchange ends with its endpoint's sessions, whatever it does: by 503, or cut off.
func TestEvictedWhile(t *testing.T) {
	for name, f := range map[string]struct {
		head, request string
		want          string
	}{
		"unanswered": {"", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 503 "},
		"uploading":  {"", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nhi", "HTTP/1.1 503 "},
		"interim":    {"HTTP/1.1 103 Early Hints\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 "},
		"part head":  {"HTTP/1.1 200 OK\r\nX", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 503 "},
		"streaming":  {half, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "},
		"early":      {half, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nhi", "HTTP/1.1 200 "},
		"tunnel":     {switched, upgrade, "HTTP/1.1 101 "},
	} {
		t.Run(name, func(t *testing.T) {
			address, begun := held(t, f.head)
			e := toUpstream(t, Config{}, address)
			c := e.dial(t)
			c.send(f.request)
			<-begun
			seen := f.want[:strings.LastIndex(f.want, "HTTP")]
			if f.head != "" && !strings.HasSuffix(f.head, "X") {
				if seen == "" {
					seen = f.want
				}
				c.receives(seen)
			} else {
				seen = ""
			}
			e.maintain(address)
			rest, _ := c.rest0()
			if all := seen + rest; !strings.HasPrefix(all, f.want) || strings.Count(all, "HTTP/1.1 ") != strings.Count(f.want, "HTTP/1.1 ") {
				t.Errorf("the client got %q", all)
			}
			e.settles(t)
		})
	}
}

// rest0 is what comes until the connection ends, or a response of the gateway's own has.
func (c *client) rest0() (string, error) {
	var all []byte
	for b := make([]byte, 1); ; all = append(all, b[0]) {
		if _, err := c.r.Read(b); err != nil {
			return string(all), err
		}
		if strings.HasSuffix(string(all), "\"}") {
			return string(all), nil
		}
	}
}

// A request of which the endpoint has seen nothing, or that may be asked twice, goes to another one.
func TestEvictedGoesElsewhere(t *testing.T) {
	good := recordOK(t)
	unseen := mute(t)
	f := func(method, away string, begun <-chan struct{}, want int) {
		t.Helper()
		cfg := cluster("c", away, good.address)
		cfg.ConnectTimeout = time.Minute
		e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
		c := e.dial(t)
		c.send(method + " / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
		if begun != nil {
			<-begun
		}
		eventually(t, "it is under way", func() bool { return e.clusters["c"].Endpoints()[0].InFlight() == 1 })
		e.maintain(away)
		c.gets(want)
		e.settles(t)
	}
	f("POST", unseen, nil, 200)
	silent, begun := held(t, "")
	f("GET", silent, begun, 200)
	f("POST", silent, begun, 503)
}

// While a second endpoint is asked, the first one's end is none of the client's business; nor is the second's; and of the
// one that serves it, it is.
func TestEvictedWhileHedged(t *testing.T) {
	first, asked := held(t, "")
	second, askedToo := held(t, "")
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, hedging(first, second))
	c := e.dial(t)
	c.ask("/")
	<-asked
	<-askedToo
	e.maintain(second)
	eventually(t, "the second is left", func() bool { return e.clusters["c"].Endpoints()[1].InFlight() == 0 })
	e.maintain(first, second)
	c.gets(503)
	e.settles(t)

	serving, served := held(t, half)
	e = newEdge(t, Config{}, []Route{{Cluster: "c"}}, hedging(first, serving))
	c = e.dial(t)
	c.ask("/")
	<-asked
	<-served
	c.receives("HTTP/1.1 200 OK\r\n")
	e.maintain(serving)
	if all, err := c.rest(); !strings.HasSuffix(all, "half") || err != nil {
		t.Errorf("%q and %v", all, err)
	}
	e.settles(t)

	e = newEdge(t, Config{}, []Route{{Cluster: "c"}}, hedging(first, second))
	c = e.dial(t)
	c.ask("/")
	<-asked
	<-askedToo
	e.maintain(first)
	eventually(t, "the first is left", func() bool { return e.clusters["c"].Endpoints()[0].InFlight() == 0 })
	if n := e.clusters["c"].Endpoints()[1].InFlight(); n != 1 {
		t.Errorf("the second has %d in flight", n)
	}
	e.maintain(first, second)
	c.gets(503)
	e.settles(t)
}
