package tlslayer

import (
	"io"
	"net"
	"net/netip"
	"time"

	"sluice/engine"
)

// wire is a layer as crypto/tls sees it: as the connection below. During the handshake it is of the goroutine that runs it,
// and blocks; after it of the loop, and answers blocked.
type wire layer

// wouldBlock is what crypto/tls does not take for the end: a net.Error that is Temporary.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var blocked error = wouldBlock{}

// cut is a FIN without a close_notify before it: of its own type, as crypto/tls takes an io.EOF between two records for a
// good end.
type cut struct{}

func (cut) Error() string { return "connection ended without a close_notify" }
func (cut) Unwrap() error { return io.ErrUnexpectedEOF }

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if w.hs != nil {
		return w.hs.read(p)
	}
	if w.in != nil {
		n := copy(p, w.in[w.inAt:])
		w.inAt += n
		if w.inAt == len(w.in) {
			w.conn.Loop().PutBuffer(w.in)
			w.in, w.inAt = nil, 0
		}
		if n > 0 {
			return n, nil
		}
	}
	n, err := w.conn.RawRead(p)
	switch err {
	case engine.ErrAgain:
		return 0, blocked
	case io.EOF:
		return 0, cut{}
	}
	return n, err
}

// Write implements net.Conn. It takes all: an error would end crypto/tls' writing for good.
func (w *wire) Write(p []byte) (int, error) {
	if w.hs != nil {
		return w.hs.write(p)
	}
	y := (*layer)(w)
	if w.gather {
		w.out = w.conn.Loop().AppendBuffer(w.out, p)
	} else {
		y.send(w.conn, p)
	}
	if w.reading && y.Pending() {
		w.answers += len(p)
	}
	return len(p), nil
}

// Close implements net.Conn: it is the layer's owner who closes.
func (w *wire) Close() error { return nil }

// LocalAddr implements net.Conn.
func (w *wire) LocalAddr() net.Addr {
	if w.hs != nil {
		return netAddr(w.hs.local)
	}
	return netAddr(w.conn.LocalAddr())
}

// RemoteAddr implements net.Conn.
func (w *wire) RemoteAddr() net.Addr { return netAddr(w.conn.Peer()) }

func netAddr(a netip.AddrPort) net.Addr {
	if !a.IsValid() {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(a)
}

// SetDeadline implements net.Conn; the loop keeps the time.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
