package health

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// banner is an endpoint that speaks first, in pieces, and closes.
func banner(t testing.TB, pieces ...string) string {
	return serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		for _, p := range pieces {
			if _, err := io.WriteString(c, p); err != nil {
				return
			}
			<-time.After(time.Millisecond) // a packet each, mostly; nothing depends on it
		}
	}).Addr().String()
}

func TestBanner(t *testing.T) {
	f := func(receive, want string, pieces ...string) {
		t.Helper()
		got := said(check(t, asking(&Expect{Receive: receive}), banner(t, pieces...)))
		if got != want {
			t.Errorf("%.80q in %.80q: %s, want %s", receive, pieces, got, want)
		}
	}
	f("SSH-2.0", "up", "SSH-2.0-OpenSSH_9.2\r\n")
	f("OpenSSH", "up", "SSH-2.0-OpenSSH_9.2\r\n") // anywhere
	f(`220 `, "up", "2", "2", "0", " ready\r\n")
	f(`b\r\n220 `, "up", "220-a", "\r\n220-b\r", "\n22", "0 c\r\n")
	f(`\x00\x01\\`, "up", "a\x00", "\x01\\")
	f("aab", "up", "a", "a", "a", "b")
	f("SSH-2.0", `received "220 smtp.test\r\n"`, "220 smtp.test\r\n")
	f("SSH-2.0", `received ""`)
	f("SSH-2.0", `received "SSH-2."`, "SSH-2.")
	f("SSH-2.0", `received "\x00\xff"`, "\x00\xff")
	f("SSH-2.0", `received "`+strings.Repeat("x", 60)+`"…`, strings.Repeat("x", 61))
	// 64 KiB are looked at, and no more.
	const size = 64 << 10
	f("end", "up", strings.Repeat("x", size-3)+"end")
	f("end", `received "`+strings.Repeat("x", 60)+`"…`, strings.Repeat("x", size-2)+"end")
	f(strings.Repeat("x", size), "up", strings.Repeat("x", size))
}

func TestSendAndExpect(t *testing.T) {
	f := func(send, receive, heard, answer, want string) {
		t.Helper()
		got := make(chan string, 1)
		address := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			b := make([]byte, len(heard))
			_, _ = io.ReadFull(c, b)
			got <- string(b)
			_, _ = io.WriteString(c, answer)
		}).Addr().String()
		if s := said(check(t, asking(&Expect{Send: send, Receive: receive}), address)); s != want {
			t.Errorf("%q: %s, want %s", send, s, want)
		}
		if b := <-got; b != heard {
			t.Errorf("%q: sent %q, want %q", send, b, heard)
		}
	}
	f(`PING\r\n`, `+PONG\r\n`, "PING\r\n", "+PONG\r\n", "up")
	f("PING\r\n", "+PONG\r\n", "PING\r\n", "+PONG\r\n", "up") // as YAML's double quotes leave it
	f(`PING\r\n`, `+PONG\r\n`, "PING\r\n", "-LOADING\r\n", `received "-LOADING\r\n"`)
	f(`PING\r\n`, `+PONG\r\n`, "PING\r\n", "", `received ""`)
	f(`\x00\xff\t\\é`, `\x80`, "\x00\xff\t\\é", "\x80", "up")
	f(`\x00\xff\t\\é`, `\x80`, "\x00\xff\t\\é", "\u0080"[:1], `received "\xc2"`)
}

// Who talks on without saying it is not listened to for ever, and whose connection breaks has its words in the reason.
func TestExpectEndsEarly(t *testing.T) {
	endless := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		for _, err := c.Write(make([]byte, 1000)); err == nil; _, err = c.Write(make([]byte, 1000)) {
		}
	}).Addr().String()
	want := fmt.Sprintf("received %q…", make([]byte, 60))
	if s := said(check(t, asking(&Expect{Receive: "end"}), endless)); s != want {
		t.Errorf("endless: %s, want %s", s, want)
	}
	f := func(says, want string) {
		t.Helper()
		resets := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.WriteString(c, says)
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
		}).Addr().String()
		if s := said(check(t, asking(&Expect{Send: "?", Receive: "end"}), resets)); s != want {
			t.Errorf("resets after %q: %s, want %s", says, s, want)
		}
	}
	f("", "received nothing: read: connection reset by peer")
	f("-ERR", `received "-ERR": read: connection reset by peer`)
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{`PING\r\n`, `\x00\xff`, `\\`, `\`, `\x`, `\q`, `\u00e9`, `\101`, `"'`, `\"`, `\'`, "\xff", `\xe9é`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := unescape(s)
		if !strings.Contains(s, `\`) && (err != nil || string(out) != s) {
			t.Fatalf("%q has no escape: %q, %v", s, out, err)
		}
		// Any bytes can be written.
		var hex strings.Builder
		for _, b := range []byte(s) {
			fmt.Fprintf(&hex, `\x%02x`, b)
		}
		if out, err := unescape(hex.String()); err != nil || !bytes.Equal(out, []byte(s)) {
			t.Fatalf("%s: %q, %v", hex.String(), out, err)
		}
	})
}
