package h1

import (
	"bytes"
	"strings"
	"testing"
)

// read feeds in to a body in pieces of size n: the content, what follows it, and whether it was refused.
func read(y Body, in string, n int) (content, rest string, done, refused bool) {
	for len(in) > 0 {
		piece := in[:min(n, len(in))]
		in = in[len(piece):]
		data, left, err := y.Next([]byte(piece))
		if err != nil {
			return content, "", false, true
		}
		content += string(data)
		if y.Done() {
			return content, string(left) + in, true, false
		}
	}
	return content, "", y.Done(), false
}

var bodies = []struct {
	name          string
	y             Body
	in            string
	content, rest string
	done, refused bool
}{
	{"none", NoBody(), "GET", "", "GET", true, false},
	{"length", LengthBody(3), "abcGET", "abc", "GET", true, false},
	{"length, to the byte", LengthBody(3), "abc", "abc", "", true, false},
	{"length 0", LengthBody(0), "GET", "", "GET", true, false},
	{"length, not whole", LengthBody(5), "abc", "abc", "", false, false},
	{"until close", CloseBody(), "abc", "abc", "", false, false},
	{"chunks", ChunkedBody(), "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", "abcde", "GET", true, false},
	{"hexadecimal", ChunkedBody(), "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", "", true, false},
	{"leading zeros", ChunkedBody(), "003\r\nabc\r\n000\r\n\r\n", "abc", "", true, false},
	{"extension", ChunkedBody(), "3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", "abc", "", true, false},
	{"trailers", ChunkedBody(), "0\r\nA: b\r\nC: d\r\n\r\nGET", "", "GET", true, false},
	{"bare LF after a size", ChunkedBody(), "3\nabc\r\n0\r\n\r\n", "", "", false, true},
	{"bare LF after data", ChunkedBody(), "3\r\nabc\n0\r\n\r\n", "abc", "", false, true},
	{"data longer than its size", ChunkedBody(), "3\r\nabcd\r\n0\r\n\r\n", "abc", "", false, true},
	{"data a byte longer, before LF", ChunkedBody(), "3\r\nabcx\n0\r\n\r\n", "", "", false, true},
	{"no size", ChunkedBody(), "\r\nabc", "", "", false, true},
	{"sign", ChunkedBody(), "+3\r\nabc\r\n", "", "", false, true},
	{"0x", ChunkedBody(), "0x3\r\nabc\r\n", "", "", false, true},
	{"space after the size", ChunkedBody(), "3 \r\nabc\r\n", "", "", false, true},
	{"size that overflows", ChunkedBody(), "10000000000000000\r\n", "", "", false, true},
	{"zeros without end", ChunkedBody(), strings.Repeat("0", 80) + "\r\n\r\n", "", "", false, true},
	{"CR in an extension", ChunkedBody(), "3;a\rb\r\nabc", "", "", false, true},
	{"long extension", ChunkedBody(), "3;" + strings.Repeat("a", 5<<10) + "\r\nabc", "", "", false, true},
	{"control character in an extension", ChunkedBody(), "3;a\x00\r\nabc", "", "", false, true},
	{"extension without a size", ChunkedBody(), ";a\r\nabc", "", "", false, true},
	{"CR after a size that no LF follows", ChunkedBody(), "3\rxabc\r\n0\r\n\r\n", "", "", false, true},
	{"CR after data that no LF follows", ChunkedBody(), "3\r\nabc\rx0\r\n\r\n", "", "", false, true},
	{"CR at the end that no LF follows", ChunkedBody(), "0\r\n\rx", "", "", false, true},
	{"LF alone at the end", ChunkedBody(), "0\r\n\n", "", "", false, true},
	{"no empty line at the end", ChunkedBody(), "0\r\n", "", "", false, false},
	{"many chunks", ChunkedBody(), strings.Repeat("1;x\r\na\r\n", 2000) + "0\r\n\r\n", strings.Repeat("a", 2000), "", true, false},
	{"largest size", ChunkedBody(), "7fffffffffffff\r\nabc", "abc", "", false, false},
	{"size that is no hexadecimal", ChunkedBody(), "g\r\n", "", "", false, true},
	{"control character in a trailer", ChunkedBody(), "0\r\nA: \x00\r\n\r\n", "", "", false, true},
	{"CR in a trailer", ChunkedBody(), "0\r\nA: b\rc\r\n\r\n", "", "", false, true},
	{"space in a trailer's name", ChunkedBody(), "0\r\nA b: c\r\n\r\n", "", "", false, true},
	{"second trailer without a colon", ChunkedBody(), "0\r\nA: b\r\nC\r\n\r\n", "", "", false, true},
	{"trailer that is empty", ChunkedBody(), "0\r\nA:\r\n\r\n", "", "", true, false},
	{"folded trailer", ChunkedBody(), "0\r\nA: b\r\n c\r\n\r\n", "", "", false, true},
	{"trailer without a name", ChunkedBody(), "0\r\n: b\r\n\r\n", "", "", false, true},
	{"trailer without a colon", ChunkedBody(), "0\r\nA\r\n\r\n", "", "", false, true},
	{"long trailers", ChunkedBody(), "0\r\n" + strings.Repeat("A: b\r\n", 2000) + "\r\n", "", "", false, true},
}

func TestBodies(t *testing.T) {
	for _, c := range bodies {
		for _, n := range []int{1 << 20, 1, 2, 3, 7} {
			content, rest, done, refused := read(c.y, c.in, n)
			if refused != c.refused || done != c.done || !refused && (content != c.content || rest != c.rest) {
				t.Errorf("%s, in pieces of %d: %q, rest %q, done %v, refused %v", c.name, n, content, rest, done, refused)
			}
		}
	}
}

// What a body says of itself decides how it is forwarded.
func TestBodyKinds(t *testing.T) {
	for _, c := range []struct {
		y                 Body
		left              int64
		chunked, untilEnd bool
	}{{NoBody(), 0, false, false}, {LengthBody(3), 3, false, false}, {ChunkedBody(), -1, true, false}, {CloseBody(), -1, false, true}} {
		if y := c.y; y.Left() != c.left || y.Chunked() != c.chunked || y.UntilClose() != c.untilEnd {
			t.Errorf("%+v: left %d, chunked %v, until close %v", y, y.Left(), y.Chunked(), y.UntilClose())
		}
	}
	y := LengthBody(3)
	if _, _, err := y.Next([]byte("ab")); err != nil || y.Left() != 1 {
		t.Errorf("left %d, %v", y.Left(), err)
	}
	if _, _, err := y.Next([]byte("cd")); err != nil || y.Left() != 0 {
		t.Errorf("of a whole body, left %d, %v", y.Left(), err)
	}
}

// The status is what the client is told: its body was malformed.
func TestBodiesAreRefusedAs400(t *testing.T) {
	for _, c := range bodies {
		if y := c.y; c.refused {
			_, _, err := y.Next([]byte(c.in))
			if e, ok := err.(*Error); !ok || e.Status != 400 {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

func TestBodyEndsWithItsConnection(t *testing.T) {
	for _, c := range []struct {
		y    Body
		want bool
	}{{CloseBody(), true}, {LengthBody(1), false}, {ChunkedBody(), false}, {NoBody(), true}} {
		if got := c.y.EOF(); got != c.want {
			t.Errorf("%+v: complete %v", c.y, got)
		}
	}
}

func TestChunksAreReadAsWritten(t *testing.T) {
	var out []byte
	for _, s := range []string{"a", "", strings.Repeat("b", 300)} {
		out = AppendChunk(out, []byte(s))
	}
	out = AppendLastChunk(out, nil)
	if content, _, done, _ := read(ChunkedBody(), string(out), 5); !done || content != "a"+strings.Repeat("b", 300) {
		t.Errorf("%q, done %v", content, done)
	}
}

func TestBodyAllocatesNothing(t *testing.T) {
	for _, c := range bodies {
		in, room := []byte(c.in), make([]byte, len(c.in))
		if n := testing.AllocsPerRun(10, func() {
			y := c.y
			copy(room, in)
			if _, _, err := y.Next(room); (err != nil) != c.refused {
				t.Fatal(err)
			}
		}); n != 0 && !strings.Contains(c.name, "trailer") {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, c := range bodies {
		if len(c.in) < 1000 {
			f.Add([]byte(c.in), 3)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		a, rest, done, refused := read(ChunkedBody(), string(b), 1<<20)
		for _, n := range []int{1, 1 + max(0, n)%64} {
			a2, rest2, done2, refused2 := read(ChunkedBody(), string(b), n)
			if refused != refused2 || done != done2 || !refused && (a != a2 || rest != rest2) {
				t.Fatalf("whole: %q %q %v %v; in pieces of %d: %q %q %v %v", a, rest, done, refused, n, a2, rest2, done2, refused2)
			}
		}
		if done && !bytes.HasSuffix(b, []byte(rest)) {
			t.Fatalf("%q does not follow the body in %q", rest, b)
		}
		if done {
			_ = framedByOthers(t, b, a)
		}
	})
}
