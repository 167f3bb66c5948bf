package proxyproto

import (
	"net/netip"
	"strings"
	"testing"
)

// written writes a header, and reads it again by ourselves and the library. It returns what version 1 and 2 say.
func written(t *testing.T, h *Header) (v1, v2 string) {
	t.Helper()
	b1, b2 := h.AppendV1([]byte("before")), h.AppendV2([]byte("before"))
	for _, b := range [][]byte{b1, b2} {
		if string(b[:6]) != "before" {
			t.Fatalf("%q", b)
		}
		agree(t, b[6:])
		if n, err := Scan(b[6:], &Header{}); err != nil || n != len(b)-6 {
			t.Fatalf("%q: %d bytes of %d, %v", b, n, len(b)-6, err)
		}
		if _, _, err := read(b[6:]); err != nil {
			t.Fatalf("%q: the library: %v", b, err)
		}
	}
	var r1, r2 Header
	_, _ = Scan(b1[6:], &r1)
	_, _ = Scan(b2[6:], &r2)
	return meaning(&r1), meaning(&r2)
}

func TestWhatIsWrittenReadsTheSame(t *testing.T) {
	f := func(h Header, want1, want2 string) {
		t.Helper()
		if got1, got2 := written(t, &h); got1 != "v1"+want1 || got2 != "v2"+want2 {
			t.Errorf("%s: %q and %q, want %q and %q", meaning(&h), got1, got2, want1, want2)
		}
	}
	same := func(h Header, want string) {
		t.Helper()
		f(h, want, want)
	}
	ip4 := Header{Source: at("192.0.2.1:56324"), Dest: at("198.51.100.2:443")}
	same(ip4, " 192.0.2.1:56324 > 198.51.100.2:443")
	same(Header{Source: at("0.0.0.0:0"), Dest: at("255.255.255.255:65535")}, " 0.0.0.0:0 > 255.255.255.255:65535")
	same(Header{Source: at("[2001:db8::1]:7"), Dest: at("[2001:db8::2]:443")}, " [2001:db8::1]:7 > [2001:db8::2]:443")
	same(Header{Source: at("[::ffff:192.0.2.1]:7"), Dest: at("192.0.2.2:8")}, " 192.0.2.1:7 > 192.0.2.2:8")
	same(Header{Source: at("[::ffff:192.0.2.1]:7"), Dest: at("[::ffff:192.0.2.2]:8")}, " 192.0.2.1:7 > 192.0.2.2:8")
	same(Header{Source: at("[fe80::1%eth0]:7"), Dest: at("[fe80::2%eth0]:8")}, " [fe80::1]:7 > [fe80::2]:8")
	f(Header{Source: at("192.0.2.1:7"), Dest: at("[2001:db8::2]:8")}, " local", " 192.0.2.1:7 > [2001:db8::2]:8")
	f(Header{Source: at("[2001:db8::1]:7"), Dest: at("192.0.2.2:8")}, " local", " [2001:db8::1]:7 > 192.0.2.2:8")
	same(Header{}, " local")
	same(Header{Source: at("192.0.2.1:7")}, " local")
	same(Header{Dest: at("192.0.2.1:7")}, " local")
	same(Header{Local: true, Source: at("192.0.2.1:7"), Dest: at("192.0.2.2:8")}, " local")
	same(Header{Source: netip.AddrPortFrom(netip.Addr{}, 7), Dest: at("192.0.2.2:8")}, " local")

	with := func(change func(*Header)) (h Header) {
		h = ip4
		change(&h)
		return h
	}
	const v1 = " 192.0.2.1:56324 > 198.51.100.2:443"
	f(with(func(h *Header) { h.SNI, h.ALPN, h.UniqueID = []byte("a.test"), []byte("h2"), []byte("7") }), v1, v1+" sni=a.test alpn=h2 id=7")
	f(with(func(h *Header) { h.Checksum = true }), v1, v1+" sum")
	f(with(func(h *Header) { h.SNI, h.Checksum = []byte("a.test"), true }), v1, v1+" sni=a.test sum")
	f(Header{Local: true, UniqueID: []byte("7"), Checksum: true}, " local", " local id=7 sum")
	// What Scan would refuse is left out.
	for _, sni := range []string{strings.Repeat("x", 256), "a\xff", "a\n"} {
		f(with(func(h *Header) { h.SNI, h.UniqueID = []byte(sni), []byte("7") }), v1, v1+" id=7")
	}
	f(with(func(h *Header) { h.ALPN, h.UniqueID = make([]byte, 256), []byte("7") }), v1, v1+" id=7")
	f(with(func(h *Header) { h.ALPN, h.UniqueID = []byte("h2"), make([]byte, 129) }), v1, v1+" alpn=h2")
	largest := strings.Repeat("x", 255)
	f(with(func(h *Header) { h.SNI, h.ALPN, h.UniqueID = []byte(largest), []byte(largest), []byte(largest[:128]) }), v1,
		v1+" sni="+largest+" alpn="+largest+" id="+largest[:128])
}

func TestWrittenBytes(t *testing.T) {
	f := func(got []byte, want string) {
		t.Helper()
		if string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	h := Header{Source: at("192.0.2.1:56324"), Dest: at("198.51.100.2:443"), SNI: []byte("a.b"), ALPN: []byte("h2"), UniqueID: []byte("7")}
	f(h.AppendV1(nil), "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n")
	f(h.AppendV2(nil), "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x1b\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"+
		"\x01\x00\x02h2\x02\x00\x03a.b\x05\x00\x017")
	h = Header{Source: at("[2001:db8::1]:7"), Dest: at("192.0.2.2:8")}
	f(h.AppendV1(nil), "PROXY UNKNOWN\r\n")
	f(h.AppendV2(nil), "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"+
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x02\x00\x07\x00\x08")
	h.Source = at("[2001:db8::a]:1")
	h.Dest = h.Source
	f(h.AppendV1(nil), "PROXY TCP6 2001:db8::a 2001:db8::a 1 1\r\n")
	f((&Header{Local: true}).AppendV2(nil), "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
}

func TestWritingAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, MaxSize)
	for _, h := range []Header{
		{},
		{Source: at("192.0.2.1:56324"), Dest: at("198.51.100.2:443"), SNI: []byte("a.test"), UniqueID: []byte("7"), Checksum: true},
		{Source: at("[2001:db8::1]:7"), Dest: at("[fe80::1%eth0]:443")},
		{Source: at("[2001:db8::1]:7"), Dest: at("192.0.2.1:443"), ALPN: []byte("h2")},
	} {
		if n := testing.AllocsPerRun(100, func() { h.AppendV1(dst); h.AppendV2(dst) }); n != 0 {
			t.Errorf("%s: %v allocations", meaning(&h), n)
		}
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1}, []byte{192, 0, 2, 2}, uint16(1), uint16(2), "a.test", "h2", "7", true, false)
	f.Add([]byte("0123456789abcdef"), []byte{192, 0, 2, 2}, uint16(1), uint16(2), "ä", "", "", false, false)
	f.Add([]byte{}, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04"), uint16(0), uint16(65535), "", "", "", true, true)
	f.Fuzz(func(t *testing.T, from, to []byte, fromPort, toPort uint16, sni, alpn, id string, sum, local bool) {
		source, _ := netip.AddrFromSlice(from)
		dest, _ := netip.AddrFromSlice(to)
		h := Header{Version: 2, Local: local, Source: netip.AddrPortFrom(source.Unmap(), fromPort),
			Dest: netip.AddrPortFrom(dest.Unmap(), toPort), Checksum: sum}
		if h.Local = local || !source.IsValid() || !dest.IsValid(); h.Local {
			h.Source, h.Dest = netip.AddrPort{}, netip.AddrPort{}
		}
		if text([]byte(sni)) {
			h.SNI = []byte(sni)
		}
		h.ALPN, h.UniqueID = []byte(alpn[:min(len(alpn), maxALPN)]), []byte(id[:min(len(id), maxUniqueID)])
		if _, got := written(t, &h); got != meaning(&h) {
			t.Fatalf("%s was read as %s", meaning(&h), got)
		}
	})
}
