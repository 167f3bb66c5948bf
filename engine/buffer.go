package engine

// Sizes of the pooled buffers. What waits for more is mostly a piece of a head: of a few hundred bytes from a client that
// sends slowly, whole within 4 KiB from nearly everyone, within 16 KiB with large cookies. Large is what one read of the
// loop can leave behind, with a head or framing before it. From one to the next it is 8 times at most: no peer makes
// the loop hold more than that for what it sent, beyond the smallest.
const (
	TinyBuffer   = 512
	SmallBuffer  = 4 << 10
	MediumBuffer = 16 << 10
	LargeBuffer  = readScratch + 8<<10
)

const bufferSizes = 4

// keepBuffers bounds how many free buffers of each size a loop keeps: 0.5, 1, 2 and 4.5 MiB.
var keepBuffers = [bufferSizes]int{1024, 256, 128, 64}

// buffers is a loop's pool. Connections hold a buffer only while bytes wait in it. Owned by the loop.
type buffers struct {
	free [bufferSizes][][]byte
	held int64 // bytes of the buffers that are taken and not returned, and those in pipes
	told int64 // held, as others were told last: once a turn, as an atomic store costs as much as a buffer
}

// sizeFor is the index and the capacity of the smallest pooled size with room for n; the index is bufferSizes if none has.
func sizeFor(n int) (index, size int) {
	switch {
	case n <= TinyBuffer:
		return 0, TinyBuffer
	case n <= SmallBuffer:
		return 1, SmallBuffer
	case n <= MediumBuffer:
		return 2, MediumBuffer
	case n <= LargeBuffer:
		return 3, LargeBuffer
	}
	return bufferSizes, n
}

// GetBuffer takes a buffer with room for n bytes and length 0. One of more than LargeBuffer is not pooled.
func (l *Loop) GetBuffer(n int) []byte {
	b := &l.buffers
	i, size := sizeFor(n)
	b.held += int64(size)
	if i < bufferSizes {
		if k := len(b.free[i]); k > 0 {
			p := b.free[i][k-1]
			b.free[i] = b.free[i][:k-1]
			return p
		}
	}
	return make([]byte, 0, size)
}

// PutBuffer gives a buffer of GetBuffer back, with the capacity that it had; nil is allowed.
func (l *Loop) PutBuffer(p []byte) {
	if p == nil {
		return
	}
	b := &l.buffers
	b.held -= int64(cap(p))
	if i, size := sizeFor(cap(p)); i < bufferSizes && cap(p) == size && len(b.free[i]) < keepBuffers[i] {
		b.free[i] = append(b.free[i], p[:0])
	}
}

// AppendBuffer appends p to the pooled buffer b, moving to a larger one where it must; b may be nil.
func (l *Loop) AppendBuffer(b, p []byte) []byte {
	if need := len(b) + len(p); b == nil || need > cap(b) {
		if b != nil && need > LargeBuffer {
			need = max(need, 2*cap(b)) // past the pool's sizes: grow as append does
		}
		grown := append(l.GetBuffer(need), b...)
		l.PutBuffer(b)
		b = grown
	}
	return append(b, p...)
}
