package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// archive is a recorded host of the text.
func archive(t testing.TB, text string) *Host {
	t.Helper()
	fsys, err := Archive([]byte(text))
	must(t, err)
	return Recorded(fsys)
}

func TestLists(t *testing.T) {
	f := func(text string, want ...int) {
		t.Helper()
		if got, ok := ParseList(text); !ok || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
		if got := FormatList(want); got != text {
			t.Errorf("%v: %q, want %q", want, got, text)
		}
	}
	f("")
	f("0", 0)
	f("0-3,8,10-11", 0, 1, 2, 3, 8, 10, 11)
	for _, bad := range []string{"a", "3-1", "-1", "0-", ",", "0-100000", "1,,2"} {
		if got, ok := ParseList(bad); ok {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestMasks(t *testing.T) {
	f := func(text string, want ...int) {
		t.Helper()
		if got, ok := ParseMask(text); !ok || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
		if got := FormatMask(want); got != text {
			t.Errorf("%v: %q, want %q", want, got, text)
		}
	}
	f("0")
	f("5", 0, 2)
	f("80000001,00000000", 32, 63)
	f("1,00000000,00000008", 3, 64)
	for _, bad := range []string{"", "x", "1,", "fffffffff"} {
		if got, ok := ParseMask(bad); ok {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestArchiveExpands(t *testing.T) {
	h := archive(t, `
-- a/* --
# a comment
b/c 4096 87380
b/d
-- cpu{0-2,8}/* --
plain {}
moved {+4}
both {%2},{%2+10},{/2}
-- a/b/c --
replaced
`)
	f := func(path, want string) {
		t.Helper()
		if got := h.Text(path); got.Text != want || !got.Known() {
			t.Errorf("%s: %+v, want %q", path, got, want)
		}
	}
	f("a/b/c", "replaced")
	f("a/b/d", "")
	f("cpu0/plain", "0")
	f("cpu8/moved", "12")
	f("cpu8/both", "0,10,4")
	f("cpu1/both", "1,11,0")
	if got := h.Names("."); !slices.Equal(got, []string{"a", "cpu0", "cpu1", "cpu2", "cpu8"}) {
		t.Errorf("%v", got)
	}
}

func TestArchiveRefuses(t *testing.T) {
	for _, bad := range []string{"-- ../etc/passwd --\n", "-- /abs --\n", "-- cpu{0-x}/a --\n", "-- cpu{0-9 --\n",
		"-- cpu{0}/a --\n{*2}\n", "-- cpu{0}/a --\n{%0}\n", "-- cpu{0}/a --\n{open\n", "-- a/* --\n../../b x\n", "-- a --\n-- a/b --\n"} {
		if _, err := Archive([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What is not there, or says nonsense, is unknown: a host of which nothing is known can be read.
func TestNothingIsKnown(t *testing.T) {
	f := Read(archive(t, ""))
	if len(f.CPUs)+len(f.NICs)+len(f.Nodes) > 0 || f.Memory != 0 || f.Container() || f.KernelAtLeast(1, 0) {
		t.Errorf("facts of nothing: %+v", f)
	}
	if v := f.Sysctl("net.core.somaxconn"); v.Known() || !strings.Contains(v.Unknown, "/proc/sys/net/core/somaxconn is not there") || v.Denied {
		t.Errorf("%+v", v)
	}
	nonsense := Read(archive(t, `
-- proc/* --
cmdline =
meminfo MemTotal: lots kB
interrupts 12: x
self/limits Max open files
self/cgroup 0::/../..
self/mounts proc
-- sys/* --
devices/system/cpu/online 0-
devices/system/node/online 7
class/net/eth0/operstate up
class/net/eth0/device/uevent x
class/net/eth0/speed -1
class/net/eth0/queues/rx-x/rps_cpus zz
-- ethtool/eth0.json --
{
`))
	if n := nonsense.NICs[0]; n.Link != nil || !strings.Contains(n.Why, "eth0") || n.Speed != 0 || n.Node != -1 {
		t.Errorf("%+v", n)
	}
}

func TestDeniedIsSaid(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0))
	h, err := Open(dir)
	must(t, err)
	if v := h.Text("x"); !v.Denied || v.Known() {
		t.Errorf("%+v", v)
	}
}

// What was recorded of this machine is read again as the same facts, of a directory and of an archive.
func TestRecordAndReplay(t *testing.T) {
	live := Live()
	defer live.Close()
	r := Record(live)
	want := Read(r.Host)
	if len(want.CPUs) == 0 || !want.Sysctl("kernel.osrelease").Known() {
		t.Fatalf("nothing is known of this machine: %+v", want)
	}
	for _, name := range []string{"host", "host.txtar"} {
		name = filepath.Join(t.TempDir(), name)
		must(t, r.Write(name))
		if !strings.HasSuffix(name, ".txtar") && r.Write(name) == nil {
			t.Error("a recording is overwritten")
		}
		h, err := Open(name)
		must(t, err)
		got := Read(h)
		// Of the command line only what matters is kept.
		for key := range want.Boot {
			if !slices.Contains(bootKeys, key) {
				delete(want.Boot, key)
			}
		}
		// A file that was there and could not be read (a single queue's xps_cpus) is an empty one in the recording.
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Facts{}, "Host"), cmp.AllowUnexported(Facts{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestCgroups(t *testing.T) {
	f := func(text string, want Cgroup) {
		t.Helper()
		if got := Read(archive(t, text)).Cgroup; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	f("", Cgroup{Swap: -1})
	// The strictest on the way up decides.
	f(`
-- proc/self/cgroup --
0::/system.slice/sluice.service
-- sys/fs/cgroup/* --
cgroup.controllers cpu
system.slice/memory.max 1073741824
system.slice/sluice.service/cgroup.controllers cpu
system.slice/sluice.service/memory.max 2147483648
system.slice/sluice.service/memory.high max
system.slice/sluice.service/memory.swap.max 0
system.slice/sluice.service/cpu.max 250000 100000
system.slice/sluice.service/pids.max 512
-- sys/fs/cgroup/system.slice/sluice.service/cpu.stat --
usage_usec 5
nr_periods 1000
nr_throttled 120
`, Cgroup{CPU: 2.5, Memory: 1 << 30, Swap: 0, Pids: 512, Throttled: 0.12, Version: 2})
	f(`
-- proc/self/cgroup --
0::/a
-- sys/fs/cgroup/* --
cpu.max 400000 100000
a/cgroup.controllers cpu
a/cpu.max 100000 100000
`, Cgroup{CPU: 1, Swap: -1, Version: 2})
	// Version 1, in a container: the path is the machine's, and not seen.
	f(`
-- proc/self/cgroup --
4:memory:/docker/0123
3:cpu,cpuacct:/docker/0123
-- sys/fs/cgroup/* --
memory/memory.limit_in_bytes 9223372036854771712
cpu/cpu.cfs_quota_us 150000
cpu/cpu.cfs_period_us 100000
`, Cgroup{CPU: 1.5, Swap: -1, Version: 1})
}

func TestCommandLine(t *testing.T) {
	f := Read(archive(t, "-- proc/cmdline --\nquiet nohz_full=1-3 -- nohz_full=7\n"))
	if f.Boot["nohz_full"] != "1-3" {
		t.Errorf("%v: what follows -- is for init", f.Boot)
	}
	if _, ok := f.Boot["quiet"]; !ok || len(f.Boot) != 2 {
		t.Errorf("%v", f.Boot)
	}
}

// Each driver names the interrupts of its queues in its own way.
func TestInterruptsOfQueues(t *testing.T) {
	f := func(driver, interrupts string, want ...int) {
		t.Helper()
		h := archive(t, `
-- sys/class/net/eth0/* --
operstate up
device/uevent DRIVER=x
-- ethtool/eth0.json --
{"driver": "`+driver+`", "bus": "0000:3b:00.0"}
-- proc/irq/{1-99}/* --
smp_affinity_list {%8}
-- proc/interrupts --
           CPU0       CPU1
`+interrupts+`
NMI:          0          0   Non-maskable interrupts
`)
		var got []int
		for _, irq := range Read(h).NICs[0].IRQs {
			got = append(got, irq.Number)
			if !slices.Equal(irq.Affinity, []int{irq.Number % 8}) {
				t.Errorf("%s: interrupt %d goes to %v", driver, irq.Number, irq.Affinity)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", driver, got, want)
		}
	}
	f("mlx5_core", ` 40:  0  0  IR-PCI-MSI 1-edge mlx5_async0@pci:0000:3b:00.0
 42:  7  0  IR-PCI-MSI 3-edge mlx5_comp1@pci:0000:3b:00.0
 41:  0  9  IR-PCI-MSI 2-edge mlx5_comp0@pci:0000:3b:00.0
 43:  0  9  IR-PCI-MSI 2-edge mlx5_comp0@pci:0000:d8:00.0`, 41, 42)
	f("ena", ` 26: 0 0 PCI-MSI 81920-edge ena-mgmnt@pci:0000:3b:00.0
 27: 0 0 PCI-MSI 81921-edge eth0-Tx-Rx-0
 28: 0 0 PCI-MSI 81922-edge eth0-Tx-Rx-1`, 27, 28)
	f("ice", ` 50: 0 0 IR-PCI-MSIX-0000:3b:00.0 0-edge ice-eth0-TxRx-0
 52: 0 0 IR-PCI-MSIX-0000:3b:00.0 2-edge ice-eth0-TxRx-10
 51: 0 0 IR-PCI-MSIX-0000:3b:00.0 1-edge ice-eth0-TxRx-2
 53: 0 0 IR-PCI-MSIX-0000:3b:00.0 3-edge ice-0000:3b:00.0:misc`, 50, 51, 52)
	f("virtio_net", ` 30: 0 0 PCI-MSIX-0000:3b:00.0 0-edge virtio4-config
 31: 0 0 PCI-MSIX-0000:3b:00.0 1-edge virtio4-input.0
 32: 0 0 PCI-MSIX-0000:3b:00.0 2-edge virtio4-output.0
 33: 0 0 PCI-MSIX-0000:3b:00.0 3-edge virtio4-input.1`, 31, 33)
	f("bcmgenet", ` 60: 0 0 GICv2 189 Level eth0
 61: 0 0 GICv2 190 Level eth0`, 60)
	f("another's", ` 62: 0 0 GICv2 191 Level eth1
 63: 0 0 PCI-MSIX-0000:d8:00.0 1-edge eth10-TxRx-0`)
}

func TestKeyKinds(t *testing.T) {
	for want, key := range map[string][]byte{"zero": make([]byte, 40), "repeating": {0x6d, 0x5a, 0x6d, 0x5a, 0x6d}, "random": {1, 2, 3, 4}} {
		if got := keyKind(key); got != want {
			t.Errorf("%x is %s, want %s", key, got, want)
		}
	}
}

// Of a host's business nothing is kept that the audit does not need.
func TestRecordingIsDiscreet(t *testing.T) {
	r := Record(archive(t, `
-- proc/* --
cmdline root=/dev/sda1 password=secret mitigations=off
1/comm systemd
77/comm payroll
78/comm irqbalance
kcore x
-- proc/self/mounts --
proc /proc proc rw 0 0
//nas/secret /mnt cifs rw 0 0
`))
	Read(r.Host)
	for _, name := range r.Names("proc") {
		r.Text("proc/" + name + "/comm")
	}
	file := filepath.Join(t.TempDir(), "x.txtar")
	must(t, r.Write(file))
	data, err := os.ReadFile(file)
	must(t, err)
	for _, bad := range []string{"secret", "payroll", "sda1", "proc/77", "kcore"} {
		if strings.Contains(string(data), bad) {
			t.Errorf("%q is in\n%s", bad, data)
		}
	}
	for _, want := range []string{"mitigations=off", "-- proc/78/comm --\nirqbalance\n", "-- proc/1/comm --\n", "proc /proc proc rw"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%q is not in\n%s", want, data)
		}
	}
}
