package health

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	f := func(cfg Config, want ...string) {
		t.Helper()
		var got []string
		cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("%+v:\n got %q\nwant %q", cfg, got, want)
		}
		ch, err := New(cfg)
		if (err == nil) != (len(want) == 0) || (ch == nil) != (err != nil) {
			t.Errorf("%+v: made a Checker %v, with %v", cfg, ch != nil, err)
		}
		if err != nil && err.Error() != strings.Join(want, "\n") {
			t.Errorf("%+v: made a Checker with %v", cfg, err)
		}
	}
	f(Config{})
	f(Config{Interval: time.Second, IntervalDown: 1, Timeout: time.Second, Rise: 1, Fall: 1, MaxInFlight: 1, Port: 65535,
		HTTP: &HTTP{Path: "/healthz?full=1", Host: "a.test:80"}})
	f(Config{Interval: -1, IntervalDown: -1, Timeout: -1, Rise: -1, Fall: -1, MaxInFlight: -1},
		"interval: must not be negative", "interval_down: must not be negative", "timeout: must not be negative",
		"rise: must not be negative", "fall: must not be negative", "max_in_flight: must not be negative")
	f(Config{Port: -1}, "port: port -1: 1 to 65535, or 0 for the endpoint's own")
	f(Config{Port: 65536}, "port: port 65536: 1 to 65535, or 0 for the endpoint's own")

	// One kind.
	f(Config{HTTP: &HTTP{Path: "/"}, GRPC: &GRPC{}}, "grpc: is one kind of check too many: there is http")
	f(Config{GRPC: &GRPC{}, Expect: &Expect{Receive: "a"}}, "expect: is one kind of check too many: there is grpc")
	f(Config{HTTP: &HTTP{Path: "/"}, GRPC: &GRPC{}, Expect: &Expect{Receive: "a"}},
		"grpc: is one kind of check too many: there is http", "expect: is one kind of check too many: there is http")

	// http
	f(Config{HTTP: &HTTP{}}) // that a path is required is the decoder's to say
	f(Config{HTTP: &HTTP{Path: "healthz"}}, `http.path: "healthz" is not a path`)
	// Neither may bring a second line, or a second request, into the check.
	f(Config{HTTP: &HTTP{Path: "/ HTTP/1.1\r\nX: y"}}, `http.path: "/ HTTP/1.1\r\nX: y" is not a path`)
	f(Config{HTTP: &HTTP{Path: "/ä"}}, `http.path: "/ä" is not a path`)
	f(Config{HTTP: &HTTP{Path: "/", Host: "a\r\nX: y"}}, `http.host: "a\r\nX: y" is not a host`)
	f(Config{HTTP: &HTTP{Path: "/", Host: "a b"}}, `http.host: "a b" is not a host`)
	f(Config{HTTP: &HTTP{Path: "/", Method: "HEAD"}})
	f(Config{HTTP: &HTTP{Path: "/", Method: "VERSION-CONTROL"}})
	f(Config{HTTP: &HTTP{Path: "/", Method: "get"}}, `http.method: "get" is not a method`)
	f(Config{HTTP: &HTTP{Path: "/", Method: "GET /x"}}, `http.method: "GET /x" is not a method`)
	f(Config{HTTP: &HTTP{Path: "/", Method: "CONNECT"}}, "http.method: CONNECT asks for a tunnel, which says nothing of an endpoint")
	f(Config{HTTP: &HTTP{Path: "/", Statuses: []Status{"200", "204-204", "300-599"}, Body: `^ok\s`}})
	bad := func(i, status string) string {
		return "http.statuses[" + i + `]: "` + status + `" is neither a status nor a range of them, from 200 to 599`
	}
	f(Config{HTTP: &HTTP{Path: "/", Statuses: []Status{"200-299", "2xx", "404", "199", "600"}}},
		bad("1", "2xx"), bad("3", "199"), bad("4", "600"))
	f(Config{HTTP: &HTTP{Path: "/", Statuses: []Status{"", "-", "200-", "-200", "299-200", "200-600", "0200", "+20", "200 - 299", "200-299-399"}}},
		bad("0", ""), bad("1", "-"), bad("2", "200-"), bad("3", "-200"), bad("4", "299-200"), bad("5", "200-600"),
		bad("6", "0200"), bad("7", "+20"), bad("8", "200 - 299"), bad("9", "200-299-399"))
	f(Config{HTTP: &HTTP{Path: "/", Body: "(ok"}}, "http.body: error parsing regexp: missing closing ): `(ok`")
	f(Config{HTTP: &HTTP{Path: "/", Body: "ok", Method: "HEAD"}}, "http.body: HEAD is answered without a body")

	// grpc
	f(Config{GRPC: &GRPC{}})
	f(Config{GRPC: &GRPC{Service: "shop.Ördering", Authority: "a.test:80"}})
	f(Config{GRPC: &GRPC{Service: "\xff", Authority: "a b"}}, `grpc.service: "\xff" is not UTF-8`, `grpc.authority: "a b" is not an authority`)
	f(Config{GRPC: &GRPC{Service: strings.Repeat("a", 4097)}}, "grpc.service: is longer than 4 KiB")

	// expect
	f(Config{Expect: &Expect{Send: `PING\r\n`, Receive: `\x2bPONG\r\n`}})
	f(Config{Expect: &Expect{Send: "PING\r\n", Receive: "+PONG\r\n"}})
	f(Config{Expect: &Expect{Receive: strings.Repeat(`\x00`, 64<<10)}})
	f(Config{Expect: &Expect{Send: "a"}}, "expect.receive: must not be empty: anything would do, even silence")
	f(Config{Expect: &Expect{Send: `PING\q`, Receive: `\x1`}},
		`expect.send: bad escape "\\q" at byte 4: known are \r, \n, \t, \\, \xNN`,
		`expect.receive: bad escape "\\x1" at byte 0: known are \r, \n, \t, \\, \xNN`)
	f(Config{Expect: &Expect{Send: strings.Repeat("a", 64<<10+1), Receive: strings.Repeat("a", 64<<10+1)}},
		"expect.send: is longer than 64 KiB", "expect.receive: is longer than 64 KiB")
}
