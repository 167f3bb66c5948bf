package h1

import (
	"strings"
	"testing"
)

// sized is a head of n bytes in all.
func sized(n int) string {
	around := headOf(get, "Host: a", "X: ")
	return headOf(get, "Host: a", "X: "+strings.Repeat("x", n-len(around)))
}

// lined is a head whose request line has n bytes.
func lined(n int) string {
	return headOf("GET /"+strings.Repeat("a", n-len("GET / HTTP/1.1"))+" HTTP/1.1", "Host: a")
}

// Each limit is met exactly, and a byte at a time gives what all at once gives.
func TestLimitsToTheByte(t *testing.T) {
	of := func(name, in string, want int) {
		t.Helper()
		if got, _ := verdict([]byte(in)); got != want {
			t.Errorf("%s: %d, not %d", name, got, want)
		}
		if got, _ := resumed([]byte(in), -1); got != want {
			t.Errorf("%s, byte by byte: %d, not %d", name, got, want)
		}
	}
	of("longest line", lined(8<<10), 0)
	of("a byte more", lined(8<<10+1), 414)
	of("largest head", sized(32<<10), 0)
	of("a byte more", sized(32<<10+1), 431)
	of("no end in sight", strings.TrimSuffix(sized(32<<10+4), "\r\n\r\n"), 431)
	of("its end may yet come", strings.TrimSuffix(sized(32<<10+3), "\r\n\r\n"), -1)
	of("small lines without end", get+"\r\n"+strings.Repeat("A: "+strings.Repeat("b", 400)+"\r\n", 90), 431)
	of("longest line after an empty one", "\r\n"+lined(8<<10), 0)
	of("a byte more", "\r\n"+lined(8<<10+1), 414)
	of("four empty lines", strings.Repeat("\r\n", 4)+headOf(get, "Host: a"), 0)
	// The first line that is wrong decides, not the one that is too long after it.
	of("bad before it is large", headOf(get, "Host: a", "B d: x", "X: "+strings.Repeat("x", 32<<10)), 400)
}

// One's own limits hold as the defaults do.
func TestLimitsAreTheCallers(t *testing.T) {
	lim := &Limits{Line: 20, Head: 60, Fields: 2}
	for in, want := range map[string]string{
		headOf("GET /aaaaaa HTTP/1.1", "Host: a", "X: y"):                         "",
		headOf("GET /aaaaaaa HTTP/1.1", "Host: a"):                                errLineLong.Reason,
		headOf(get, "Host: a", "X: y", "Z: y"):                                    errManyFields.Reason,
		headOf(get, "Host: a", "X: "+strings.Repeat("x", 60)):                     errHeadLarge.Reason,
		headOf("GET /aaaaaaa HTTP/1.1", "Host: a", "X: "+strings.Repeat("x", 60)): errLineLong.Reason,
	} {
		_, err := (&Request{}).Scan([]byte(in), &Resume{}, lim)
		if got := reason(err); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// An upstream may say more than a client, but not without end.
func TestResponseLimits(t *testing.T) {
	of := func(name, in string, good bool) {
		t.Helper()
		for _, cut := range []int{0, -1} {
			if p, whole := answer(t, []byte(in), cut); !whole || (p != nil) != good {
				t.Errorf("%s, cut %d: good %v, whole %v", name, cut, p != nil, whole)
			}
		}
	}
	const ok = "HTTP/1.1 200 "
	large := func(n int) string {
		return ok + "\r\nX: " + strings.Repeat("x", n-len(ok+"\r\nX: \r\n\r\n")) + "\r\n\r\n"
	}
	of("longest line", ok+strings.Repeat("a", 8<<10-len(ok))+"\r\n\r\n", true)
	of("a byte more", ok+strings.Repeat("a", 8<<10-len(ok)+1)+"\r\n\r\n", false)
	of("256 fields", ok+"\r\n"+strings.Repeat("X: y\r\n", 256)+"\r\n", true)
	of("257 fields", ok+"\r\n"+strings.Repeat("X: y\r\n", 257)+"\r\n", false)
	of("largest head", large(64<<10), true)
	of("a byte more", large(64<<10+1), false)
}

// What a chunked body carries beside its data is bounded, in each chunk anew.
func TestBodyLimitsToTheByte(t *testing.T) {
	rep := strings.Repeat
	of := func(name, in string, good bool) {
		t.Helper()
		for _, before := range []string{"", "1;x\r\na\r\n", "1\r\na\r\n" + rep("0", 63) + "1\r\na\r\n"} {
			for _, n := range []int{1 << 20, 1} {
				if _, _, _, refused := read(ChunkedBody(), before+in, n); refused == good {
					t.Errorf("%s after %.10q, in pieces of %d: refused %v", name, before, n, refused)
				}
			}
		}
	}
	of("64 digits", rep("0", 64)+"\r\n\r\n", true)
	of("65 digits", rep("0", 65)+"\r\n\r\n", false)
	of("largest size", "7ffffffffffffff\r\nabc", true)
	of("a byte more", "800000000000000\r\nabc", false)
	of("longest chunk line", "1;"+rep("x", maxChunkLine-2)+"\r\na\r\n0\r\n\r\n", true)
	of("a byte more", "1;"+rep("x", maxChunkLine-1)+"\r\na\r\n0\r\n\r\n", false)
	of("largest trailers", "0\r\nA: b\r\nC:"+rep("d", maxTrailers-8)+"\r\n\r\n", true)
	of("a byte more", "0\r\nA: b\r\nC:"+rep("d", maxTrailers-7)+"\r\n\r\n", false)
}
