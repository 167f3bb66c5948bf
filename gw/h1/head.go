package h1

import "bytes"

// Limits bound a head. What they are exceeded by decides the status: 414 for the first line, 431 for the rest.
type Limits struct {
	Line   int // of the request line, bytes
	Head   int // of the whole head, bytes
	Fields int // number of header fields

	// Slashes is what repeated slashes in a path are taken for; empty: Merge.
	Slashes Slashes
	// Connect lets CONNECT pass; without it, it is refused with 405.
	Connect bool
}

// DefaultLimits are those of the usual servers, nginx and Apache: an 8 KiB request line, 32 KiB in all, 100 fields.
var DefaultLimits = Limits{Line: 8 << 10, Head: 32 << 10, Fields: 100}

// Resume is where the scan of a partial head goes on. The zero value starts one.
type Resume struct {
	line   uint32 // start of the first line that was not whole
	seen   uint32 // bytes that were looked through for its end
	fields uint16
	empty  uint8 // empty lines before the first
	first  bool  // the first line has been checked
}

// Begun says that some of a first line has come.
func (r *Resume) Begun() bool { return r.first || r.seen > r.line }

// head is what requests and responses have in common.
type head struct {
	// Raw is the head, from the first line to the empty one.
	Raw []byte
	// Fields are its lines, in order.
	Fields []Field
	// Length is the body's length when Content-Length says it, -1 otherwise.
	Length int64
	// Chunked says that the body is chunked.
	Chunked bool
	// Minor is the version's second digit: 0, or 1 for anything later too.
	Minor int

	connClose   bool
	connKeep    bool
	connUpgrade bool
	options     int // of Connection
}

// Name is a field's name.
func (h *head) Name(f *Field) []byte { return h.Raw[f.Start:f.NameEnd] }

// Value is a field's value without white space around it.
func (h *head) Value(f *Field) []byte { return h.Raw[f.Value:f.ValueEnd] }

// Get is the value of the first field with a name given in lower case; nil if there is none.
func (h *head) Get(lower string) []byte {
	for i := range h.Fields {
		if f := &h.Fields[i]; EqualFold(h.Name(f), lower) {
			return h.Value(f)
		}
	}
	return nil
}

// KeepAlive says whether the sender wants to keep the connection (RFC 9112, section 9.3).
func (h *head) KeepAlive() bool {
	if h.Minor == 0 {
		return h.connKeep && !h.connClose
	}
	return !h.connClose
}

// lines runs over the lines of b: first checks the first, the others are fields. It returns the head's length, or
// ErrPartial, and then keeps in r how far it came. The verdict is the same however b grew: lines are judged in order,
// and one that is not whole only by its first byte and by its length.
func (h *head) lines(b []byte, r *Resume, lim *Limits, large *Error, first func(line []byte) *Error) (int, error) {
	pieces := r.line > 0
	h.Fields = h.Fields[:0]
	for {
		at, from := int(r.line), max(int(r.line), int(r.seen))
		if !r.first && at < len(b) && class[b[at]]&tchar == 0 && b[at] != '\r' && b[at] != '\n' {
			return 0, errMethod // TLS, or a binary protocol: say so at once
		}
		lf := bytes.IndexByte(b[from:], '\n')
		end := from + lf // of the line and its CR
		if lf < 0 {
			end = len(b)
		}
		switch {
		case !r.first && end-at > lim.Line+1:
			return 0, errLineLong
		case end >= lim.Head:
			return 0, large
		case lf < 0:
			r.seen = uint32(end)
			return 0, ErrPartial
		case end == at || b[end-1] != '\r':
			return 0, errBareLF
		}
		line := b[at : end-1]
		r.line = uint32(end + 1)
		switch {
		case len(line) == 0 && r.first:
			if pieces {
				// The lines that came before are sound; they are read once more for what they say.
				*r = Resume{}
				return h.lines(b, r, lim, large, first)
			}
			h.Raw = b[:end+1]
			return end + 1, nil
		case len(line) == 0:
			// Clients of old sent a CRLF after a request (RFC 9112, section 2.2).
			if r.empty++; r.empty > 4 {
				return 0, errEmptyLines
			}
		case !r.first:
			if err := first(line); err != nil {
				return 0, err
			}
			r.first = true
		default:
			if r.fields++; int(r.fields) > lim.Fields {
				return 0, errManyFields
			}
			f, err := scanField(b, at, end-1)
			if err != nil {
				return 0, err
			}
			h.Fields = append(h.Fields, f)
		}
	}
}

// framing collects what the fields say of the message's framing. It is called on a whole head.
func (h *head) framing() *Error {
	h.Length, h.Chunked = -1, false
	h.connClose, h.connKeep, h.connUpgrade, h.options = false, false, false, 0
	coded := false
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.Kind {
		case ContentLength:
			if h.Length >= 0 {
				return errLengthTwice
			}
			n, ok := parseLength(h.Value(f))
			if !ok {
				return errLength
			}
			h.Length = n
		case TransferEncoding:
			// Chunked, once, is the one coding that every recipient frames in the same way.
			if coded {
				return errTE
			}
			coded = true
			if v := h.Value(f); !EqualFold(v, "chunked") {
				if len(v) == 0 || !all(v, tchar) || EqualFold(v, "identity") {
					return errTE
				}
				return errTEUnknown
			}
			h.Chunked = true
		case Connection:
			if !eachOption(h.Value(f), h.option) || h.options > maxOptions {
				return errConnection
			}
		}
	}
	if h.Chunked && h.Length >= 0 {
		return errLengthAndTE
	}
	return nil
}

// maxOptions bounds what Connection may list, because each option is compared with each field. Clients list one or two.
const maxOptions = 64

// option notes one option of Connection, and takes the fields that it names out of what is forwarded.
func (h *head) option(token []byte) {
	if h.options++; h.options > maxOptions {
		return
	}
	switch {
	case EqualFold(token, "close"):
		h.connClose = true
	case EqualFold(token, "keep-alive"):
		h.connKeep = true
	case EqualFold(token, "upgrade"):
		h.connUpgrade = true
	}
	for i := range h.Fields {
		f := &h.Fields[i]
		// Nobody uses Connection to strip what others rely on: who asks, for whom, by when, and what the body is.
		if f.Kind == Other && equalFold(token, h.Name(f)) {
			f.Kind = HopByHop
		}
	}
}
