package proxyproto

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

type example struct{ in, want string }

// examples are what a connection may begin with, and what is said of it.
func examples() (list []example) {
	f := func(in, want string) { list = append(list, example{in, want}) }
	partial, none := ErrPartial.Error(), ErrNone.Error()

	f("", partial)
	f("P", partial)
	f("PROX", partial)
	f("PROXY", partial)
	f("\r\n\r\n\x00\r\nQUIT", partial)
	f("POST / HTTP/1.1\r\n", none)
	f("PRI * HTTP/2.0\r\n", none)
	f("GET / HTTP/1.1\r\n", none)
	f("proxy tcp4", none)
	f("\r\n\r\nGET", none)
	f("\x16\x03\x01", none)
	f("\x00", none)

	// Version 1. The first is the example of section 2.1, the lines at their longest are there too.
	f("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n", "47 v1 192.168.0.1:56324 > 192.168.0.11:443")
	f("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "56 v1 255.255.255.255:65535 > 255.255.255.255:65535")
	long6 := "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	f("PROXY TCP6 "+long6+" "+long6+" 65535 65535\r\n", "104 v1 ["+long6+"]:65535 > ["+long6+"]:65535")
	f("PROXY UNKNOWN\r\n", "15 v1 local")
	f("PROXY UNKNOWN "+long6+" "+long6+" 65535 65535\r\n", "107 v1 local")
	f("PROXY UNKNOWN  \x00\xff PROXY TCP4\r\n", "30 v1 local")
	f("PROXY UNKNOWN \r\n", "16 v1 local")
	f("PROXY TCP4 0.0.0.0 1.2.3.4 0 1\r\n", "32 v1 0.0.0.0:0 > 1.2.3.4:1")
	f("PROXY TCP6 :: 2001:DB8::00a 1 2\r\n", "33 v1 [::]:1 > [2001:db8::a]:2")
	f("PROXY TCP6 0:0:0:0:0:0:0:1 ::1 1 2\r\n", "36 v1 [::1]:1 > [::1]:2")
	f("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n", "49 v1 192.0.2.1:1 > 192.0.2.2:2")
	f("PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\nPROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\n", "32 v1 1.2.3.4:1 > 1.2.3.5:2")
	f("PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r", partial)
	f("PROXY TCP4 1.2.3.4 1.2.3", partial)
	f("PROXY UNKNOWN", partial)

	for _, line := range []string{"PROXY\r\n", "PROXY \r\n", "PROXY  TCP4 1.2.3.4 1.2.3.5 1 2\r\n", "PROXYTCP4 ", "PROXY\tTCP4 ",
		"PROXY tcp4 ", "PROXY TCP5 ", "PROXY TCP\r\n", "PROXY TCP4\r\n", "PROXY TCP44 ", "PROXY UDP4 ", "PROXY UNKNOWNX", "PROXY UNKNOWN\n",
		"PROXY UNKNOWN\t", "PROXY \r\n\r\n\x00\r\nQUIT\n"} {
		f(line, errTransport.Reason)
	}
	f("PROXY UNKNOWN\rX", errBareCR.Reason)
	f("PROXY UNKNOWN a\rb\r\n", errBareCR.Reason)
	f("PROXY TCP4 1.2.3.4 1.2.3.5 1 2\rGET", errBareCR.Reason)
	f("PROXY TCP4 1.2.3.4 1.2.3.5 1 2\n", errBareLF.Reason)
	f("PROXY UNKNOWN \n", errBareLF.Reason)
	f("PROXY UNKNOWN "+strings.Repeat("x", 91)+"\r\n", "107 v1 local")
	f("PROXY UNKNOWN "+strings.Repeat("x", 92)+"\r\n", errLong.Reason)
	f("PROXY UNKNOWN "+strings.Repeat("x", 93), errLong.Reason)
	f("PROXY TCP6 "+strings.Repeat("0:", 60), errLong.Reason)

	for _, fields := range []string{"", " ", "1.2.3.4", "1.2.3.4 1.2.3.5", "1.2.3.4 1.2.3.5 1", "1.2.3.4 1.2.3.5 1 2 ", "1.2.3.4 1.2.3.5 1 2 3"} {
		f("PROXY TCP4 "+fields+"\r\n", errFields.Reason)
	}
	f("PROXY TCP4 1.2.3.4  1.2.3.5 1 2\r\n", errFields.Reason)
	f("PROXY TCP4 1.2.3.4 1.2.3.5 1  2\r\n", errFields.Reason)
	f("PROXY TCP4 1.2.3.4 1.2.3.5 8090 9123\r\n", "38 v1 1.2.3.4:8090 > 1.2.3.5:9123")
	for _, fields := range []string{"1.2.3 1.2.3.5 1 2", "1.2.3.4.5 1.2.3.5 1 2", "1.2.3.256 1.2.3.5 1 2", "01.2.3.4 1.2.3.5 1 2", "1.2.3.4 1.2.3.00 1 2",
		"+1.2.3.4 1.2.3.5 1 2", "1.2.3.4 ::1 1 2", "::1 ::1 1 2", "::ffff:1.2.3.4 ::ffff:1.2.3.4 1 2", "0x1.2.3.4 1.2.3.5 1 2", "a b 1 2", "  1 2",
		"1.2.3.4\t 1.2.3.5 1 2", "1.2.3.4\x00 1.2.3.5 1 2"} {
		f("PROXY TCP4 "+fields+"\r\n", errAddress.Reason)
	}
	for _, fields := range []string{"1.2.3.4 1.2.3.5 1 2", "::1 1.2.3.5 1 2", "::1%eth0 ::1 1 2", "fe80::1 fe80::1% 1 2", "[::1] ::1 1 2",
		"1::2::3 ::1 1 2", "12345::1 ::1 1 2", ":1 ::1 1 2", "1:2:3:4:5:6:7 ::1 1 2", "1:2:3:4:5:6:7:8:9 ::1 1 2", "::1.2.3.04 ::1 1 2", "::g ::1 1 2"} {
		f("PROXY TCP6 "+fields+"\r\n", errAddress.Reason)
	}
	for _, ports := range []string{" ", "1 ", " 1", "01 2", "1 00", "1 65536", "99999 1", "100000 1", "-1 2", "+1 2", "1 2x", "0x1 2", "1 2\x00"} {
		f("PROXY TCP4 1.2.3.4 1.2.3.5 "+ports+"\r\n", errPort.Reason)
	}

	// Version 2.
	g := func(b []byte, want string) { f(string(b), want) }
	g(v2(0x21, 0x11, ip4), "28 v2 "+reads4)
	g(v2(0x21, 0x21, ip6), "52 v2 "+reads6)
	g(cat(v2(0x21, 0x11, ip4), v2(0x21, 0x11, ip4)), "28 v2 "+reads4)
	g(v2(0x21, 0x21, make([]byte, 10), []byte{0xff, 0xff, 1, 2, 3, 4}, make([]byte, 20)), "52 v2 1.2.3.4:0 > [::]:0")
	g(v2(0x21, 0x31, paths), "232 v2 local")
	g(v2(0x21, 0x31, paths, value(2, "a.test")), "241 v2 local sni=a.test")
	g(v2(0x21, 0x00), "16 v2 local")
	g(v2(0x21, 0x00, value(5, "7")), "20 v2 local id=7")
	g(v2(0x20, 0x00), "16 v2 local")
	g(v2(0x20, 0x00, value(2, "a.test")), "25 v2 local sni=a.test")
	g(v2(0x20, 0x11, ip4, value(2, "a.test")), "37 v2 local sni=a.test")
	g(v2(0x20, 0x12, ip4), "28 v2 local")
	g(v2(0x20, 0x32, paths), "232 v2 local")
	g(v2(0x20, 0x11), "16 v2 local") // section 2.2: LOCAL may come without what its family promises
	g(v2(0x20, 0x21, ip4), "28 v2 local")
	g(v2(0x21, 0x11, ip4[:11]), errShort.Reason)
	g(v2(0x21, 0x21, ip6[:35]), errShort.Reason)
	g(v2(0x21, 0x31, paths[:215]), errShort.Reason)
	g(v2(0x21, 0x11), errShort.Reason)
	for _, command := range []byte{0x00, 0x01, 0x11, 0x31, 0xf1} {
		g(v2(command, 0x11, ip4), errVersion.Reason)
	}
	for _, command := range []byte{0x22, 0x2f} {
		g(v2(command, 0x11, ip4), errCommand.Reason)
	}
	for _, family := range []byte{0x01, 0x02, 0x10, 0x13, 0x1f, 0x20, 0x23, 0x30, 0x33, 0x41, 0xf1, 0xff} {
		g(v2(0x21, family, paths), errFamily.Reason)
		g(v2(0x20, family, paths), errFamily.Reason)
	}
	for _, family := range []byte{0x12, 0x22, 0x32} {
		g(v2(0x21, family, paths), errDatagram.Reason)
	}
	g(v2(0x21, 0x11, ip4)[:27], partial)
	g(v2(0x21, 0x11, ip4)[:15], partial)
	g(v2(0x21, 0x11, ip4, value(0xee, strings.Repeat("x", MaxSize-16-12-3))), fmt.Sprint(MaxSize, " v2 ", reads4))
	g(v2(0x21, 0x11, ip4, value(0xee, strings.Repeat("x", MaxSize-16-12-2))), errLarge.Reason)
	g(v2(0x20, 0x00, make([]byte, 65535))[:16], errLarge.Reason)
	g(v2(0x20, 0x11, make([]byte, 65535)), errLarge.Reason)

	with := func(tlvs ...[]byte) []byte { return v2(0x21, 0x11, ip4, cat(tlvs...)) }
	g(with(value(1, "h2"), value(2, "a.test"), value(5, "\x01id")), "48 v2 "+reads4+" sni=a.test alpn=h2 id=\x01id")
	g(with(value(1, ""), value(2, ""), value(5, "")), "37 v2 "+reads4)
	g(with(value(2, "ä.test")), "38 v2 "+reads4+" sni=ä.test")
	g(with(value(4, ""), value(4, "xx"), value(0x30, "blue"), value(0x30, "red"), value(0xe0, ""), value(0xff, "\xff")), "56 v2 "+reads4)
	g(with(value(0x20, "\x01\x00\x00\x00\x00"+string(value(0x21, "TLSv1.3")))), "46 v2 "+reads4)
	g(with(value(0x20, "\x01\x00\x00\x00\x00")), "36 v2 "+reads4)
	g(summed(with(value(3, "sum?"))), "35 v2 "+reads4+" sum")
	g(summed(with(value(2, "a.test"), value(3, "sum?"))), "44 v2 "+reads4+" sni=a.test sum")
	g(summed(v2(0x20, 0x00, value(3, "sum?"))), "23 v2 local sum")
	g(with(value(3, "sum?"), value(2, "a.test")), errSum.Reason)
	g(with(value(3, "\x00\x00\x00\x00")), errSum.Reason)
	g(v2(0x20, 0x00, value(3, "sum?")), errSum.Reason)

	for _, v := range []string{strings.Repeat("x", 255), strings.Repeat("ä", 127)} {
		g(with(value(2, v)), fmt.Sprint(31+len(v), " v2 ", reads4, " sni=", v))
	}
	for _, v := range []string{strings.Repeat("x", 256), "a\xff", "\xc0\x80", "a\x00b", "a\nb", "a b", "a\x7f"} {
		g(with(value(2, v)), errSNI.Reason)
	}
	g(with(value(1, strings.Repeat("x", 255))), "286 v2 "+reads4+" alpn="+strings.Repeat("x", 255))
	g(with(value(1, strings.Repeat("x", 256))), errALPN.Reason)
	g(with(value(5, strings.Repeat("x", 128))), "159 v2 "+reads4+" id="+strings.Repeat("x", 128))
	g(with(value(5, strings.Repeat("x", 129))), errUniqueID.Reason)

	for kind, v := range map[byte]string{1: "h2", 2: "a", 5: "x"} {
		g(with(value(kind, v), value(4, ""), value(kind, v)), errTwice.Reason)
		g(with(value(kind, ""), value(kind, v)), errTwice.Reason)
	}
	g(with(sumInside(), value(3, "sum?")), errTwice.Reason)

	for _, bad := range []string{"\x04", "\x04\x00", "\x04\x00\x01", "\xee\x00\x02x", "\x00", "\x02\xff\xff"} {
		g(with([]byte(bad)), errTLV.Reason)
		g(with(value(2, "a.test"), []byte(bad)), errTLV.Reason)
		g(v2(0x20, 0x00, []byte(bad)), errTLV.Reason)
		g(v2(0x20, 0x11, ip4, []byte(bad)), errTLV.Reason)
		g(v2(0x21, 0x31, paths, []byte(bad)), errTLV.Reason)
		g(with(value(0x20, "\x01\x00\x00\x00\x00"+bad)), errTLV.Reason)
	}
	for _, n := range []int{0, 3, 5, 8} {
		g(with(value(3, strings.Repeat("\x00", n))), errTLV.Reason)
	}
	g(with(value(0x20, "")), errTLV.Reason)
	g(with(value(0x20, "\x01\x00\x00\x00")), errTLV.Reason)
	return list
}

// sumInside is the checksum, in a TLV, of a header that has after it another one.
func sumInside() []byte {
	b := v2(0x21, 0x11, ip4, value(3, "\x00\x00\x00\x00"), value(3, "sum?"))
	c := crc32c(b)
	return value(3, string([]byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)}))
}

func TestVerdicts(t *testing.T) {
	for _, e := range examples() {
		if got := verdict([]byte(e.in)); got != e.want {
			t.Errorf("%q: %q, want %q", e.in[:min(len(e.in), 200)], got, e.want)
		}
	}
}

// What is said does not change when more comes, and until it is said the header is partial.
func TestVerdictWhateverTheSplit(t *testing.T) {
	for _, e := range examples() {
		decided := false
		for cut := 0; cut < len(e.in); cut += 1 + len(e.in)/1000 {
			if got := verdict([]byte(e.in)[:cut:cut]); got == e.want {
				decided = true
			} else if decided || got != ErrPartial.Error() {
				t.Errorf("%q, cut at %d: %q, want %q", e.in[:min(len(e.in), 200)], cut, got, e.want)
				break
			}
		}
	}
}

func TestVerdictComesAsSoonAsItIsCertain(t *testing.T) {
	f := func(b string, want error) {
		t.Helper()
		for cut := range b {
			if got := verdict([]byte(b[:cut])); got != ErrPartial.Error() {
				t.Errorf("%q, cut at %d: %s", b, cut, got)
			}
		}
		if got := verdict([]byte(b)); got != want.Error() {
			t.Errorf("%q: %s, want %v", b, got, want)
		}
	}
	f("G", ErrNone)
	f("PO", ErrNone)
	f("PROXA", ErrNone)
	f("\r\n\r\n\r", ErrNone)
	f("\r\n\r\n\x00\r\nQUIT\r", ErrNone)
	f("PROXYX", errTransport)
	f("PROXY X", errTransport)
	f("PROXY TCP5", errTransport)
	f("PROXY TCP4\r", errTransport)
	f("PROXY UNKNOWNX", errTransport)
	f("PROXY TCP4 1\n", errBareLF)
	f("PROXY TCP4 1\rx", errBareCR)
	f("PROXY TCP4 "+strings.Repeat("1", 107-11), errLong)
	f("\r\n\r\n\x00\r\nQUIT\n\x11", errVersion)
	f("\r\n\r\n\x00\r\nQUIT\n\x22", errCommand)
	f("\r\n\r\n\x00\r\nQUIT\n\x21\x13", errFamily)
	f("\r\n\r\n\x00\r\nQUIT\n\x21\x12", errDatagram)
	f("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0b", errShort)
	f("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x10\x01", errLarge)
}

func TestNeverUndecidedAtMaxSize(t *testing.T) {
	for _, e := range examples() {
		for _, fill := range []byte{0, ' ', '1', '\r', '\n', 0xff} {
			b := append([]byte(e.in), bytes.Repeat([]byte{fill}, MaxSize)...)[:MaxSize]
			if _, err := Scan(b, &Header{}); err == ErrPartial {
				t.Errorf("%q, and then %q: partial", e.in[:min(len(e.in), 200)], fill)
			}
		}
	}
}

// A checksum covers every byte of the header: none can be changed, and the header still pass as one that was checked.
func TestChecksumGuardsEveryByte(t *testing.T) {
	whole := summed(v2(0x21, 0x11, ip4, value(2, "a.test"), value(5, "id"), value(0xee, "x"), value(3, "sum?")))
	want := verdict(whole)
	for i := range whole {
		for bit := range 8 {
			b := append(bytes.Clone(whole), make([]byte, MaxSize)...)
			b[i] ^= 1 << bit
			got := verdict(b)
			if strings.HasSuffix(got, " sum") {
				t.Errorf("byte %d, bit %d: %s", i, bit, got)
			}
		}
	}
	if !strings.HasSuffix(want, " sni=a.test id=id sum") {
		t.Error(want)
	}
}

func TestOursIsTheStandardsChecksum(t *testing.T) {
	if got := crc32c([]byte("123456789")); got != 0xe3069283 { // the check value of CRC-32C
		t.Errorf("%08x", got)
	}
}

func TestBegins(t *testing.T) {
	f := func(b string, want bool) {
		t.Helper()
		if got := Begins([]byte(b)); got != want {
			t.Errorf("%q: %v", b, got)
		}
	}
	f("PROXY", true)
	f("PROXY TCP4 and on", true)
	f("\r\n\r\n\x00\r\nQUIT\n", true)
	f(string(v2(0x20, 0)), true)
	f("", false)
	f("PROX", false)
	f("\r\n\r\n\x00\r\nQUIT", false)
	f("POST / HTTP/1.1", false)
	f("\r\n\r\nPROXY", false)
}

func TestScanAllocatesNothing(t *testing.T) {
	var h Header
	for _, e := range examples() {
		b := []byte(e.in)
		if strings.HasPrefix(e.want, errAddress.Reason) {
			continue // netip makes an error of its own
		}
		if n := testing.AllocsPerRun(10, func() { _, _ = Scan(b, &h) }); n != 0 {
			t.Errorf("%q: %v allocations", e.in[:min(len(e.in), 200)], n)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	for name, in := range map[string][]byte{
		"v1":      []byte("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
		"v1-ip6":  []byte("PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"),
		"v2":      v2(0x21, 0x11, ip4),
		"v2-tlvs": summed(v2(0x21, 0x11, ip4, value(2, "api.shop.test"), value(5, "0123456789abcdef"), value(3, "sum?"))),
		"none":    []byte("GET / HTTP/1.1\r\n"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var h Header
			for b.Loop() {
				_, _ = Scan(in, &h)
			}
		})
	}
}
