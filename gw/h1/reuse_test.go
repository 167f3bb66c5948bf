package h1

import "testing"

// A worker has one Request and one Response for all: none may be read with what another said.
func TestRequestForgetsTheOneBefore(t *testing.T) {
	heads := []string{
		headOf("POST http://b:1/x?y HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Connection: close", "Expect: 100-continue"),
		headOf("POST /%7Ea/../b HTTP/1.1", "Host: c", "Content-Length: 7"),
		headOf("GET / HTTP/1.0"),
		headOf("GET / HTTP/1.0", "Connection: keep-alive"),
		headOf("GET http://d HTTP/1.1", "Host: e"),
		headOf("OPTIONS * HTTP/1.1", "Host: f"),
		headOf(get, "Host: g", "Bad name: x"),
		headOf(get),
	}
	q := &Request{}
	for _, before := range heads {
		for _, in := range heads {
			_, _ = q.Scan([]byte(before), &Resume{}, &DefaultLimits)
			_, err := q.Scan([]byte(in), &Resume{}, &DefaultLimits)
			v, alone := verdict([]byte(in))
			if e, ok := err.(*Error); (ok && e.Status != v) || (err == nil) != (v == 0) {
				t.Errorf("%.40q after %.40q: %v, alone %d", in, before, err, v)
			}
			if err == nil && meaningOf(q) != meaningOf(alone) {
				t.Errorf("%.40q after %.40q: %s, alone %s", in, before, meaningOf(q), meaningOf(alone))
			}
		}
	}
}

func TestResponseForgetsTheOneBefore(t *testing.T) {
	p := &Response{}
	for range 2 {
		for _, c := range []struct {
			in, reason     string
			minor          int
			length         int64
			chunked, keep  bool
			dated, refused bool
		}{
			{"HTTP/1.1 200 All right\r\nDate: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", "All right", 1, -1, true, false, true, false},
			{"HTTP/1.1 200\r\nHost: x\r\n\r\n", "", 1, -1, false, true, false, false},
			{"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n", "OK", 0, 3, false, true, false, false},
			{"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "", 0, 0, false, false, false, true},
			{"HTTP/1.0 200 \r\n\r\n", "", 0, -1, false, false, false, false},
			{"HTTP/1.7 404 a\tb\xe9\r\n\r\n", "a\tb\xe9", 1, -1, false, true, false, false},
		} {
			_, err := p.Scan([]byte(c.in), &Resume{})
			if (err != nil) != c.refused {
				t.Errorf("%q: %v", c.in, err)
			}
			if err == nil && (string(p.Reason) != c.reason || p.Minor != c.minor || p.Length != c.length || p.Chunked != c.chunked ||
				p.KeepAlive() != c.keep || p.Dated() != c.dated) {
				t.Errorf("%q: %+v", c.in, p)
			}
		}
	}
}

// A connection's next request starts its own count of lines, bytes and empty lines.
func TestResumeStartsAnew(t *testing.T) {
	in := []byte("\r\n\r\n\r\n" + headOf(get, "Host: a", "X: y"))
	q, r := &Request{}, &Resume{}
	if r.Begun() {
		t.Error("nothing has come, and a request has begun")
	}
	for range 3 {
		for i := range in {
			n, err := q.Scan(in[:i], r, &DefaultLimits)
			if n != 0 || err != ErrPartial {
				t.Fatalf("cut at %d: %d, %v", i, n, err)
			}
			// Empty lines are of no request: a client that sends nothing more is idle, not slow.
			if begun := i > 6; i%2 == 0 && r.Begun() != begun {
				t.Errorf("cut at %d: begun %v", i, r.Begun())
			}
		}
		n, err := q.Scan(in, r, &DefaultLimits)
		if n != len(in) || err != nil {
			t.Fatalf("whole: %d, %v", n, err)
		}
		if *r != (Resume{}) {
			t.Errorf("goes on at %+v", *r)
		}
	}
}

// What follows a head is left alone: the next request, or the body.
func TestScanEndsWithTheHead(t *testing.T) {
	head := headOf(get, "Host: a")
	q := &Request{}
	for _, rest := range []string{"", "\r\n", "\n", "\x00", head} {
		n, err := q.Scan([]byte(head+rest), &Resume{}, &DefaultLimits)
		if n != len(head) || err != nil || string(q.Raw) != head {
			t.Errorf("before %q: %d, %v, head %q", rest, n, err, q.Raw)
		}
	}
}

// Requests of every kind after one another, whole and in pieces: what was built for one path serves the next.
func TestNothingIsAllocatedOverRequests(t *testing.T) {
	heads := [][]byte{
		[]byte(headOf("GET /a/%7Eb/../c;v=1?q HTTP/1.1", "Host: a.test", "Connection: x-y", "X-Y: 1")),
		[]byte(headOf("POST /plain HTTP/1.1", "Host: a.test", "Content-Length: 5", "Expect: 100-continue")),
		[]byte(headOf("GET http://b HTTP/1.1", "Host: a.test")),
	}
	answered := []byte("HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	q, p, r := &Request{}, &Response{}, &Resume{}
	room, out := make([]byte, 0, 64), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		for _, in := range heads {
			for _, cut := range []int{5, 30, len(in)} {
				if _, err := q.Scan(in[:cut], r, &DefaultLimits); err != nil && err != ErrPartial {
					t.Fatal(err)
				}
			}
			room = append(room[:0], MatchPath(q.Path, room)...)
			out = q.AppendFields(out[:0], RequestDrop)
		}
		for _, cut := range []int{5, 30, len(answered)} {
			if _, err := p.Scan(answered[:cut], r); err != nil && err != ErrPartial {
				t.Fatal(err)
			}
		}
		out = p.AppendFields(out[:0], ResponseDrop)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A refusal costs no more than a request: it may be an attack.
func TestRefusalsAllocateNothing(t *testing.T) {
	for _, c := range requests {
		if c.want <= 0 {
			continue
		}
		q, r, in := &Request{}, &Resume{}, []byte(c.in)
		if n := testing.AllocsPerRun(10, func() {
			*r = Resume{}
			if _, err := q.Scan(in, r, &DefaultLimits); err == nil {
				t.Fatal("it is taken")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}
