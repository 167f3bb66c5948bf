package change

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// insideEnv says that the test runs in a namespace made for it.
const insideEnv = "SLUICE_CHANGE_INSIDE"

// within runs this test again in what the command makes of it, or skips it and says why.
func within(t *testing.T, command ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a namespace needs root")
	}
	cmd := exec.Command(command[0], append(command[1:], os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func inside() bool { return os.Getenv(insideEnv) != "" }

// live is a changer of this host as it is, with a state of its own. It is not to be confirmed: that writes to /etc.
func live(t *testing.T) (*Changer, *strings.Builder) {
	said := &strings.Builder{}
	return &Changer{Host: &Host{Root: "/", Device: Devices{}}, State: filepath.Join(t.TempDir(), "state"), Say: func(l string) { said.WriteString(l + "\n") }}, said
}

// perNamespace are values for sysctls that each network namespace has for itself. That of the pair's device are last.
var perNamespace = [][2]string{
	{"net.core.somaxconn", "16384"}, {"net.ipv4.tcp_rmem", "4096 262144 16777216"}, {"net.ipv4.tcp_wmem", "4096 65536 16777216"},
	{"net.ipv4.tcp_max_syn_backlog", "8192"}, {"net.ipv4.ip_local_port_range", "10240 65000"}, {"net.ipv4.tcp_fastopen", "3"},
	{"net.ipv4.tcp_tw_reuse", "1"}, {"net.ipv4.tcp_fin_timeout", "15"}, {"net.ipv4.tcp_slow_start_after_idle", "0"},
	{"net.ipv4.tcp_notsent_lowat", "131072"}, {"net.ipv4.tcp_mtu_probing", "1"}, {"net.ipv4.tcp_syncookies", "2"},
	{"net.ipv4.tcp_syn_retries", "3"}, {"net.ipv4.tcp_synack_retries", "3"}, {"net.ipv4.tcp_keepalive_time", "600"},
	{"net.ipv4.tcp_keepalive_intvl", "20"}, {"net.ipv4.tcp_keepalive_probes", "4"}, {"net.ipv4.tcp_max_tw_buckets", "4096"},
	{"net.ipv4.tcp_ecn", "1"}, {"net.ipv4.tcp_no_metrics_save", "1"}, {"net.ipv4.tcp_autocorking", "0"},
	{"net.ipv4.tcp_limit_output_bytes", "262144"}, {"net.ipv4.tcp_retries2", "8"}, {"net.ipv4.tcp_orphan_retries", "2"},
	{"net.ipv4.tcp_congestion_control", "reno"}, {"net.ipv4.ip_local_reserved_ports", "18080,19000-19010"},
	{"net.ipv4.udp_rmem_min", "8192"}, {"net.ipv4.conf.all.rp_filter", "2"}, {"net.ipv4.conf.tuned0.rp_filter", "1"},
	{"net.ipv4.neigh.tuned0.gc_stale_time", "120"}, {"net.ipv6.conf.tuned0.accept_ra", "0"},
}

// The real kernel, in a network namespace with a veth pair: set, verified, and back to exactly what it was.
func TestInNetworkNamespace(t *testing.T) {
	if !inside() {
		ns := fmt.Sprintf("sluice-change-%d", os.Getpid())
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("no network namespace: %v %s", err, out)
		}
		defer func() { _ = exec.Command("ip", "netns", "del", ns).Run() }()
		if out, err := exec.Command("ip", "-n", ns, "link", "add", "tuned0", "type", "veth", "peer", "name", "tuned1").CombinedOutput(); err != nil {
			t.Skipf("no veth pair: %v %s", err, out)
		}
		within(t, "ip", "netns", "exec", ns)
		return
	}
	var settings []Setting
	for _, x := range perNamespace {
		settings = append(settings, Setting{Kind: Sysctl, Key: x[0], Value: x[1]})
	}
	settings = append(settings, Setting{Kind: Link, Key: "tuned0/mtu", Value: "9000"}, Setting{Kind: Link, Key: "tuned0/txqlen", Value: "2000"},
		Setting{Kind: Link, Key: "tuned0/qdisc", Value: "pfifo_fast"}, Setting{Kind: Ethtool, Key: "tuned0/feature/gro", Value: "on"},
		Setting{Kind: Ethtool, Key: "tuned0/feature/gso", Value: "off"}, Setting{Kind: File, Key: "/sys/class/net/tuned0/queues/rx-0/rps_cpus", Value: "1"},
		Setting{Kind: File, Key: "/sys/class/net/tuned0/gro_flush_timeout", Value: "20000"})
	c, said := live(t)
	p := NewPlan(c.Host, settings, func(s Setting, why error) { t.Logf("left out: %s: %v", s, why) })
	if len(p.Settings) < len(settings)-6 {
		t.Fatalf("only %d of %d can be tried here", len(p.Settings), len(settings))
	}
	raw := func() string {
		var b strings.Builder
		for _, s := range p.Settings {
			v, err := c.Host.raw(s)
			fmt.Fprintf(&b, "%s = %q %v\n", s, v, err)
		}
		return b.String()
	}
	before := raw()
	if _, err := c.Apply(p, ApplyOptions{Within: time.Hour}); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if drift, err := c.Verify(p); err != nil || len(drift) > 0 {
		t.Errorf("drift: %v, %v", drift, err)
	}
	for _, s := range p.Settings {
		if v, err := c.Host.Read(s); err != nil || !same(s, v, s.Value) {
			t.Errorf("%s is %q: %v", s, v, err)
		}
	}
	if _, err := c.Revert(false); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if after := raw(); after != before {
		t.Errorf("reverted, it is\n%s\nand was\n%s", after, before)
	}
	t.Logf("%d settings applied, verified and reverted", len(p.Settings))

	// The kernel refuses the last one, a range that begins below the first unprivileged port: the others are rolled back.
	refused := append(p.Settings[:4:4], Setting{Kind: Sysctl, Key: "net.ipv4.ip_local_port_range", Value: "100 65000"})
	_, err := c.Apply(&Plan{Host: c.Host.Identity(), Settings: refused}, ApplyOptions{Within: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "invalid argument") {
		t.Errorf("not refused: %v", err)
	}
	if after := raw(); after != before {
		t.Errorf("rolled back, it is\n%s\nand was\n%s", after, before)
	}

	// A qdisc that somebody has set is not replaced.
	if out, err := exec.Command("tc", "qdisc", "replace", "dev", "tuned0", "root", "tbf", "rate", "1mbit", "burst", "32kbit", "latency", "400ms").CombinedOutput(); err != nil {
		t.Logf("no qdisc to try: %v %s", err, out)
		return
	}
	_, err = c.Apply(&Plan{Host: c.Host.Identity(), Settings: []Setting{{Kind: Link, Key: "tuned0/qdisc", Value: "pfifo_fast"}}}, ApplyOptions{Within: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "was set by hand") {
		t.Errorf("not refused: %v", err)
	}
}

func TestReadOnlyProc(t *testing.T) {
	if !inside() {
		script := "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec \"$@\""
		if out, err := exec.Command("unshare", "--mount", "--net", "sh", "-c", script, "sh", "true").CombinedOutput(); err != nil {
			t.Skipf("no mount namespace: %v %s", err, out)
		}
		within(t, "unshare", "--mount", "--net", "sh", "-c", script, "sh")
		return
	}
	c, _ := live(t)
	p := NewPlan(c.Host, []Setting{{Kind: Sysctl, Key: "net.core.somaxconn", Value: "12345"}}, func(s Setting, why error) { t.Errorf("%s: %v", s, why) })
	_, err := c.Apply(p, ApplyOptions{Within: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "/proc/sys/net/core/somaxconn cannot be written: read-only file system") {
		t.Errorf("%v", err)
	}
	if r, err := c.load(pendingName); r != nil || err != nil {
		t.Errorf("something waits: %v, %v", r, err)
	}
}
