package h1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// wire is what one side says in a case of gw/testdata: a client, or an upstream.
type wire struct {
	name string
	b    []byte
}

// wires reads the cases, whose strings have a character for a byte.
func wires(t testing.TB) (clients, upstreams []wire) {
	t.Helper()
	for _, file := range []string{"../testdata/h1.json", "../testdata/own.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all struct {
			Cases []struct {
				Name, Raw, Then string
				RawParts        [][2]any `json:"raw_parts"`
				Upstream        string   `json:"upstream_raw"`
			}
		}
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		for _, c := range all.Cases {
			for _, p := range c.RawParts {
				c.Raw += strings.Repeat(p[0].(string), int(p[1].(float64)))
			}
			clients = append(clients, wire{c.Name, latin1(c.Raw + c.Then)})
			if c.Upstream != "" {
				upstreams = append(upstreams, wire{c.Name, latin1(c.Upstream)})
			}
		}
	}
	if len(clients) < 400 || len(upstreams) < 40 {
		t.Fatalf("%d requests, %d responses", len(clients), len(upstreams))
	}
	return clients, upstreams
}

func latin1(s string) (b []byte) {
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

// side is one direction of a connection: what it has said so far, message by message, up to an error.
type side struct {
	scan func(b []byte) (n int, y Body, says string, err error)
	b    []byte
	y    Body
	in   bool // within a body
	body []byte
	said strings.Builder
	end  bool
}

// messages are what comes of b when it comes in pieces that end at the cuts.
func (s *side) messages(b []byte, cuts ...int) string {
	from := 0
	for _, to := range append(cuts, len(b)) {
		if !s.end {
			s.hear(b[from:to])
		}
		from = to
	}
	if !s.end {
		fmt.Fprintf(&s.said, "and %v %d of a body", s.in, len(s.body))
	}
	return s.said.String()
}

func (s *side) hear(piece []byte) {
	s.b = append(bytes.Clone(s.b), piece...) // it moves, as a buffer that grows does
	for {
		if !s.in {
			if len(s.b) == 0 {
				return
			}
			n, y, says, err := s.scan(s.b)
			if err == ErrPartial {
				return
			}
			if s.refused(err) {
				return
			}
			s.in, s.y, s.body = true, y, nil
			s.said.WriteString(says)
			s.b = bytes.Clone(s.b[n:])
		}
		data, rest, err := s.y.Next(s.b)
		if s.refused(err) {
			return
		}
		s.body = append(s.body, data...)
		s.b = bytes.Clone(rest)
		if !s.y.Done() {
			return
		}
		s.in = false
		fmt.Fprintf(&s.said, "body %q trailers %q\n", s.body, s.y.Trailers())
		s.body = nil
	}
}

func (s *side) refused(err error) bool {
	if err == nil {
		return false
	}
	s.end = true
	fmt.Fprintf(&s.said, "refused: %d %v", err.(*Error).Status, err)
	return true
}

func requestSide(lim *Limits) *side {
	q, r := &Request{}, &Resume{}
	return &side{scan: func(b []byte) (int, Body, string, error) {
		n, err := q.Scan(b, r, lim)
		if err != nil {
			return n, Body{}, "", err
		}
		return n, bodyOf(&q.head), meaningOf(q) + string(q.Upgrade), nil
	}}
}

func responseSide(offered string) *side {
	p, r := &Response{}, &Resume{}
	return &side{scan: func(b []byte) (int, Body, string, error) {
		if offered != "" {
			p.Offered = []byte(offered)
		}
		n, err := p.Scan(b, r)
		if err != nil {
			return n, Body{}, "", err
		}
		y := bodyOf(&p.head)
		switch {
		case p.Bodiless(false):
			y = NoBody()
		case !p.Chunked && p.Length < 0:
			y = CloseBody()
		}
		return n, y, saysOf(p) + string(p.Upgrade), nil
	}}
}

// bodyOf is the body of a request with this head.
func bodyOf(h *head) Body {
	switch {
	case h.Chunked:
		return ChunkedBody()
	case h.Length > 0:
		return LengthBody(h.Length)
	}
	return NoBody()
}

// cutsOf are the places at which b is cut: all, or some hundreds of a large one, with those near its ends.
func cutsOf(b []byte) (cuts []int) {
	for i := 1; i < len(b); i++ {
		if len(b) < 3000 || i%(len(b)/200) == 0 || i < 150 || i > len(b)-50 {
			cuts = append(cuts, i)
		}
	}
	return cuts
}

// Whatever a client or an upstream says, message by message, is heard in the same way in two pieces, cut anywhere, and
// byte by byte.
func TestCasesWhateverTheSplit(t *testing.T) {
	clients, upstreams := wires(t)
	lax := DefaultLimits
	lax.Slashes, lax.Connect = Keep, true
	check := func(c wire, begin func() *side) {
		t.Helper()
		want := begin().messages(c.b)
		cuts := cutsOf(c.b)
		for _, cut := range cuts {
			if got := begin().messages(c.b, cut); got != want {
				t.Errorf("%s, cut at %d:\n%q, not\n%q", c.name, cut, got, want)
				return
			}
		}
		if got := begin().messages(c.b, cuts...); got != want {
			t.Errorf("%s, cut everywhere:\n%q, not\n%q", c.name, got, want)
		}
	}
	for _, c := range clients {
		check(c, func() *side { return requestSide(&DefaultLimits) })
		check(c, func() *side { return requestSide(&lax) })
	}
	for _, c := range upstreams {
		check(c, func() *side { return responseSide("") })
		check(c, func() *side { return responseSide("h2c, websocket") })
	}
}

func FuzzConversation(f *testing.F) {
	clients, upstreams := wires(f)
	for _, c := range append(clients, upstreams...) {
		if len(c.b) < 1000 {
			f.Add(c.b, 40)
		}
	}
	lax := DefaultLimits
	lax.Slashes, lax.Connect = Keep, true
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		for _, begin := range []func() *side{func() *side { return requestSide(&DefaultLimits) }, func() *side { return requestSide(&lax) },
			func() *side { return responseSide("websocket") }} {
			want := begin().messages(b)
			at = max(0, min(at, len(b)))
			if got := begin().messages(b, at); got != want {
				t.Fatalf("cut at %d:\n%q, not\n%q", at, got, want)
			}
			if len(b) < 4000 {
				if got := begin().messages(b, cutsOf(b)...); got != want {
					t.Fatalf("byte by byte:\n%q, not\n%q", got, want)
				}
			}
		}
		framedAlike(t, b)
		framedAlikeResponse(t, b)
	})
}
