package tlslayer

import "testing"

// A verdict on the first bytes holds for all that may follow, and records are cut where their heads say.
func FuzzHello(f *testing.F) {
	for _, s := range []string{"", "GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "\x16\x04\x00", "\x80\x2e\x01", "\xff",
		"SSH-2.0-x", "\x15\x03\x03\x00\x02\x02\x28\x16\x03\x03\x00\x01x", "\x17\x03\x03\xff\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		last := partial
		for n := range min(len(b), sniffed) + 1 {
			v := look(b[:n])
			if last != partial && v != last {
				t.Errorf("%q is %d, and longer by a byte %d", b[:n], last, v)
			}
			last = v
		}
		if len(b) >= sniffed && last == partial {
			t.Errorf("%q is never judged", b[:sniffed])
		}
		n := records(b)
		if n > len(b) || n < len(b) && records(b[n:]) != 0 {
			t.Errorf("%d of %q are whole", n, b)
		}
		_ = alertIn(b)
	})
}
