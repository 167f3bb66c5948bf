package h1

import "testing"

// The names that browsers, API clients and proxies send, in the measure in which they come.
func BenchmarkKindOf(b *testing.B) {
	var names [][]byte
	for _, s := range []string{"Host", "User-Agent", "Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Authorization",
		"Content-Type", "Content-Length", "Connection", "X-Request-Id", "X-Forwarded-For", "X-Api-Key", "Referer", "Origin",
		"Sec-Fetch-Mode", "Sec-Ch-Ua-Platform", "If-None-Match", "Cache-Control", "Traceparent"} {
		names = append(names, []byte(s))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, n := range names {
			_ = KindOf(n)
		}
	}
}

// A request of a usual size, and what is forwarded of it.
func BenchmarkScan(b *testing.B) {
	in := []byte(headOf("GET /order/17?full=1 HTTP/1.1", "Host: api.test", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Accept: */*",
		"Accept-Encoding: gzip, br", "Cookie: session=0123456789abcdef", "Authorization: Bearer abc", "X-Api-Key: k", "Connection: keep-alive"))
	q, r, out := &Request{}, &Resume{}, make([]byte, 0, 4096)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := q.Scan(in, r, &DefaultLimits); err != nil {
			b.Fatal(err)
		}
		out = q.AppendFields(out[:0], RequestDrop)
	}
}
