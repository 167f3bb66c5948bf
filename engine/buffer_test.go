package engine

import (
	"bytes"
	"testing"
)

// What came a byte at a time is held whole, in less than ten times as much, or in the smallest buffer.
func TestBufferFitsWhatIsInIt(t *testing.T) {
	l := &Loop{}
	var b, want []byte
	moves := 0
	for i := range 3 * LargeBuffer {
		was := cap(b)
		b, want = l.AppendBuffer(b, []byte{byte(i * 31)}), append(want, byte(i*31))
		if cap(b) != was {
			moves++
		}
		if c := cap(b); c > max(TinyBuffer, 10*len(b)) || l.held != int64(c) {
			t.Fatalf("%d bytes in a buffer of %d; %d are held", len(b), c, l.held)
		}
	}
	if !bytes.Equal(b, want) || moves > 6 {
		t.Errorf("not what was appended, or moved too often: %d times", moves)
	}
	if l.PutBuffer(b); l.held != 0 {
		t.Errorf("%d bytes held when all is back", l.held)
	}
	for _, n := range []int{0, 1, 512, 513, 4096, 4097, 16384, 16385, LargeBuffer, LargeBuffer + 1} {
		b := l.GetBuffer(n)
		if len(b) != 0 || cap(b) < n || cap(b) > max(TinyBuffer, 8*n) {
			t.Errorf("for %d: %d of %d", n, len(b), cap(b))
		}
		l.PutBuffer(b)
	}
}

// A burst leaves no more than the pool's bounds behind, and what is not of the pool's sizes stays out of it.
func TestBufferPoolIsBounded(t *testing.T) {
	l := &Loop{}
	l.PutBuffer(l.GetBuffer(100)[:0:100])
	if b := l.GetBuffer(200); cap(b) != TinyBuffer {
		t.Errorf("a stranger of %d bytes came out of the pool", cap(b))
	}
	l.held = 0
	var taken [][]byte
	for _, size := range []int{TinyBuffer, SmallBuffer, MediumBuffer, LargeBuffer, LargeBuffer + 1} {
		for range 1100 {
			taken = append(taken, l.GetBuffer(size))
		}
	}
	for _, b := range taken {
		l.PutBuffer(b)
	}
	free := 0
	for i, list := range l.buffers.free {
		if len(list) != keepBuffers[i] {
			t.Errorf("size %d: %d free buffers, want %d", i, len(list), keepBuffers[i])
		}
		for _, b := range list {
			free += cap(b)
		}
	}
	if free != 8<<20 || l.held != 0 {
		t.Errorf("%d bytes free, %d held; want 8 MiB and none", free, l.held)
	}
}

func TestBuffersAllocateNothing(t *testing.T) {
	l := &Loop{}
	piece := make([]byte, 100)
	n := testing.AllocsPerRun(100, func() {
		var b []byte
		for range 700 {
			b = l.AppendBuffer(b, piece)
		}
		l.PutBuffer(b)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBuffer(b *testing.B) {
	l := &Loop{}
	for _, c := range []struct {
		name string
		size int
	}{{"100B", 100}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				l.PutBuffer(l.GetBuffer(c.size))
			}
		})
	}
}

// A head of 6 KiB in 100 pieces.
func BenchmarkAppendBuffer(b *testing.B) {
	l := &Loop{}
	piece := make([]byte, 60)
	for range b.N {
		var p []byte
		for range 100 {
			p = l.AppendBuffer(p, piece)
		}
		l.PutBuffer(p)
	}
}
