package engine

// Sizes of the pooled buffers. Small holds nearly every HTTP head; Large is what one read of the loop can leave behind,
// with a head or framing before it.
const (
	SmallBuffer = 4 << 10
	LargeBuffer = readScratch + 8<<10
)

// keepBuffers bounds how many free buffers of each size a loop keeps: 4.5 MiB of large ones.
const keepBuffers = 64

// buffers is a loop's pool. Connections hold a buffer only while bytes wait in it. Owned by the loop.
type buffers struct {
	small, large [][]byte
	held         int // taken and not returned; a test's witness
}

// GetBuffer takes a buffer with room for n bytes and length 0. One of more than LargeBuffer is not pooled.
func (l *Loop) GetBuffer(n int) []byte {
	b := &l.buffers
	b.held++
	switch {
	case n <= SmallBuffer:
		if k := len(b.small); k > 0 {
			p := b.small[k-1]
			b.small = b.small[:k-1]
			return p
		}
		return make([]byte, 0, SmallBuffer)
	case n <= LargeBuffer:
		if k := len(b.large); k > 0 {
			p := b.large[k-1]
			b.large = b.large[:k-1]
			return p
		}
		return make([]byte, 0, LargeBuffer)
	}
	return make([]byte, 0, n)
}

// PutBuffer gives a buffer of GetBuffer back; nil is allowed.
func (l *Loop) PutBuffer(p []byte) {
	if p == nil {
		return
	}
	b := &l.buffers
	b.held--
	switch cap(p) {
	case SmallBuffer:
		if len(b.small) < keepBuffers*4 {
			b.small = append(b.small, p[:0])
		}
	case LargeBuffer:
		if len(b.large) < keepBuffers {
			b.large = append(b.large, p[:0])
		}
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
