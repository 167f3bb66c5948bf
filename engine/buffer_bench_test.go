package engine

import (
	"testing"
	"time"
)

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

func BenchmarkMoment(b *testing.B) {
	l := &Loop{}
	for range b.N {
		moment = l.Moment()
	}
}

var moment time.Duration

func BenchmarkClock(b *testing.B) {
	l := &Loop{}
	for range b.N {
		_ = l.Clock()
	}
}
