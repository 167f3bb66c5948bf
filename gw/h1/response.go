package h1

// Response is the head of a response. Its slices point into the bytes that were scanned.
type Response struct {
	head
	// Status is the three-digit code.
	Status int
	// Reason is the reason phrase; it may be empty.
	Reason []byte
	// Offered is the protocol that the request offered to change to, to be set before Scan; empty: none. A 101 that the
	// request did not ask for is an error.
	Offered string
}

// responseLimits bound what an upstream may send as a head.
var responseLimits = Limits{Line: 8 << 10, Head: 64 << 10, Fields: 256}

// Scan reads a response's head from the front of b, as Request.Scan does.
func (p *Response) Scan(b []byte, r *Resume) (int, error) {
	n, err := p.lines(b, r, &responseLimits, errResponseHead, p.statusLine)
	if err == ErrPartial {
		if r.empty > 0 {
			return 0, errStatusLine
		}
		return 0, err
	}
	if err != nil {
		return 0, &Error{502, err.Error()}
	}
	if p.Raw[0] == '\r' {
		return 0, errStatusLine
	}
	if err := p.framing(); err != nil {
		return 0, &Error{502, err.Reason}
	}
	if p.Chunked && p.Minor == 0 {
		return 0, &Error{502, errTE10.Reason}
	}
	if p.Status == 101 && (p.Offered == "" || p.Chunked || p.Length > 0 || !EqualFold(p.upgrade(), p.Offered)) {
		return 0, errSwitched
	}
	*r = Resume{}
	return n, nil
}

// statusLine is RFC 9112, section 4; the space before an absent reason may be absent too.
func (p *Response) statusLine(line []byte) *Error {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || !digit(line[7]) || line[8] != ' ' ||
		!digit(line[9]) || !digit(line[10]) || !digit(line[11]) {
		return errStatusLine
	}
	p.Minor = min(int(line[7]-'0'), 1)
	p.Status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	if p.Status < 100 || p.Status > 599 {
		return errStatusLine
	}
	p.Reason = nil
	if len(line) > 12 {
		if line[12] != ' ' || !all(line[13:], vchar) {
			return errStatusLine
		}
		p.Reason = line[13:]
	}
	return nil
}

// Dated says that the response has a Date.
func (p *Response) Dated() bool {
	for i := range p.Fields {
		if p.Fields[i].Kind == Date {
			return true
		}
	}
	return false
}

// Bodiless says that the response has no body whatever its fields say (RFC 9112, section 6.3).
func (p *Response) Bodiless(toHEAD bool) bool {
	return toHEAD || p.Status < 200 || p.Status == 204 || p.Status == 304
}
