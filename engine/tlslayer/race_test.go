//go:build race

package tlslayer

// raced says that the race detector is on: it has crypto/tls' pool of buffers forget some of them.
const raced = true
