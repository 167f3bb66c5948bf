package filter

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// What is wrong with an encoded body.
var (
	errMalformed = errors.New("malformed content coding")
	errTooLong   = errors.New("decoded body is too long")
	errRatio     = errors.New("decoded body is out of proportion to the encoded one")
)

const (
	// ratioFrom is how many bytes any body may become, whatever the ratio: short ones of one letter are no bombs.
	ratioFrom = 64 << 10
	// maxWindow is what a zstd frame may have its decoder hold, in bytes (RFC 9659).
	maxWindow = 8 << 20
	// decodeBytes are decoded at a time, between looks at the limits.
	decodeBytes = 16 << 10
)

// limits are how long a decoded body may be.
type limits struct {
	bytes int64 // 0: no limit
	ratio int64 // of bytes out to bytes in
}

// decoder is a Transform. The decoders of the libraries pull from an io.Reader, and cannot go on after an error: so they run in a
// coroutine, which stands still where it wants more than there is.
type decoder struct {
	limits
	kit   *kit
	in    []byte // of the piece at hand, what is left
	last  bool   // it is the last one
	out   []byte
	fed   int64 // bytes, as the next
	made  int64
	err   error
	ended bool // the coroutine

	more func(struct{}) bool // leaves the coroutine until there is more; false: it is to end
	next func() (struct{}, bool)
	stop func()
}

var errStopped = errors.New("stopped")

func newDecoder(c coding, l limits) *decoder {
	d := &decoder{limits: l, kit: kitOf(c)}
	d.next, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		d.more = yield
		d.run()
	})
	return d
}

// decodeAll appends what body becomes to dst. It is no coroutine: there is nothing to wait for.
func decodeAll(c coding, l limits, dst, body []byte) ([]byte, error) {
	d := &decoder{limits: l, kit: kitOf(c), in: body, last: true, out: dst, fed: int64(len(body))}
	d.run()
	d.release()
	return d.out, d.err
}

// Append implements Transform.
func (d *decoder) Append(dst, src []byte, last bool) ([]byte, error) {
	if d.err != nil || len(src) == 0 && !last {
		return dst, d.err
	}
	if d.ended {
		if len(src) > 0 {
			d.err = errMalformed
		}
		return dst, d.err
	}
	d.in, d.last, d.out = src, last, dst
	d.fed += int64(len(src))
	d.next()
	dst = d.out
	d.in, d.out = nil, nil
	return dst, d.err
}

// Close implements Transform.
func (d *decoder) Close() {
	if d.kit != nil {
		d.stop()
		d.release()
	}
}

// release keeps what has read its body to the end. What has not may hold some of it still, as brotli's does over a Reset, and that
// would be in another client's.
func (d *decoder) release() {
	if d.ended && d.err == nil {
		d.kit.in.Reset(nil)
		kits[d.kit.coding].Put(d.kit)
	}
	d.kit = nil
}

// Read is what the decoders read from.
func (d *decoder) Read(p []byte) (int, error) {
	for len(d.in) == 0 {
		if d.last {
			return 0, io.EOF
		}
		if !d.more(struct{}{}) {
			return 0, errStopped
		}
	}
	n := copy(p, d.in)
	d.in = d.in[n:]
	return n, nil
}

// run decodes until the end.
func (d *decoder) run() {
	defer func() { d.ended = true }()
	k := d.kit
	k.in.Reset(d)
	if _, err := k.in.Peek(1); err == io.EOF { // no body at all
		return
	}
	z, err := k.open(k.in)
	for err == nil {
		var n int
		// Not into out: it is another one after each wait.
		n, err = z.Read(k.room)
		d.out = append(d.out, k.room[:n]...)
		d.made += int64(n)
		if d.bytes > 0 && d.made > d.bytes {
			d.err = errTooLong
			return
		}
		if d.made > ratioFrom && d.made/d.ratio > d.fed {
			d.err = errRatio
			return
		}
	}
	if _, after := k.in.Peek(1); err != io.EOF || after != io.EOF {
		d.err = errMalformed // the libraries' errors may quote what was sent
	}
}

// kit is what one body is decoded with.
type kit struct {
	coding coding
	in     *bufio.Reader
	room   []byte

	gzip   gzip.Reader
	zlib   io.ReadCloser // nil until it is needed, as the others
	flate  io.ReadCloser
	brotli *brotli.Reader
	zstd   *zstd.Decoder
}

// kits are those out of use.
var kits [codings]sync.Pool

func kitOf(c coding) *kit {
	if k, _ := kits[c].Get().(*kit); k != nil {
		return k
	}
	return &kit{coding: c, in: bufio.NewReaderSize(nil, 4<<10), room: make([]byte, decodeBytes)}
}

// open makes the decoder begin anew.
func (k *kit) open(r *bufio.Reader) (io.Reader, error) {
	var err error
	switch k.coding {
	case gzipCoding:
		return &k.gzip, k.gzip.Reset(r)
	case deflateCoding:
		return k.openDeflate(r)
	case brotliCoding:
		if k.brotli == nil {
			k.brotli = brotli.NewReader(r)
			return k.brotli, nil
		}
		return k.brotli, k.brotli.Reset(r)
	case zstdCoding:
		if k.zstd == nil {
			k.zstd, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
			return k.zstd, err
		}
		return k.zstd, k.zstd.Reset(r)
	}
	panic(fmt.Sprintf("BUG: %v is not decoded", k.coding))
}

// openDeflate takes what the coding means (RFC 9110, section 8.4.1.2), the zlib format (RFC 1950, section 2.2), and what some send
// in its place: the bare data in it.
func (k *kit) openDeflate(r *bufio.Reader) (io.Reader, error) {
	head, err := r.Peek(2)
	if err == nil && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		if k.zlib == nil {
			k.zlib, err = zlib.NewReader(r)
			return k.zlib, err
		}
		return k.zlib, k.zlib.(zlib.Resetter).Reset(r, nil)
	}
	if k.flate == nil {
		k.flate = flate.NewReader(r)
		return k.flate, nil
	}
	return k.flate, k.flate.(flate.Resetter).Reset(r, nil)
}
