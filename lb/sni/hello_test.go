package sni

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestHellosOfRealClients(t *testing.T) {
	var h Hello
	for _, r := range reals(t) {
		if err := Scan(r.hello, &h); err != nil || string(h.ServerName) != r.name || !slices.Equal(protocols(&h), r.alpn) {
			t.Errorf("%s: %q, protocols %q, %v", r.about, h.ServerName, protocols(&h), err)
		}
	}
}

func TestHelloInRecordsOfAnySize(t *testing.T) {
	var h Hello
	for _, r := range reals(t) {
		m := message(r.hello)
		for size := 1; size <= len(m); size += 1 + size/200 { // where they are few, not every size
			b, want := records(m, size), error(nil)
			if len(b) > MaxSize {
				want = errLarge
			}
			if err := Scan(b, &h); err != want || err == nil && (string(h.ServerName) != r.name || !slices.Equal(protocols(&h), r.alpn)) {
				t.Fatalf("%s, in records of %d: %q, protocols %q, %v", r.about, size, h.ServerName, protocols(&h), err)
			}
		}
	}
}

func TestHelloCutShortIsPartial(t *testing.T) {
	h := Hello{}
	for _, r := range reals(t) {
		m := message(r.hello)
		for _, size := range []int{1, 2, 3, 4, 5, 64, len(m) - 1, len(m)} {
			b := records(m, size)
			if len(b) > MaxSize {
				continue
			}
			step := 1
			if len(b) > 4000 {
				step = len(b) / 400 // not at every byte
			}
			for cut := 0; cut < len(b); cut += step {
				if err := Scan(b[:cut:cut], &h); err != ErrPartial || h.ServerName != nil || h.ALPN != nil {
					t.Fatalf("%s, in records of %d, cut at %d of %d: %q, %v", r.about, size, cut, len(b), h.ServerName, err)
				}
			}
		}
	}
}

// What comes behind a hello is none of its business: early data, or a renegotiating client's next record.
func TestWhatFollowsTheHelloDoesNotMatter(t *testing.T) {
	h := Hello{}
	for _, more := range []string{"\x14\x03\x03\x00\x01\x01", "\x16\x03\x01\x00\x00", strings.Repeat("x", 2*MaxSize)} {
		if err := Scan(append(extended(named("api.test")), more...), &h); err != nil || string(h.ServerName) != "api.test" {
			t.Errorf("then %.10q: %q, %v", more, h.ServerName, err)
		}
	}
}

// verdicts are hellos and what is said of them: a name and its protocols, or why not.
func verdicts() map[string][]string {
	bytesOf := func(s string) []byte { return []byte(s) }
	v := map[string][]string{}
	f := func(want string, in []byte) { v[want] = append(v[want], string(in)) }

	f("", hello(func(p *parts) {})) // without extensions, as in SSL 3.0
	f("", extended())
	f("", extended(ext(23, nil)))
	f("", extended(ext(0xffff, bytesOf("x")), ext(0, nil)[:0]))
	f("a", extended(named("a")))
	f("a_b-c.9", extended(named("a_B-C.9")))
	f("az09-_.z", extended(named("AZ09-_.z")))
	f("a.test", extended(named("a.test.")))
	f(strings.Repeat("a", 255), extended(named(strings.Repeat("a", 255))))
	f(strings.Repeat("a", 255), extended(named(strings.Repeat("a", 255)+".")))
	f("a.test h2 x", extended(alpn("h2", "x"), named("a.test")))
	f("a.test", hello(func(p *parts) { p.version, p.extensions = u16(0x300), list16(named("a.test")) }))
	f("a.test", hello(func(p *parts) { p.session, p.extensions = list8(make([]byte, 32)), list16(named("a.test")) }))
	f("a.test", hello(func(p *parts) { p.compression, p.extensions = list8([]byte{1, 0}), list16(named("a.test")) }))
	f("a.test", append([]byte{22, 3, 255}, extended(named("a.test"))[3:]...))

	not := ErrNotTLS.Error()
	f(not, bytesOf("GET / HTTP/1.1\r\n\r\n"))
	f(not, bytesOf("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
	f(not, bytesOf("\x16\x02"))
	f(not, bytesOf("\x15\x03\x03\x00\x02\x01\x00"))             // an alert
	f(not, bytesOf("\x80\x2e\x01\x03\x01\x00\x15\x00\x00"))     // SSL 2.0's hello
	f(not, bytesOf("\x17\x03\x03\x00\x05"))                     // data
	f(not, bytesOf("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")) // nothing

	small := extended(named("a.test"))
	m := message(small)
	f(errRecord.Reason, bytesOf("\x16\x03\x01\x00\x00"))
	f(errRecord.Reason, bytesOf("\x16\x03\x01\x40\x01"))
	f(errRecord.Reason, cat(records(m[:7], 7), bytesOf("\x16\x03\x01\x00\x00"), records(m[7:], 99)))
	f(errRecord.Reason, cat(records(m[:7], 7), bytesOf("\x16\x02")))
	f(errInterleaved.Reason, cat(records(m[:7], 7), bytesOf("\x15\x03\x03\x00\x02\x01\x00"), records(m[7:], 99)))
	f(errInterleaved.Reason, cat(records(m[:7], 7), bytesOf("\x17")))
	f(errNotHello.Reason, bytesOf("\x16\x03\x03\x00\x04\x00"))
	f(errNotHello.Reason, bytesOf("\x16\x03\x03\x00\x04\x02\x00\x00\x00"))
	f(errTrailing.Reason, records(append(m[:len(m):len(m)], 0), 1<<14))
	f(errTrailing.Reason, bytesOf("\x16\x03\x01\x01\x00\x01\x00\x00\x05")) // the second message has not come, and is promised
	f(errLarge.Reason, bytesOf("\x16\x03\x01\x00\x09\x01\x01\x00\x00"))
	f(errLarge.Reason, records(cat([]byte{1}, []byte{0}, u16(maxHello-handshakeHead+1), make([]byte, maxHello)), 1<<13))
	f(errLarge.Reason, records(cat([]byte{1}, []byte{0}, u16(5000), make([]byte, 5000)), 1))

	version := errVersion.Reason
	f(version, hello(func(p *parts) { p.version = u16(0x200) }))
	f(version, hello(func(p *parts) { p.version = u16(0x403) }))
	f(errSession.Reason, hello(func(p *parts) { p.session = list8(make([]byte, 33)) }))
	f(errSuites.Reason, hello(func(p *parts) { p.suites = list16(nil) }))
	f(errSuites.Reason, hello(func(p *parts) { p.suites = list16(make([]byte, 3)) }))
	f(errCompression.Reason, hello(func(p *parts) { p.compression = list8(nil) }))

	lengths := errLengths.Reason
	whole := m[handshakeHead:]
	for cut := range len(whole) {
		if cut != 41 { // where a hello without extensions ends
			f(lengths, wrapped(whole[:cut]))
		}
	}
	f(lengths, wrapped(append(whole[:len(whole):len(whole)], 0)))
	f(lengths, extended(named("a.test"), []byte{0}))
	f(lengths, extended(named("a.test"), []byte{0, 5, 0}))
	f(lengths, extended(named("a.test"), []byte{0, 5, 0, 1}))

	f(errTwice.Reason, extended(named("a.test"), named("a.test")))
	f(errTwice.Reason, extended(named("a.test"), named("b.test")))
	f(errTwice.Reason, extended(named("a.test"), ext(0xffff, nil), ext(0xfffe, nil), ext(0xffff, nil)))

	host := func(name string) []byte { return cat([]byte{0}, list16(bytesOf(name))) }
	names := errNames.Reason
	f(names, extended(ext(0, nil))) // as a server answers
	f(names, extended(ext(0, []byte{0})))
	f(names, extended(ext(0, list16(nil))))
	f(names, extended(ext(0, list16([]byte{0}))))
	f(names, extended(ext(0, list16([]byte{0, 0}))))
	f(names, extended(ext(0, list16(cat(host("a.test"), host("b.test"))))))
	f(names, extended(ext(0, list16(cat(host("a.test"), []byte{0})))))
	f(names, extended(ext(0, list16(cat([]byte{1}, list16(bytesOf("a.test")))))))
	f(names, extended(ext(0, list16(cat([]byte{1}, list16(bytesOf("x")), host("a.test"))))))
	f(names, extended(ext(0, append(list16(host("a.test")), 0))))
	f(names, extended(ext(0, list16(host("a.test"))[:10])))

	for _, name := range []string{"", ".", "..", ".a", "a..b", "a..", "a b", "a/b", "a:443", "*.a.test", "a\x00b", "ä.test", "[::1]",
		"::1", "2001:db8::1", "a@b", strings.Repeat("a", 256), strings.Repeat("a.", 128) + "a"} {
		f(errName.Reason, extended(named(name)))
	}
	for _, name := range []string{"192.0.2.1", "192.0.2.1.", "127.1", "2130706433"} {
		f(errAddress.Reason, extended(named(name)))
	}

	list := errProtocols.Reason
	f(list, extended(named("a.test"), ext(16, nil)))
	f(list, extended(named("a.test"), ext(16, list16(nil))))
	f(list, extended(named("a.test"), alpn("")))
	f(list, extended(named("a.test"), alpn("h2", "", "x")))
	f(list, extended(named("a.test"), ext(16, list16([]byte{3, 'h', '2'}))))
	f(list, extended(named("a.test"), ext(16, append(list16([]byte{2, 'h', '2'}), 0))))
	f(list, extended(named("a.test"), ext(16, append(u16(4), 2, 'h', '2'))))
	return v
}

// verdict is what Scan says, all of it.
func verdict(b []byte, h *Hello) string {
	if err := Scan(b, h); err != nil {
		if h.ServerName != nil || h.ALPN != nil {
			return fmt.Sprintf("%v, and yet %q %q", err, h.ServerName, h.ALPN)
		}
		return err.Error()
	}
	return strings.Join(append([]string{string(h.ServerName)}, protocols(h)...), " ")
}

func TestVerdicts(t *testing.T) {
	var h Hello
	for want, list := range verdicts() {
		for _, in := range list {
			if got := verdict([]byte(in), &h); got != want {
				t.Errorf("%q: %q, want %q", in[:min(len(in), 200)], got, want)
			}
		}
	}
}

// As few bytes as make it certain are enough, and more of them change nothing.
func TestVerdictComesAsSoonAsItIsCertain(t *testing.T) {
	f := func(b string, want error) {
		t.Helper()
		var h Hello
		for cut := range b {
			if err := Scan([]byte(b[:cut]), &h); err != ErrPartial {
				t.Errorf("%q, cut at %d: %v", b, cut, err)
			}
		}
		if err := Scan([]byte(b), &h); err != want {
			t.Errorf("%q: %v, want %v", b, err, want)
		}
	}
	f("G", ErrNotTLS)
	f("\x80", ErrNotTLS)
	f("\x16\x02", ErrNotTLS)
	f("\x16\x03\x01\x00\x00", errRecord)
	f("\x16\x03\x01\x40\x01", errRecord)
	f("\x16\x03\x01\x40\x00\x02", errNotHello)
	f("\x16\x03\x01\x40\x00\x01\x00\x40\x00", errLarge)
	f("\x16\x03\x01\x01\x01\x01\x00\x00\xfc", errTrailing)
	f("\x16\x03\x01\x00\x01\x01\x15", errInterleaved)
	f("\x16\x03\x01\x00\x01\x01\x16\x02", errRecord)
}

func TestVerdictWhateverTheSplit(t *testing.T) {
	h := Hello{}
	for want, list := range verdicts() {
		for _, in := range list {
			decided := false
			step := 1 + len(in)/1000
			for cut := 0; cut < len(in); cut += step {
				if got := verdict([]byte(in[:cut]), &h); got == want {
					decided = true
				} else if decided || got != ErrPartial.Error() {
					t.Fatalf("%q, cut at %d: %q, want %q", in[:min(len(in), 200)], cut, got, want)
				}
			}
		}
	}
}

// Wherever a hello is broken, nothing worse happens than that it is refused, and never is another name found in it than
// crypto/tls finds.
func TestEveryByteBroken(t *testing.T) {
	for _, r := range reals(t) {
		if len(r.hello) > 1000 {
			continue // post-quantum keys and such: more of the same
		}
		b := bytes.Clone(r.hello)
		for i, was := range b {
			for _, v := range []byte{0, was ^ 1, was ^ 0x20, was + 1, 0xff} {
				b[i] = v
				agree(t, b)
			}
			b[i] = was
		}
	}
}

func TestNeverUndecidedAtMaxSize(t *testing.T) {
	var h Hello
	f := func(about string, b []byte) {
		t.Helper()
		if err := Scan(b[:MaxSize], &h); err == nil || err == ErrPartial {
			t.Errorf("%s: %v", about, err)
		}
	}
	body := cat([]byte{1, 0}, u16(maxHello-handshakeHead), make([]byte, maxHello))
	for size := range 1200 {
		f(fmt.Sprint("records of ", size+1), records(body, size+1))
	}
	// Less is enough, where there is no room for another record.
	if b := cat(records(body[:15*1024], 1024), records(body[:1019], 1019)); len(b) != MaxSize-recordHead || Scan(b, &h) != errLarge {
		t.Errorf("%d bytes: %v", len(b), Scan(b, &h))
	}
	f("a record too many", cat(records(body[:maxHello-1], 1024), records(body[:1<<14], 1<<14)))
	// And the largest that there may be is taken, in as many records as there may be.
	large := hello(func(p *parts) {
		fill := maxHello - handshakeHead - 41 - 2 - len(named("a.test")) - 4
		p.extensions = list16(cat(ext(21, make([]byte, fill)), named("a.test")))
	})
	for _, size := range []int{1024, 1 << 14} {
		b := records(message(large), size)
		if err := Scan(b, &h); err != nil || string(h.ServerName) != "a.test" || size == 1024 && len(b) != MaxSize {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// A loop's buffer is read into again while the hello is still needed.
func TestHelloOutlivesTheBytes(t *testing.T) {
	var h Hello
	b := extended(named("a.test"), alpn("h2"))
	must(t, Scan(b, &h))
	clear(b)
	if string(h.ServerName) != "a.test" || string(h.ALPN) != "\x02h2" {
		t.Errorf("%q %q", h.ServerName, h.ALPN)
	}
}

func TestBytesAreLeftAsTheyAre(t *testing.T) {
	var h Hello
	b := extended(named("A.Test"))
	was := bytes.Clone(b)
	must(t, Scan(b, &h))
	if !bytes.Equal(b, was) {
		t.Error("the hello is no longer what the client sent")
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	var h Hello
	for _, r := range reals(t) {
		whole, pieces := r.hello, records(message(r.hello), 64)
		n := testing.AllocsPerRun(20, func() {
			offered := 0
			if Scan(whole, &h) != nil || len(pieces) <= MaxSize && Scan(pieces, &h) != nil || Scan(pieces[:100], &h) != ErrPartial {
				t.Error("not read")
			}
			for p := range h.Protocols() {
				offered += len(p)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", r.about, n)
		}
	}
	bad := extended(named("a.test"), named("a.test"))
	if n := testing.AllocsPerRun(20, func() {
		if err := Scan(bad, &h); !errors.Is(err, errTwice) {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("refused: %v allocations", n)
	}
}

func BenchmarkScan(b *testing.B) {
	for _, r := range reals(b) {
		b.Run(r.about, func(b *testing.B) {
			b.ReportAllocs()
			var h Hello
			for b.Loop() {
				if err := Scan(r.hello, &h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
