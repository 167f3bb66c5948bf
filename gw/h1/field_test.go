package h1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A name that is not known for what it is would be forwarded.
func TestKindsOfFields(t *testing.T) {
	for kind, names := range map[Kind][]string{
		Host: {"Host"}, ContentLength: {"Content-Length"}, Date: {"Date"}, Cookie: {"Cookie"}, Guarded: {"Authorization", "Via"},
		Content:      {"Content-Type", "Content-Encoding", "Content-Range", "Content-Lengths", "Content-"},
		Deadline:     {"X-Request-Timeout"},
		GRPCDeadline: {"grpc-timeout"},
		TE:           {"TE"}, Trailer: {"Trailer"}, Upgrade: {"Upgrade"},
		Expect: {"Expect"}, RequestID: {"X-Request-Id"}, Connection: {"Connection"}, TransferEncoding: {"Transfer-Encoding"},
		HopByHop: {"Keep-Alive", "Proxy", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "HTTP2-Settings"},
		Forwarding: {"X-Real-IP", "X-Forwarded-X", "X-Forwarded-", "X-Client-IP",
			"True-Client-IP", "X-Cluster-Client-IP", "X-Original-URL", "X-Original-", "X-Rewrite-URL"},
		Forwarded: {"Forwarded"}, ForwardedFor: {"X-Forwarded-For"}, ForwardedProto: {"X-Forwarded-Proto"}, ForwardedHost: {"X-Forwarded-Host"},
		Underscore: {"X_Forwarded_For", "_", "Content_Length", "X_Request_Timeout", "X_Request_Id", "X-Real_IP"},
		Other: {"Accept", "Set-Cookie", "X-Forwarded", "X-Forwarder-For", "X-Originals", "Hosts", "Contents", "Content", "Updated", "TF", "Vib",
			"X-Request-Timeouts", "Grpc-Timeou"},
	} {
		for _, name := range names {
			for _, spelt := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
				if got := KindOf([]byte(spelt)); got != kind {
					t.Errorf("%s is of kind %d, not %d", spelt, got, kind)
				}
			}
		}
	}
}

func TestHeadersThatMayBe(t *testing.T) {
	for in, want := range map[string]bool{"X-A": true, "a!#$%&'*+-.^_`|~9": true, "": false, "a b": false, "a:": false,
		"\xe9": false, "a(": false} {
		if got := ValidName(in); got != want {
			t.Errorf("name %q: %v", in, got)
		}
	}
	for in, want := range map[string]bool{"": true, "a b\tc": true, "\xe9": true, " a": false, "a\t": false,
		"a\r\nB: c": false, "a\x00": false, "a\x7f": false} {
		if got := ValidValue(in); got != want {
			t.Errorf("value %q: %v", in, got)
		}
	}
}

// White space around a value is none of it; within, it stays.
func TestValues(t *testing.T) {
	_, q := verdict([]byte(headOf(get, "Host: \t a \t", "X:", "Y: \t ", "Z:a \t b", "z: second", "O: \xff\t!")))
	var got []string
	for i := range q.Fields {
		f := &q.Fields[i]
		got = append(got, string(q.Name(f))+"="+string(q.Value(f)))
	}
	if diff := cmp.Diff([]string{"Host=a", "X=", "Y=", "Z=a \t b", "z=second", "O=\xff\t!"}, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if v := q.Get("z"); string(v) != "a \t b" {
		t.Errorf("the first z is %q", v)
	}
	if v := q.Get("x"); v == nil || len(v) > 0 {
		t.Errorf("an empty x is %q", v)
	}
	if v := q.Get("q"); v != nil {
		t.Errorf("there is no q, but %q", v)
	}
}

// What Connection names stays on this connection; a client cannot use that against what others rely on.
func TestConnectionOptions(t *testing.T) {
	rest := []string{"Host: a", "X-A: 1", "X-B: 2", "Authorization: c", "Cookie: d=e", "Date: f", "X-Request-Id: g",
		"Content-Type: h", "X-Request-Timeout: 1s", "Via: 1.1 i"}
	kept := func(without string) string {
		out := strings.Join(append(rest, ""), "\r\n")
		if without != "" {
			out = strings.Replace(out, without+"\r\n", "", 1)
		}
		return out
	}
	for _, c := range []struct {
		version, options, without string
		keep                      bool
	}{
		{"1.1", "", "", true},
		{"1.1", "close", "", false},
		{"1.1", "CLOSE", "", false},
		{"1.1", "keep-alive, close", "", false},
		{"1.1", "x-a", "X-A: 1", true},
		{"1.1", ",, \tX-B ,", "X-B: 2", true},
		{"1.1", "host, authorization, cookie, date, x-request-id, content-length, content-type, x-request-timeout, via, connection", "", true},
		{"1.1", "closed, x-c", "", true},
		{"1.0", "", "", false},
		{"1.0", "Keep-Alive", "", true},
		{"1.0", "keep-alive, close", "", false},
	} {
		for _, at := range []int{0, len(rest)} { // it may come before and after what it names
			fields := append(append(append([]string(nil), rest[:at]...), "Connection: "+c.options), rest[at:]...)
			v, q := verdict([]byte(headOf("GET / HTTP/"+c.version, fields...)))
			if v != 0 || q.KeepAlive() != c.keep {
				t.Errorf("%s, %q: verdict %d, keep %v", c.version, c.options, v, q.KeepAlive())
				continue
			}
			if diff := cmp.Diff(kept(c.without), string(q.AppendFields(nil, RequestDrop))); diff != "" {
				t.Errorf("%s, %q: forwarded (-want +got):\n%s", c.version, c.options, diff)
			}
		}
	}
	// Two lines are one list.
	_, q := verdict([]byte(headOf(get, "Host: a", "Connection: x-a", "X-A: 1", "Connection: close")))
	if got := string(q.AppendFields(nil, RequestDrop)); q.KeepAlive() || got != "Host: a\r\n" {
		t.Errorf("keep %v, forwarded %q", q.KeepAlive(), got)
	}
}

// Lines are forwarded as they came: their order, case and white space, and what repeats.
func TestFieldsAreForwardedAsTheyCame(t *testing.T) {
	_, q := verdict([]byte(headOf(get, "TE: x", "hOST:a", "X:  1 ", "Upgrade: y", "Keep-Alive: 5", "x: 2", "X: 1", "Trailer: z")))
	if got, want := string(q.AppendFields([]byte(">"), RequestDrop)), ">hOST:a\r\nX:  1 \r\nx: 2\r\nX: 1\r\n"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if got, want := string(q.AppendFields(nil, ^Drop(1<<HopByHop|1<<TE|1<<Trailer|1<<Upgrade))), "TE: x\r\nUpgrade: y\r\nKeep-Alive: 5\r\nTrailer: z\r\n"; got != want {
		t.Errorf("only what concerns the connection: %q, not %q", got, want)
	}
	if got := string(AppendField([]byte(">"), "X-A", []byte("b"))); got != ">X-A: b\r\n" {
		t.Errorf("one line: %q", got)
	}
}
