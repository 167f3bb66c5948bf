package tlslayer

import (
	"testing"

	"sluice/engine"
)

// A connection that waits holds no buffer of crypto/tls, also after full records, and what comes in pieces is whole all the same. If
// this fails with a new version of Go, its tls.Conn has other fields: see bufferAt.
func TestIdleConnectionsHoldNoBuffer(t *testing.T) {
	if rawInputAt < 0 || handAt < 0 {
		t.Fatal("crypto/tls has other buffers than those that are looked for")
	}
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	p.secured.Store(new(func(c *engine.Conn) { c.SetHandler(&echoConn{}) }))
	c := dialTLS(t, p.Bound(), clientConfig())
	for _, n := range []int{1, 100, 16 << 10, 100_000, 3} {
		exchange(t, c, string(noise(n)))
		y := p.layer.Load()
		on(y.conn, func() {
			if raw := y.rawInput(); raw.Cap() > 0 || y.lent != nil {
				t.Errorf("after %d bytes: %d are held", n, raw.Cap())
			}
		})
	}
}
