package ring

import "math/bits"

// Next is the index of the first endpoint on the ring at or after hash that is not skipped, -1 if all are: where the
// key belongs if the skipped ones are full, down, or tried already. An endpoint is asked for once at most.
func (t *Table) Next(hash uint32, skip func(i int) bool) int {
	if len(t.points) == 0 {
		return -1
	}
	// Of whom was asked, a bit each, on the stack.
	if t.endpoints <= 16*bits.UintSize {
		var asked [16]uint
		return t.walk(hash, asked[:], skip)
	}
	return t.walkMany(hash, skip)
}

// walkMany has a frame of 8 KiB, which smaller rings need not clear.
//
//go:noinline
func (t *Table) walkMany(hash uint32, skip func(i int) bool) int {
	var asked [maxEndpoints / bits.UintSize]uint
	return t.walk(hash, asked[:], skip)
}

func (t *Table) walk(hash uint32, asked []uint, skip func(i int) bool) int {
	left := t.owners
	for i := t.find(hash); ; {
		owner := int(t.points[i].owner)
		word, bit := &asked[owner/bits.UintSize], uint(1)<<(owner%bits.UintSize)
		if *word&bit == 0 {
			if !skip(owner) {
				return owner
			}
			*word |= bit
			if left--; left == 0 {
				return -1
			}
		}
		if i++; i == len(t.points) {
			i = 0
		}
	}
}
