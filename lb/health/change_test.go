package health

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConnectionRefusedIsDownAcceptedIsUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := ln.Addr().String()
	changes, _ := watch(t, often(nil), address, true)
	ln.Close()
	if c := next(t, changes); c.up || c.why == nil || !strings.Contains(c.why.Error(), "refused") {
		t.Errorf("closed: up %v, %v", c.up, c.why)
	}
	ln, err = net.Listen("tcp", address)
	must(t, err)
	defer ln.Close()
	if c := next(t, changes); !c.up || c.why != nil {
		t.Errorf("opened: up %v, %v", c.up, c.why)
	}
}

// A change is reported by the check that decides it, and by no other.
func TestRiseAndFall(t *testing.T) {
	f := func(rise, fall int, healthy bool, script, want string) {
		t.Helper()
		a := &app{}
		over := make(chan struct{})
		address := a.listen(t, func(n int64, r *http.Request) int {
			if n > int64(len(script)) {
				close(over) // by now Run has judged all of the script, and has to wait for more
				<-r.Context().Done()
				return 500
			}
			if script[n-1] == '+' {
				return 200
			}
			return 500
		})
		cfg := often(&HTTP{Path: "/"})
		cfg.Rise, cfg.Fall = rise, fall
		var got []string
		changes, stop := watch(t, cfg, address, healthy)
		receive(t, "all of "+script+" is asked for", over)
		stop()
		for len(changes) > 0 {
			c := <-changes
			got = append(got, fmt.Sprint(c.up))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("rise %d, fall %d, healthy %v, checks %s: reported %q, want %q", rise, fall, healthy, script, s, want)
		}
	}
	f(2, 3, true, "++++", "")
	f(2, 3, true, "--", "")
	f(2, 3, true, "---", "false")
	f(2, 3, true, "--+--+--", "")
	f(2, 3, true, "--+---", "false")
	f(2, 3, true, "---------", "false")
	f(2, 3, true, "---+-+-+-", "false")
	f(2, 3, true, "---++", "false true")
	f(2, 3, true, "---++++++---++", "false true false true")
	f(2, 3, false, "---", "")
	f(2, 3, false, "+-+-+-", "")
	f(2, 3, false, "-++", "true")
	f(1, 1, true, "-+-+", "false true false true")
	f(5, 1, true, "-++++", "false")
	f(5, 1, true, "-+++++", "false true")
	f(0, 0, true, "--+---++-", "false true") // the defaults are 2 and 3
}

// The endpoint is asked on and on; only changes are told, each once and with its own reason.
func TestChangeIsReportedOnce(t *testing.T) {
	a := newApp(t, 503)
	cfg := often(&HTTP{Path: "/"})
	changes, stop := watch(t, cfg, a.address, true)
	var got []string
	for _, status := range []int64{200, 404, 301} {
		c := next(t, changes)
		got = append(got, fmt.Sprint(c.up, " ", c.why))
		from := a.asked.Load()
		eventually(t, "ten more checks are made", func() bool { return a.asked.Load() >= from+10 })
		a.status.Store(status)
	}
	c := next(t, changes)
	got = append(got, fmt.Sprint(c.up, " ", c.why))
	from := a.asked.Load()
	eventually(t, "ten more checks are made", func() bool { return a.asked.Load() >= from+10 })
	stop()
	want := []string{"false answered 503", "true <nil>", "false answered 404", "true <nil>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if n := len(changes); n != 0 {
		t.Errorf("%d more changes are reported", n)
	}
}

// An interval may be as short as a duration can be written.
func TestShortestInterval(t *testing.T) {
	a := newApp(t, 500)
	cfg := Config{HTTP: &HTTP{Path: "/"}, Interval: 1}
	changes, _ := watch(t, cfg, a.address, true)
	if c := next(t, changes); c.up {
		t.Error("up")
	}
}

func TestValidate(t *testing.T) {
	f := func(cfg Config, want ...string) {
		t.Helper()
		var got []string
		cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("%+v:\n got %q\nwant %q", cfg, got, want)
		}
	}
	f(Config{})
	f(Config{Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1, HTTP: &HTTP{Path: "/healthz?full=1", Host: "a.test:80"}})
	f(Config{Interval: -1, Timeout: -1, Rise: -1, Fall: -1}, "interval: must not be negative",
		"timeout: must not be negative", "rise: must not be negative", "fall: must not be negative")
	f(Config{HTTP: &HTTP{}}) // that a path is required is the decoder's to say
	f(Config{HTTP: &HTTP{Path: "healthz"}}, `http.path: "healthz" is not a path`)
	// Neither may bring a second line, or a second request, into the check.
	f(Config{HTTP: &HTTP{Path: "/ HTTP/1.1\r\nX: y"}}, `http.path: "/ HTTP/1.1\r\nX: y" is not a path`)
	f(Config{HTTP: &HTTP{Path: "/ä"}}, `http.path: "/ä" is not a path`)
	f(Config{HTTP: &HTTP{Path: "/", Host: "a\r\nX: y"}}, `http.host: "a\r\nX: y" is not a host`)
	f(Config{HTTP: &HTTP{Path: "/", Host: "a b"}}, `http.host: "a b" is not a host`)
}
