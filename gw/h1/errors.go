package h1

import "errors"

// ErrPartial says that the head is not whole yet: a state, not a failure.
var ErrPartial = errors.New("partial message")

// Error is why a message was refused. Status is what a client is to be told of a refused request; for a response it
// is 502.
type Error struct {
	Status int
	Reason string
}

func (e *Error) Error() string { return e.Reason }

func bad(reason string) *Error { return &Error{400, reason} }

// The verdicts. Their names say which rule was broken.
var (
	errEmptyLines    = bad("too many empty lines before the request")
	errBareLF        = bad("line ends with LF alone")
	errBareCR        = bad("CR within a line")
	errRequestLine   = bad("malformed request line")
	errMethod        = bad("method is not a token")
	errTarget        = bad("request target has a character that none may have")
	errTargetForm    = bad("request target is neither a path nor an http URI")
	errPercent       = bad("malformed percent-encoding in the path")
	errPathByte      = bad("path encodes a control character, slash, backslash or malformed UTF-8")
	errPathRoot      = bad("path leads above the root")
	errPathSlashes   = bad("repeated slash in the path")
	errPathDots      = bad("dot segment with parameters in the path")
	errVersion       = bad("malformed HTTP version")
	errVersionOther  = &Error{505, "HTTP version is not 1.0 or 1.1"}
	errMethodRefused = &Error{405, "method not supported"}
	errLineLong      = &Error{414, "request line too long"}
	errHeadLarge     = &Error{431, "request head too large"}
	errManyFields    = &Error{431, "too many header fields"}
	errFieldFold     = bad("folded header line")
	errFieldName     = bad("header name is not a token")
	errFieldValue    = bad("control character in a header value")
	errHostMissing   = bad("no Host")
	errHostTwice     = bad("more than one Host")
	errHostBad       = bad("malformed Host")
	errLength        = bad("malformed Content-Length")
	errLengthTwice   = bad("more than one Content-Length")
	errLengthAndTE   = bad("Content-Length and Transfer-Encoding")
	errTE            = bad("malformed Transfer-Encoding")
	errTEUnknown     = &Error{501, "transfer coding not supported"}
	errTE10          = bad("Transfer-Encoding in HTTP/1.0")
	errConnection    = bad("malformed Connection")
	errTunnel        = bad("target of CONNECT is not a host and a port")
	errTunnelBody    = bad("CONNECT with a body")
	errExpect        = &Error{417, "expectation not supported"}
	errChunk         = bad("malformed chunk")
	errChunkLarge    = bad("chunk size or extension too large")
	errTrailer       = bad("malformed trailer")

	errStatusLine   = &Error{502, "malformed status line"}
	errResponseHead = &Error{502, "response head too large"}
	errSwitch       = &Error{502, "malformed switch of protocols, or to one that was not offered"}
	errSwitched     = &Error{502, "upstream switched protocols without being asked"}
)
