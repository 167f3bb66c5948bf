package bench

import (
	"bytes"
	"fmt"
)

// reader tells answers apart in what a connection says.
type reader struct {
	tally *tally
	ping  bool // answers are pongs
	left  int  // of the present answer's body
	size  int  // of the answer so far, in bytes
	last  bool // the target closes after this answer
}

// read takes what it can of b: how many bytes, and whether an answer is whole with them.
func (s *reader) read(b []byte) (n int, whole bool, err error) {
	switch {
	case s.ping:
		n = min(len(b), pingSize-s.size)
		s.size += n
		return n, s.size == pingSize, nil
	case s.left > 0:
		n = min(len(b), s.left)
		s.left -= n
		s.size += n
		return n, s.left == 0, nil
	}
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		if len(b) > 64<<10 {
			err = fmt.Errorf("a response head without an end")
		}
		return 0, false, err
	}
	head := b[:i+2]
	length, err := s.tally.head(head)
	if err != nil {
		return 0, false, err
	}
	s.last = closes(head)
	s.left = length
	s.size = i + 4
	return i + 4, length == 0, nil
}

// head reads a response's head, which ends with CRLF: it counts a status that is none of success, and returns the
// length of the body.
func (t *tally) head(head []byte) (int, error) {
	if len(head) < 14 || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return 0, fmt.Errorf("no HTTP response: %.40q", head)
	}
	if head[9] != '2' {
		t.failed("status " + string(head[9:12]))
	}
	n := contentLength(head)
	if n < 0 {
		return 0, fmt.Errorf("a response without Content-Length, which the generator cannot read: %.200q", head)
	}
	return n, nil
}

func closes(head []byte) bool {
	return bytes.Contains(head, []byte("\r\nConnection: close")) || bytes.Contains(head, []byte("\r\nconnection: close"))
}
