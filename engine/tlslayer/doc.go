// Package tlslayer puts TLS between an engine.Conn and its socket, by crypto/tls.
//
//	accept ──► Handshaker.Server ──► goroutine: tls.Conn.HandshakeContext ──► Owner.Secured ──► Conn.Read … Conn.Write
//	Connected ► Handshaker.Client ─┘
//
// A [Handshaker] is shared by all loops and bounds what handshakes take. The loop reads the socket. A client's first bytes
// are judged where they are, and nothing is begun before its ClientHello is whole: whoever speaks plain HTTP, or nothing
// at all, costs no goroutine. crypto/tls then runs on a goroutine, over an in-memory connection that takes whole records
// in. It holds one of Config.Running places while it computes, and none while it waits for its peer. So slow clients keep
// nobody waiting; they are bounded in number and in time.
//
// Afterwards a tls.Conn works on the loop: its Read answers a temporary error when the socket has nothing, from which
// crypto/tls goes on cleanly, and its Write is never refused, so that no record is cut in half: what the socket does not
// take waits in a pooled buffer, one batch of records at most. Nothing more is encrypted while it does. [engine.Conn]
// writes it when it can, and has FIN and Close wait for it.
//
// # What its user sees
//
// Conn.Read and Conn.Write mean what they mean on a plain connection. In particular:
//
//   - A read that is short leaves nothing decrypted behind; after one that is not, the connection is Readable, and Ready
//     comes.
//   - io.EOF is the peer's close_notify, which is as good as FIN. A FIN without it is io.ErrUnexpectedEOF (RFC 8446, section
//     6.1): somebody on the way may have cut the end off. A relay resets the other side then. HTTP may be lenient
//     where its own framing has told the end, as many clients close like that.
//   - CloseWrite and Close send close_notify, then FIN; the other direction reads on after CloseWrite. Reset sends RST alone.
//   - After another error of Read or Write the connection is Broken; the peer has been sent an alert, as far as it may be.
//     A client's certificate that an endpoint refuses shows there too: in TLS 1.3, the client is done before.
//   - Peek, RawRead and Through are below the layer: ciphertext. Await is above.
//   - Renegotiation is refused, KeyUpdate answered; a peer that does not take the answers is not read.
//
// Versions, certificates, session tickets and ALPN are in the tls.Config. DynamicRecordSizingDisabled is best left off:
// the first 128 KiB of a connection go out in records that begin at one segment and grow, which is what the first response
// needs; after a pause crypto/tls does not begin anew.
//
// An idle connection holds some 4 KB (BenchmarkIdle): what crypto/tls reads into is lent to it for the time of a read, see borrow.go.
package tlslayer
