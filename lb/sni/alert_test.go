package sni

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
)

func TestClientsUnderstandTheAlert(t *testing.T) {
	f := func(a Alert, version uint16, want string) {
		t.Helper()
		near, far := net.Pipe()
		answered := make(chan error, 1)
		go func() {
			var h Hello
			b := make([]byte, MaxSize)
			n, err := far.Read(b) // a pipe hands over what was written at once
			if err == nil {
				err = Scan(b[:n], &h)
			}
			if err == nil {
				_, err = far.Write(a.Append(nil))
			}
			answered <- err
			_, _ = io.Copy(io.Discard, far)
		}()
		cfg := &tls.Config{ServerName: "api.test", MinVersion: version, MaxVersion: version}
		if err := tls.Client(near, cfg).Handshake(); err == nil || err.Error() != want {
			t.Errorf("%d, %s: %v", a, tls.VersionName(version), err)
		}
		must(t, <-answered)
		must(t, near.Close())
	}
	for v := uint16(tls.VersionTLS10); v <= tls.VersionTLS13; v++ {
		f(UnrecognizedName, v, "remote error: tls: unrecognized name")
		f(DecodeError, v, "remote error: tls: error decoding message")
	}
}
