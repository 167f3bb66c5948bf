package filter

import "testing"

func TestBestCoding(t *testing.T) {
	order := []coding{zstdCoding, brotliCoding, gzipCoding}
	for _, c := range []struct {
		name string
		want coding
		says []string
	}{
		{"nothing is said", identity, nil},
		{"empty", identity, []string{""}},
		{"one", gzipCoding, []string{"gzip"}},
		{"our order among equals", zstdCoding, []string{"gzip, deflate, br, zstd"}},
		{"the client's preference", gzipCoding, []string{"gzip;q=1.0, br;q=0.9, zstd;q=0.899"}},
		{"a thousandth", brotliCoding, []string{"gzip;q=0.5,br;q=0.501"}},
		{"refused", brotliCoding, []string{"zstd;q=0, br, gzip;q=0.000"}},
		{"all refused", identity, []string{"zstd;q=0, br;q=0, gzip;q=0"}},
		{"any", zstdCoding, []string{"*"}},
		{"any but one", brotliCoding, []string{"*, zstd;q=0"}},
		{"any, wanted less", gzipCoding, []string{"*;q=0.5, gzip"}},
		{"none but one", gzipCoding, []string{"*;q=0, gzip"}},
		{"as it is, if wanted more", identity, []string{"identity, gzip;q=0.5"}},
		{"as it is, if wanted as much", gzipCoding, []string{"identity, gzip"}},
		{"as it is, wanted less", gzipCoding, []string{"identity;q=0.5, gzip;q=0.6"}},
		{"as it is, refused", identity, []string{"identity;q=0"}},
		{"only as it is", identity, []string{"identity;q=1, *;q=0"}},
		{"any, wanted more", zstdCoding, []string{"gzip;q=0.1, *;q=0.3"}},
		{"case, spaces", gzipCoding, []string{"  GZip ;\tQ=0.3 ,, foo"}},
		{"another name", gzipCoding, []string{"x-gzip"}},
		{"several fields", brotliCoding, []string{"gzip;q=0.5", "br"}},
		{"twice", gzipCoding, []string{"gzip, br;q=0, br"}},
		{"unreadable weights", identity, []string{"gzip;q=, br;q=2, zstd;q=0.0001, gzip;q=1.001, gzip;q=-1, gzip;q=0,5;q, gzip;level=1, gzip;q=.5, gzip;q"}},
		{"unreadable names", identity, []string{";q=1, g zip, gzip=1, gzipp, gzi"}},
		{"whole weights", zstdCoding, []string{"zstd;q=1., gzip;q=0."}},
	} {
		ctx := asked(t, "/", nil)
		for _, s := range c.says {
			ctx.Request.Header.Add("Accept-Encoding", s)
		}
		a := acceptedOf(&ctx.Request.Header)
		if got := a.best(order); got != c.want {
			t.Errorf("%s: %v, not %v", c.name, got, c.want)
		}
	}
}

// Any coding is also none.
func TestAnyCodingIsIdentityToo(t *testing.T) {
	ctx := asked(t, "/", nil, "Accept-Encoding: gzip;q=0.1, *;q=0.3")
	a := acceptedOf(&ctx.Request.Header)
	if got := a.best([]coding{gzipCoding}); got != identity {
		t.Error(got)
	}
}

func FuzzAcceptEncoding(f *testing.F) {
	f.Add("gzip;q=0.5, *;q=0, br ; q=1")
	f.Add(",;,q=;q=1.")
	f.Fuzz(func(t *testing.T, s string) {
		ctx := asked(t, "/", nil)
		ctx.Request.Header.Set("Accept-Encoding", s)
		for i, q := range acceptedOf(&ctx.Request.Header) {
			if q < -1 || q > 1000 {
				t.Errorf("%q: %v %d", s, coding(i), q)
			}
		}
	})
}
