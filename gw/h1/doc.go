// Package h1 is the wire format of HTTP/1.1 (RFC 9112): strict scanners for heads, resumable body framing, the
// canonical path, and serialisers. It does no input or output and keeps nothing but what its caller gives it.
//
// Framing decides security: two parties that disagree about where a message ends can be made to disagree about whose
// the next one is. So a message that could be read in two ways is refused, and what passes is forwarded in one
// canonical form. The verdict on a message does not depend on how the network cuts it: every check is made on a
// whole line, on a whole head, or on a count of bytes, never on what one read happened to bring.
package h1
