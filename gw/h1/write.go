package h1

// Drop is a set of kinds of fields that are not forwarded, as bits 1<<Kind.
type Drop uint32

// What is dropped: what concerns one connection only, and from requests also what a client claims about itself. Trailer
// may be taken out of the set where trailers are passed on.
const (
	ResponseDrop Drop = 1<<HopByHop | 1<<Connection | 1<<TransferEncoding | 1<<TE | 1<<Trailer | 1<<Upgrade
	RequestDrop       = ResponseDrop | 1<<Forwarding | 1<<ForwardedFor | 1<<ForwardedProto | 1<<ForwardedHost | 1<<Forwarded |
		1<<Underscore
)

// Has says whether fields of kind k are dropped.
func (d Drop) Has(k Kind) bool { return d&(1<<k) != 0 }

// AppendFields appends the field lines that are not dropped, as they came and in their order.
func (h *head) AppendFields(dst []byte, drop Drop) []byte {
	// Lines that stand together are copied together.
	for i := 0; i < len(h.Fields); {
		if drop.Has(h.Fields[i].Kind) {
			i++
			continue
		}
		from := h.Fields[i].Start
		for i++; i < len(h.Fields) && !drop.Has(h.Fields[i].Kind); i++ {
		}
		dst = append(dst, h.Raw[from:h.Fields[i-1].Next]...)
	}
	return dst
}

// AppendField appends one line.
func AppendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}
