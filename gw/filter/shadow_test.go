package filter

import "testing"

// Whoever runs filters looks for what those in shadow mode would have refused only if one of them says that it is.
func TestShadowersSaySo(t *testing.T) {
	for _, f := range []Filter{&rateLimit{shadow: true}, &quota{shadow: true}, &concurrency{shadow: true}} {
		if s, ok := f.(Shadower); !ok || !s.Shadows() {
			t.Errorf("%T", f)
		}
	}
}
