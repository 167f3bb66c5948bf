package tlslayer

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"

	"sluice/engine"
)

// crypto/tls keeps what it reads in two buffers of each connection, which never get smaller: rawInput, with room for the longest
// record that has come, and hand, for messages of handshakes. An idle connection would hold 3.5 KB after its hello, and 17 KB once
// it has heard a full record; and a fresh one asks the socket for 517 bytes at first. So a layer lends a pooled buffer of its loop
// for the time of a read, which takes several records at once, and has it back when all of it was read.
//
// These fields are not exported. They are found by name and type: where a version of Go has others, nothing is lent.
var rawInputAt, handAt = bufferAt("rawInput"), bufferAt("hand")

// bufferAt is where in a tls.Conn the buffer of that name is; -1: nowhere.
func bufferAt(name string) int {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[bytes.Buffer]() {
		return -1
	}
	return int(f.Offset)
}

// lentSize is for four full records: what a relay reads at once. It fits in a large pooled buffer with what is left over.
const lentSize = 66 << 10

func (y *layer) rawInput() *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(y.tls), rawInputAt))
}

// lend gives crypto/tls a buffer to read into, if it has none; what it has read ahead is in it. Nothing else refers to the one before:
// the plaintext that stands in it was read, or it is still lent.
func (y *layer) lend(l *engine.Loop) {
	if y.lent != nil || rawInputAt < 0 {
		return
	}
	raw := y.rawInput()
	y.lent = append(l.GetBuffer(lentSize)[:0], raw.Bytes()...)
	*raw = *bytes.NewBuffer(y.lent)
}

// takeBack is for when no plaintext is left to be read. What is there of a record that is not whole stays, in a buffer of its size.
func (y *layer) takeBack(l *engine.Loop) {
	if y.lent == nil {
		return
	}
	raw := y.rawInput()
	if rest := raw.Bytes(); len(rest) > 0 {
		*raw = *bytes.NewBuffer(bytes.Clone(rest))
	} else {
		*raw = bytes.Buffer{}
	}
	l.PutBuffer(y.lent)
	y.lent = nil
	if handAt >= 0 {
		if hand := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(y.tls), handAt)); hand.Len() == 0 {
			*hand = bytes.Buffer{}
		}
	}
}
