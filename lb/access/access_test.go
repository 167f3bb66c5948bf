package access

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newList(t testing.TB, c Config) *List {
	t.Helper()
	l, err := New(c)
	must(t, err)
	return l
}

// write makes a file of lines, by a rename.
func write(t testing.TB, name string, lines ...string) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	must(t, os.WriteFile(name+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	must(t, os.Rename(name+".new", name))
	return name
}

func TestLongestMatchDecides(t *testing.T) {
	f := func(allow, deny string, in, out string) {
		t.Helper()
		l := newList(t, Config{Allow: strings.Fields(allow), Deny: strings.Fields(deny)})
		for _, s := range strings.Fields(in) {
			if !l.Admits(netip.MustParseAddr(s)) {
				t.Errorf("allow %s, deny %s: %s is not let in", allow, deny, s)
			}
		}
		for _, s := range strings.Fields(out) {
			if l.Admits(netip.MustParseAddr(s)) {
				t.Errorf("allow %s, deny %s: %s is let in", allow, deny, s)
			}
		}
	}
	// Nothing given lets all in; whom to allow keeps the others out; whom to deny does not.
	f("", "", "192.0.2.1 ::1", "")
	f("10.0.0.0/8", "", "10.1.2.3 ::ffff:10.1.2.3", "11.0.0.1 ::ffff:11.0.0.1 2001:db8::1 ::10.1.2.3")
	f("", "10.0.0.0/8", "11.0.0.1 2001:db8::1", "10.1.2.3 ::ffff:10.1.2.3")
	f("2001:db8::/32", "", "2001:db8::1", "2001:db9::1 10.0.0.1 32.1.13.184")
	// The longer one decides, whatever it says.
	f("10.0.0.0/8", "10.1.0.0/16", "10.2.0.1", "10.1.0.1 11.0.0.1")
	f("10.1.0.0/16", "10.0.0.0/8", "10.1.0.1", "10.2.0.1 11.0.0.1")
	f("10.0.0.0/8 10.1.2.3", "10.1.0.0/16", "10.1.2.3 10.2.0.1", "10.1.2.4")
	f("2001:db8::/32", "2001:db8:1::/48", "2001:db8:2::1", "2001:db8:1::1")
	// Of two that are equal, deny.
	f("10.0.0.0/8", "10.0.0.0/8", "", "10.1.2.3 11.0.0.1")
	f("192.0.2.1", "192.0.2.1/32", "", "192.0.2.1")
	// The ends of the scale.
	f("0.0.0.0/0", "192.0.2.0/24", "1.2.3.4", "192.0.2.200 ::1")
	f("::/0", "0.0.0.0/0", "::1", "1.2.3.4 ::ffff:1.2.3.4")
	f("::ffff:10.0.0.0/104 ::ffff:192.0.2.1", "", "10.9.9.9 192.0.2.1", "192.0.2.2")
	f("", "::1", "::2", "::1")
	// A zone says nothing about who somebody is.
	f("fe80::/10", "", "fe80::1%lo", "fec0::1%lo")
}

func TestAdmitsAgreesWithALookAtEveryPrefix(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		var b [16]byte
		for i := range b {
			b[i] = byte(r.IntN(3)) // few values, so that prefixes nest
		}
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrFrom16(b)
	}
	for range 30 {
		allowed := map[netip.Prefix]bool{}
		var c Config
		for range r.IntN(200) {
			a := addr()
			p, _ := a.Prefix(r.IntN(a.BitLen() + 1))
			if r.IntN(2) == 0 {
				c.Deny = append(c.Deny, p.String())
				allowed[p] = false
			} else {
				c.Allow = append(c.Allow, p.String())
				if _, ok := allowed[p]; !ok {
					allowed[p] = true
				}
			}
		}
		l := newList(t, c)
		if l.Size() != len(allowed) {
			t.Errorf("%d prefixes, want %d", l.Size(), len(allowed))
		}
		for range 1000 {
			a := addr()
			want, best := len(c.Allow) == 0, -1
			for p, ok := range allowed {
				if p.Contains(a) && p.Bits() > best {
					want, best = ok, p.Bits()
				}
			}
			if l.Admits(a) != want {
				t.Fatalf("%+v: %s is let in: %v", c, a, !want)
			}
		}
	}
}

func TestFilesAddToTheList(t *testing.T) {
	allow := write(t, "allow", "# ours", "", "10.0.0.0/8   # the site", "\t2001:db8::/32\r", "192.0.2.1#alone")
	deny := write(t, "deny", "10.1.0.0/16")
	l := newList(t, Config{Allow: []string{"172.16.0.0/12"}, Deny: []string{"10.2.0.0/16"}, AllowFile: allow, DenyFile: deny})
	got := ""
	for _, s := range []string{"10.0.0.1", "2001:db8::1", "192.0.2.1", "172.16.0.1", "192.0.2.2", "10.1.0.1", "10.2.0.1"} {
		if l.Admits(netip.MustParseAddr(s)) {
			got += s + " "
		}
	}
	if want := "10.0.0.1 2001:db8::1 192.0.2.1 172.16.0.1 "; got != want {
		t.Errorf("let in: %s; want %s", got, want)
	}
	// A file of whom to allow that is empty allows nobody; one of whom to deny denies nobody.
	empty := write(t, "empty", "# nobody yet")
	if newList(t, Config{AllowFile: empty}).Admits(netip.MustParseAddr("10.0.0.1")) {
		t.Error("an empty allow file lets in")
	}
	if !newList(t, Config{DenyFile: empty}).Admits(netip.MustParseAddr("10.0.0.1")) {
		t.Error("an empty deny file keeps out")
	}
}

func TestErrorsSayWhere(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", c, err, want)
		}
	}
	bad := write(t, "bad", "10.0.0.0/8", "# fine", "10.0.0.0/33")
	f(Config{DenyFile: bad}, bad+`:3: "10.0.0.0/33" is neither`)
	long := write(t, "long", "10.0.0.0/8", strings.Repeat("x", 1<<17))
	f(Config{AllowFile: long}, long+":2: ")
	f(Config{AllowFile: "/nowhere/at/all"}, "allow_file: open /nowhere/at/all: no such file")
	f(Config{DenyFile: t.TempDir()}, ":1: read")
	f(Config{Deny: []string{"x"}}, `deny: "x" is neither`)
}

func TestValidate(t *testing.T) {
	var got []string
	c := Config{
		Allow: []string{"10.0.0.0/8", "::1", "10.1.2.3/8", "host.test", ""},
		Deny:  []string{"fe80::1%eth0", "::/64", "10.0.0.0-10.0.0.9", "::ffff:10.0.0.0/90", "10.0.0.0/08"},
	}
	c.Validate(func(path, message string) { got = append(got, path+": "+message) })
	const no = " is neither an address nor a prefix like 192.0.2.0/24 or 2001:db8::/32"
	if diff := cmp.Diff([]string{
		`allow[2]: "10.1.2.3/8" has bits set beyond its length: is it 10.0.0.0/8, or the address alone?`,
		`allow[3]: "host.test"` + no,
		`allow[4]: ""` + no,
		`deny[0]: "fe80::1%eth0": an address of a list has no zone`,
		`deny[2]: "10.0.0.0-10.0.0.9"` + no,
		`deny[3]: "::ffff:10.0.0.0/90": give IPv4 prefixes as such`,
		`deny[4]: "10.0.0.0/08"` + no,
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is read as a prefix is one, and holds its own first address and no address of the other family.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "# x\n\n::1\r\n", "::ffff:1.2.3.4/97", "1.2.3.4/", "10.0.0.0/8 # a\n10.0.0.0/33", "\xff\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l := &List{otherwise: true}
		err := read(strings.NewReader(text), "f", func(p netip.Prefix) {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
				t.Errorf("%q holds %v", text, p)
			}
			l.table.Insert(p, false)
			if l.Admits(p.Addr()) {
				t.Errorf("%v does not hold its own address", p)
			}
		})
		if err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("error %v", err)
		}
	})
}

// many is a file of n prefixes of either family, every length from 12 to 32 and 20 to 64.
func many(t testing.TB, n int) (string, []netip.Addr) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	lines := make([]string, n)
	ask := make([]netip.Addr, 4096)
	for i := range lines {
		var b [16]byte
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		var p netip.Prefix
		if i%4 == 0 {
			b[0] = 0x20
			p, _ = netip.AddrFrom16(b).Prefix(20 + r.IntN(45))
		} else {
			p, _ = netip.AddrFrom4([4]byte(b[:4])).Prefix(12 + r.IntN(21))
		}
		lines[i] = p.String()
		ask[i%len(ask)] = p.Addr()
	}
	return write(t, "many", lines...), ask
}

func TestHundredThousandPrefixesAreAskedWithoutAllocation(t *testing.T) {
	file, ask := many(t, 100_000)
	l := newList(t, Config{DenyFile: file})
	if l.Size() < 90_000 {
		t.Fatalf("%d prefixes", l.Size())
	}
	i, let := 0, 0
	if n := testing.AllocsPerRun(2*len(ask), func() {
		if l.Admits(ask[i%len(ask)]) {
			let++
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if let != 0 {
		t.Errorf("%d of %d that are denied are let in", let, i)
	}
	mapped := netip.AddrFrom16(ask[1].As16())
	if n := testing.AllocsPerRun(100, func() { l.Admits(mapped) }); n != 0 || l.Admits(mapped) {
		t.Errorf("an IPv4-mapped address: %v allocations, let in: %v", n, l.Admits(mapped))
	}
}

func BenchmarkAdmits(b *testing.B) {
	file, ask := many(b, 100_000)
	l := newList(b, Config{DenyFile: file})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		l.Admits(ask[i&4095])
		i++
	}
}

func BenchmarkNew(b *testing.B) {
	file, _ := many(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		newList(b, Config{DenyFile: file})
	}
}

func ExampleList() {
	l, err := New(Config{Allow: []string{"10.0.0.0/8"}, Deny: []string{"10.9.0.0/16"}})
	if err != nil {
		panic(err)
	}
	for _, s := range []string{"10.1.2.3", "10.9.2.3", "192.0.2.1"} {
		fmt.Println(s, l.Admits(netip.MustParseAddr(s)))
	}
	// Output:
	// 10.1.2.3 true
	// 10.9.2.3 false
	// 192.0.2.1 false
}
