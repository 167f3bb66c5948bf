package filter

import (
	"net"
	"testing"

	"sluice/lb/access"
)

func TestAddressesThatAreLetIn(t *testing.T) {
	file := written(t, "deny", "10.9.0.0/16\n")
	f := made(t, Config{IP: &IP{access.Config{Allow: []string{"10.0.0.0/8", "2001:db8::/32"}, DenyFile: file}}})
	from := func(addr string) string {
		ctx := asked(t, "/", nil)
		ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP(addr), Port: 1})
		return outcome(t, f, ctx)
	}
	for addr, want := range map[string]string{"10.1.2.3": "", "::ffff:10.1.2.3": "", "2001:db8::1": "", "10.9.1.1": "403 address", "11.0.0.1": "403 address", "::1": "403 address"} {
		if got := from(addr); got != want {
			t.Errorf("%s: %q, not %q", addr, got, want)
		}
	}
	unix := asked(t, "/", nil)
	unix.SetRemoteAddr(&net.UnixAddr{Name: "@"})
	if got := outcome(t, f, unix); got != "403 address" {
		t.Errorf("no address: %q", got)
	}
	rewritten(t, file, "10.8.0.0/16\n")
	eventually(t, "the new list is there", func() bool { return from("10.8.1.1") == "403 address" && from("10.9.1.1") == "" })

	ctx := asked(t, "/", nil)
	ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP("10.1.2.3")})
	if n := testing.AllocsPerRun(100, func() { f.Request(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestIPIsValidated(t *testing.T) {
	for want, c := range map[string]access.Config{
		"ip: lets everybody in: give allow, deny, allow_file or deny_file":                      {},
		`ip.deny[0]: "x" is neither an address nor a prefix like 192.0.2.0/24 or 2001:db8::/32`: {Deny: []string{"x"}},
		"ip: allow_file: open /nowhere/x: no such file or directory":                            {AllowFile: "/nowhere/x"},
	} {
		if got := said(Config{IP: &IP{c}}); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
