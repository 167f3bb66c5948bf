package filter

import (
	"io"
	"testing"
)

// Whoever runs filters closes those that are io.Closers: a Close of another form would never be called.
func TestClosersAreClosers(t *testing.T) {
	for _, f := range []Filter{&jwtFilter{}, &apiKeyFilter{}, &basicFilter{}, &hmacFilter{}, &ipFilter{}, &rateLimit{}, &quota{}} {
		if _, ok := f.(io.Closer); !ok {
			t.Errorf("%T", f)
		}
	}
}
