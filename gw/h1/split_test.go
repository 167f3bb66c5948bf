package h1

import (
	"bytes"
	"fmt"
	"testing"
)

// corpus is every request of the tables but those that only their length makes interesting.
func corpus() (heads []string) {
	for _, c := range requests {
		if len(c.in) < 1000 {
			heads = append(heads, c.in)
		}
	}
	for in := range authorities {
		heads = append(heads, headOf(get, "X: y", "Host: "+in), headOf("OPTIONS http://"+in+"/a/../%7e?b HTTP/1.1", "Host: a"))
	}
	for _, connection := range []string{"close", "keep-alive", ", x-a ,", "x a", "\"x\""} {
		heads = append(heads, headOf("GET / HTTP/1.0", "X-A: 1", "Connection: "+connection, "X-A: 2"),
			headOf(get, "Connection: "+connection, "Host: a", "Connection: x-b", "X-B: 1"))
	}
	return heads
}

// conn is what the gateway has of a connection: bytes that came, and how far they were scanned.
type conn struct {
	b []byte
	r Resume
}

// outcome is all that a caller can see of a scan.
func outcome(t testing.TB, n int, err error, says func() string) string {
	t.Helper()
	if err != nil {
		if n != 0 {
			t.Errorf("%v, and yet %d bytes are taken", err, n)
		}
		if e, ok := err.(*Error); ok {
			return fmt.Sprint(e.Status, " ", e.Reason)
		}
		return err.Error()
	}
	return fmt.Sprint(n, " ", says())
}

// more is the outcome of the scan when in has come up to byte n: in another place of the memory, as a buffer that grows
// is.
func (c *conn) more(t testing.TB, q *Request, in string, n int) string {
	t.Helper()
	c.b = append(make([]byte, 0, n), in[:n]...)
	end, err := q.Scan(c.b, &c.r, &DefaultLimits)
	return outcome(t, end, err, func() string { return meaningOf(q) + string(q.Raw) })
}

// A refusal has the same reason, and a head the same end and meaning, whatever the network's cuts, although the bytes
// move between reads and the worker's one Request serves other connections meanwhile.
func TestRequestOutcomesWhateverTheSplit(t *testing.T) {
	other := []byte(headOf("POST http://other/%41?x HTTP/1.0", "Connection: keep-alive", "Content-Length: 3", "Other: x"))
	for _, in := range corpus() {
		q := &Request{}
		want := (&conn{}).more(t, q, in, len(in))
		bytewise, ended := &conn{}, false
		for cut := range in {
			c := &conn{}
			got := c.more(t, q, in, cut)
			if _, err := q.Scan(other, &Resume{}, &DefaultLimits); err != nil {
				t.Fatal(err)
			}
			if got == ErrPartial.Error() {
				got = c.more(t, q, in, len(in))
			}
			if got != want {
				t.Errorf("%q, cut at %d: %q, not %q", in, cut, got, want)
			}
			if ended {
				continue
			}
			if got = bytewise.more(t, q, in, cut+1); got != ErrPartial.Error() || cut == len(in)-1 {
				ended = true
				if got != want {
					t.Errorf("%q, byte by byte up to %d: %q, not %q", in, cut+1, got, want)
				}
			}
			_, _ = q.Scan(other, &Resume{}, &DefaultLimits)
		}
	}
}

func TestResponseOutcomesWhateverTheSplit(t *testing.T) {
	other := []byte("HTTP/1.0 404 Other\r\nConnection: keep-alive\r\nDate: x\r\nContent-Length: 3\r\n\r\n")
	for _, c := range responses {
		p := &Response{}
		scan := func(r *Resume, n int) string {
			end, err := p.Scan([]byte(c.in)[:n:n], r)
			return outcome(t, end, err, func() string { return saysOf(p) + string(p.Raw) })
		}
		want := scan(&Resume{}, len(c.in))
		for cut := range c.in {
			r := &Resume{}
			got := scan(r, cut)
			if _, err := p.Scan(other, &Resume{}); err != nil {
				t.Fatal(err)
			}
			if got == ErrPartial.Error() {
				got = scan(r, len(c.in))
			}
			if got != want {
				t.Errorf("%s, cut at %d: %q, not %q", c.name, cut, got, want)
			}
		}
	}
}

// A body is decoded in place: what follows it is another message's, and stays as it is.
func TestBodiesWhateverTheSplit(t *testing.T) {
	for _, c := range bodies {
		if len(c.in) > 1000 || c.refused {
			continue
		}
		for cut := range c.in {
			y, b := c.y, []byte(c.in)
			first, rest, err := y.Next(b[:cut])
			first = bytes.Clone(first)
			if err != nil || !y.Done() && len(rest) > 0 {
				t.Fatalf("%s, cut at %d: rest %q, %v", c.name, cut, rest, err)
			}
			second, rest, err := y.Next(b[cut-len(rest):])
			if got := string(first) + string(second); err != nil || got != c.content || string(rest) != c.rest || y.Done() != c.done {
				t.Errorf("%s, cut at %d: %q, rest %q, done %v, %v", c.name, cut, got, rest, y.Done(), err)
			}
		}
	}
}
