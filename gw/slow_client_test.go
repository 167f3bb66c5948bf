package gw

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What a client that does not go on holds is in proportion to what it has sent.
func TestHeldIsInProportion(t *testing.T) {
	const fixed, times = 512, 10
	stuck := silent(t)
	e := toUpstream(t, Config{}, stuck.address)
	l := e.engine.Loops()[0]
	head := "GET / HTTP/1.1\r\nHost: a\r\n"
	for name, sent := range map[string]string{
		"a byte":          "G",
		"a short head":    head + "X: y",
		"half a kilobyte": head + "X: " + strings.Repeat("x", 600),
		"4 KiB":           head + "X: " + strings.Repeat("x", 4090),
		"16 KiB":          head + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 16),
		"30 KiB":          head + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 30),
		"empty lines":     "\r\n\r\n\r\n",
		"some of a body":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 5000),
		"chunk extension": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("x", 4000),
		"tiny chunks":     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 1000),
		"pipelined":       strings.Repeat(head+"\r\n", 100),
	} {
		const clients = 8
		var list []*client
		for range clients {
			c := e.dial(t)
			c.send(sent)
			list = append(list, c)
		}
		// All of them have had their turn when somebody who came later has.
		other := e.dial(t)
		other.send("nonsense\r\n\r\n")
		other.answer("GET")
		other.Close()
		if held, most := l.Held(), int64(clients*(fixed+times*len(sent))); held > most {
			t.Errorf("%s: %d bytes held for %d clients that sent %d each", name, held, clients, len(sent))
		}
		for _, c := range list {
			must(t, c.SetLinger(0))
			c.Close()
		}
		eventually(t, name+": nothing is held", func() bool { return l.Held() == 0 && e.engine.Open() == 0 })
	}
}

// A client that sends a byte now and then is cut off when its time is over, and no later for it.
func TestSlowHeadsAreCut(t *testing.T) {
	e := toUpstream(t, Config{HeaderTimeout: 300 * time.Millisecond}, recordOK(t).address)
	var list []*client
	for i := range 20 {
		c := e.dial(t)
		c.send("GET /" + fmt.Sprint(i))
		list = append(list, c)
	}
	stop := make(chan struct{})
	defer close(stop)
	for _, c := range list {
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					if _, err := c.Write([]byte("x")); err != nil {
						return
					}
				}
			}
		}()
	}
	for _, c := range list {
		if resp, _ := c.answer("GET"); resp.StatusCode != 408 || !resp.Close {
			t.Errorf("%d", resp.StatusCode)
		}
	}
	if n := e.counters().Timeouts.Load(); n != 20 {
		t.Errorf("%d timeouts", n)
	}
}
