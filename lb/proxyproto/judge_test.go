package proxyproto

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"

	pires "github.com/pires/go-proxyproto"
)

// read is what pires/go-proxyproto reads, and how much it takes for it.
func read(b []byte) (h *pires.Header, n int, err error) {
	in := bytes.NewReader(b)
	r := bufio.NewReaderSize(in, MaxSize)
	h, err = pires.Read(r)
	return h, len(b) - in.Len() - r.Buffered(), err
}

// theirs is one of its headers, as one of ours.
func theirs(t *testing.T, p *pires.Header) Header {
	t.Helper()
	h := Header{Version: int(p.Version), Local: p.Command.IsLocal() || p.TransportProtocol.IsUnix()}
	if !h.Local {
		source, dest, ok := p.TCPAddrs()
		if !ok {
			t.Fatalf("no addresses: %v", p)
		}
		h.Source, h.Dest = addrPort(source), addrPort(dest)
	}
	tlvs, err := p.TLVs()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range tlvs {
		switch v.Type {
		case pires.PP2_TYPE_ALPN:
			h.ALPN = v.Value
		case pires.PP2_TYPE_AUTHORITY:
			h.SNI = v.Value
		case pires.PP2_TYPE_UNIQUE_ID:
			h.UniqueID = v.Value
		case pires.PP2_TYPE_CRC32C:
			h.Checksum = true
		}
	}
	return h
}

func addrPort(a *net.TCPAddr) netip.AddrPort {
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// stricter are the reasons for which we refuse headers that the library takes.
var stricter = map[*Error]string{
	errBareCR:   "it ends UNKNOWN's line at LF alone",
	errDatagram: "it leaves that to the caller",
	errTLV:      "it leaves that to the caller",
	errTwice:    "it leaves that to the caller",
	errSum:      "it leaves that to the caller",
	errSNI:      "it leaves that to the caller",
	errALPN:     "it leaves that to the caller",
	errUniqueID: "it leaves that to the caller",
}

// agree holds our reading against the library's.
func agree(t *testing.T, b []byte) {
	t.Helper()
	var h Header
	n, err := Scan(b, &h)
	p, m, perr := read(b)
	var bad *Error
	switch {
	case err == nil && perr != nil:
		// A proxy may say that it does not know the addresses, of what family it likes: section 2.2 leaves us the choice.
		if !(b[0] == '\r' && b[12] == 0x21 && b[13] == 0) {
			t.Fatalf("%q: read as %s, the library refuses it: %v", b, meaning(&h), perr)
		}
	case err == nil:
		if theirs := theirs(t, p); n != m || meaning(&h) != meaning(&theirs) {
			t.Fatalf("%q: read as %d bytes, %s, the library reads %d bytes, %s", b, n, meaning(&h), m, meaning(&theirs))
		}
	case perr == nil && !(errors.As(err, &bad) && stricter[bad] != ""):
		t.Fatalf("%q: %v, the library reads it", b, err)
	case (err == ErrNone) && perr != pires.ErrNoProxyProtocol:
		t.Fatalf("%q: no header, but the library says %v", b, perr)
	}
}

func TestReadingAgreesWithTheLibrary(t *testing.T) {
	for _, e := range examples() {
		agree(t, []byte(e.in))
	}
}

func FuzzScan(f *testing.F) {
	for _, e := range examples() {
		if len(e.in) < 1000 {
			f.Add([]byte(e.in), uint16(len(e.in)/2))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		agree(t, b)
		// More bytes never change what was said.
		c := min(int(cut), len(b))
		if early := verdict(b[:c:c]); early != ErrPartial.Error() {
			if late := verdict(b); early != late {
				t.Fatalf("%q: %q, but cut at %d %q", b, late, c, early)
			}
		}
		// What was read is written so that it reads the same, and the library thinks so too.
		var h Header
		if _, err := Scan(b, &h); err == nil {
			written(t, &h)
		}
	})
}
