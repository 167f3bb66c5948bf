package h1

// Response is the head of a response. Its slices point into the bytes that were scanned.
type Response struct {
	head
	// Status is the three-digit code.
	Status int
	// Reason is the reason phrase; it may be empty.
	Reason []byte
	// Offered is the protocols that this request has offered the upstream, as Request.Upgrade has them; nil: none, and a
	// 101 (Switching Protocols) is an error. It holds for one call of Scan, so that no exchange inherits another's.
	Offered []byte
	// Upgrade is what a 101 switches to: one of those offered, compared in any case; nil for every other status.
	Upgrade []byte
}

// responseLimits bound what an upstream may send as a head.
var responseLimits = Limits{Line: 8 << 10, Head: 64 << 10, Fields: 256}

// Scan reads a response's head from the front of b, as Request.Scan does.
func (p *Response) Scan(b []byte, r *Resume) (int, error) {
	offered := p.Offered
	p.Offered, p.Upgrade = nil, nil
	n, err := p.lines(b, r, &responseLimits, errResponseHead, p.statusLine)
	switch {
	case r.empty > 0: // which only a request may have before it
		return 0, errStatusLine
	case err == ErrPartial:
		return 0, err
	case err != nil:
		return 0, &Error{502, err.Error()}
	}
	if err := p.framing(); err != nil {
		return 0, &Error{502, err.Reason}
	}
	if p.Chunked && p.Minor == 0 {
		return 0, &Error{502, errTE10.Reason}
	}
	if p.Status == 101 {
		if offered == nil {
			return 0, errSwitched
		}
		if !p.switches(offered) {
			return 0, errSwitch
		}
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

// switches checks a 101 (RFC 9110, section 15.2.2): after it the connection is another protocol's, so it must leave no
// doubt that it is meant.
func (p *Response) switches(offered []byte) bool {
	if !p.connUpgrade || p.Minor == 0 || p.Chunked || p.Length > 0 {
		return false
	}
	for i := range p.Fields {
		f := &p.Fields[i]
		if f.Kind != Upgrade {
			continue
		}
		if p.Upgrade != nil || !Offers(offered, p.Value(f)) {
			p.Upgrade = nil
			return false
		}
		p.Upgrade = p.Value(f)
	}
	return p.Upgrade != nil
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
