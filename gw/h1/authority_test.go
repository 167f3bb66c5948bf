package h1

import (
	"strings"
	"testing"
)

// host and port of each, or nothing if it is to be refused.
var authorities = map[string]string{
	"a": "a", "A.b-c_d~e": "A.b-c_d~e", "10.0.0.1:80": "10.0.0.1", "a:": "a", "a:0": "a", "a:65535": "a", "a.:80": "a.",
	"[::]": "[::]", "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:1": "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]",
	"[::1]": "[::1]", "[::1]:": "[::1]", "[::1]:8080": "[::1]", "[2001:DB8::1]": "[2001:DB8::1]", "[::ffff:1.2.3.4]:1": "[::ffff:1.2.3.4]",

	":80": "", "a:b": "", "a:-1": "", "a:65536": "", "a:000080": "", "a:99999999999999999999": "", "a:80:80": "", "::1": "",
	"a b": "", "a,b": "", "a%41": "", "a/": "", "a?": "", "u@a": "", "a\\b": "", "\xe9": "", "a!": "", "*": "",
	"[": "", "[]": "", "[]:80": "", "[:]": "", "[a]": "", "[::1": "", "[::1]a": "", "[::1]80": "", "[::1]:x": "", "[fe80::1%25eth0]": "",
	"[::g]": "", "[0:1:2:3:4:5:6:7:8:9]": "", "[1.2.3.4]": "", "::1]": "", "[v1.x:y:z]": "",
	"[::" + "0000000000000000000000000000000000000000000001" + "]": "",
}

// Host and the target's authority are held to the same form.
func TestAuthorities(t *testing.T) {
	for in, host := range authorities {
		heads := []string{headOf(get, "Host: "+in)}
		if !strings.ContainsAny(in, "/?") { // which end it
			heads = append(heads, headOf("GET http://"+in+"/ HTTP/1.1", "Host: other"))
		}
		for _, head := range heads {
			v, q := verdict([]byte(head))
			switch {
			case host == "" && v != 400:
				t.Errorf("%q: verdict %d", head, v)
			case host != "" && (v != 0 || string(q.Authority) != in || string(q.Hostname()) != host):
				t.Errorf("%q: verdict %d, authority %q, host name %q", head, v, q.Authority, q.Hostname())
			}
		}
	}
}

// The forms of RFC 9112, section 3.2: method, path, query and authority of each, or the status of its refusal.
func TestTargetForms(t *testing.T) {
	for in, want := range map[string]string{
		"GET /": "GET / a", "GET /?": "GET /? a", "GET /??x#": "400", "GET /a?b=/../%2f%zz": "GET /a?b=/../%2f%zz a",
		"get /": "get / a", "OPTIONS /x": "OPTIONS /x a", "OPTIONS *": "OPTIONS * a", "OPTIONS *x": "400", "OPTIONS x": "400", "options *": "400",
		"GET http://b": "GET / b", "GET HTTP://b:1/%7e": "GET /~ b:1", "GET https://b?x": "GET /?x b", "GET http://b//x/..": "GET / b",
		"OPTIONS http://b": "OPTIONS * b", "OPTIONS http://b/": "OPTIONS / b", "OPTIONS http://b?": "OPTIONS /? b", "GET http:///x": "400", "GET http://": "400", "GET http:/b": "400", "GET ://b": "400",
		"GET wss://b/": "400", "GET a": "400", "GET a/b": "400", "GET ?x": "400", "GET b:80": "400", "GET //b/x": "GET /b/x a",
		"CONNECT b:80": "405", "TRACE /": "405", "GET /{x}|\"^`": "GET /{x}|\"^` a", "GET /a\\b": "400", "GET /\x7f": "400", "GET ": "400",
		"GET": "400", " GET /": "400", "GET: /": "400",
	} {
		v, q := verdict([]byte(headOf(in+" HTTP/1.1", "Host: a")))
		got := ""
		switch v {
		case 0:
			got = string(q.Method) + " " + string(q.Path) + string(q.Query) + " " + string(q.Authority)
		default:
			got = map[int]string{400: "400", 405: "405"}[v]
		}
		if got != want {
			t.Errorf("%q: %q (%d), not %q", in, got, v, want)
		}
	}
}

// What is no version is malformed; what is another one is not supported. A later minor one is read as 1.1.
func TestVersions(t *testing.T) {
	for in, want := range map[string]int{
		"HTTP/1.0": 0, "HTTP/1.1": 0, "HTTP/1.2": 0, "HTTP/1.9": 0, "HTTP/0.9": 505, "HTTP/2.0": 505, "HTTP/9.9": 505, "HTTP/x.1": 400,
		"HTTP/1.x": 400, "HTTP/1,1": 400, "HTTP/1": 400, "HTTP/1.": 400, "HTTP/1.1x": 400, "HTTP/11.1": 400, "HTTP /1.1": 400, "Http/1.1": 400,
		"HTTPS/1.1": 400, "": 400,
	} {
		v, q := verdict([]byte(headOf("GET / "+in, "Host: a")))
		minor := 1
		if in == "HTTP/1.0" {
			minor = 0
		}
		if v != want || v == 0 && q.Minor != minor {
			t.Errorf("%q: verdict %d, minor version %d", in, v, q.Minor)
		}
	}
}
