package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the process that is killed: the environment names what it does, and at which step it dies.
const (
	roleEnv  = "SLUICE_CHANGE_ROLE"    // apply, confirm, revert, watch
	rootEnv  = "SLUICE_CHANGE_ROOT"    // the state is beside it
	stepEnv  = "SLUICE_CHANGE_STEP"    // the step at which the process kills itself, from 1; 0: none
	watchEn  = "SLUICE_CHANGE_WATCH"   // the time for the confirmation; empty: nobody watches
	refuseEn = "SLUICE_CHANGE_REFUSED" // the last setting is refused by the kernel, and that is how it should end
)

const settled = 15 * time.Second

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func play(role string) error {
	c := changerAt(os.Getenv(rootEnv))
	c.Say = func(line string) { fmt.Println(line) }
	left, _ := strconv.Atoi(os.Getenv(stepEnv))
	c.step = func(string) {
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	switch role {
	case "apply":
		o := ApplyOptions{Within: time.Hour}
		if w := os.Getenv(watchEn); w != "" {
			o.Within, _ = time.ParseDuration(w)
			o.Watch = func(id string) error {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				return Spawn(filepath.Join(c.State, "watch.log"), "/usr/bin/env", roleEnv+"=watch", stepEnv+"=0", self, id)
			}
		}
		src, err := os.ReadFile(filepath.Join(c.Host.Root, "plan.yaml"))
		if err != nil {
			return err
		}
		p, err := ParsePlan("plan.yaml", src)
		if err != nil {
			return err
		}
		_, err = c.Apply(p, o)
		if os.Getenv(refuseEn) != "" && errors.Is(err, syscall.EINVAL) {
			return nil
		}
		return err
	case "confirm":
		return c.Confirm()
	case "revert":
		_, err := c.Revert(false)
		return err
	case "watch":
		signal.Ignore(syscall.SIGHUP)
		_, err := c.Watch(context.Background(), os.Args[1], Ready)
		return err
	}
	return errors.New("no such role")
}

// run plays a role in a process of its own; step is where it kills itself. done says that it came to its end.
func run(t testing.TB, root, role string, step int, env ...string) (done bool, said string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, roleEnv+"="+role, rootEnv+"="+root, stepEnv+"="+strconv.Itoa(step))...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			return false, string(out)
		}
		t.Fatalf("%s: %v\n%s", role, err, out)
	}
	must(t, err)
	return true, string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for cond, which must come true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(settled); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not happen that %s", settled, what)
		}
	}
}

// aHost is a host's tree. Network devices are files under nic: see drivers.
var aHost = map[string]string{
	"etc/machine-id":                                                  "0123456789abcdef0123456789abcdef\n",
	"proc/sys/kernel/hostname":                                        "edge-1\n",
	"proc/sys/kernel/osrelease":                                       "6.18.1\n",
	"proc/sys/kernel/random/boot_id":                                  "11111111-1111-1111-1111-111111111111\n",
	"proc/cmdline":                                                    "root=/dev/vda1 ro quiet mitigations=auto\n",
	"proc/sys/net/core/somaxconn":                                     "4096\n",
	"proc/sys/net/core/rmem_max":                                      "212992\n",
	"proc/sys/net/core/default_qdisc":                                 "pfifo_fast\n",
	"proc/sys/net/ipv4/tcp_rmem":                                      "4096\t131072\t6291456\n",
	"proc/sys/net/ipv4/ip_local_port_range":                           "32768\t60999\n",
	"proc/sys/net/ipv4/ip_local_reserved_ports":                       "\n",
	"proc/sys/net/ipv4/conf/eth0.100/rp_filter":                       "2\n",
	"proc/sys/net/core/flow_limit_cpu_bitmap":                         "00000000,00000000\n",
	"proc/irq/24/smp_affinity":                                        "ff\n",
	"proc/irq/24/smp_affinity_list":                                   "0-7\n",
	"sys/devices/system/cpu/possible":                                 "0-39\n",
	"sys/class/net/eth0/address":                                      "02:fc:00:00:00:01\n",
	"sys/class/net/lo/address":                                        "00:00:00:00:00:00\n",
	"sys/class/net/eth0/queues/rx-0/rps_cpus":                         "00,00000000\n",
	"sys/kernel/mm/transparent_hugepage/enabled":                      "always [madvise] never\n",
	"sys/block/vda/queue/scheduler":                                   "[mq-deadline] kyber none\n",
	"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor":            "powersave\n",
	"sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors": "performance powersave schedutil\n",
	"nic/eth0/rx-ring":                                                "512\n",
	"nic/eth0/combined":                                               "2\n",
	"nic/eth0/rx-usecs":                                               "50\n",
	"nic/eth0/feature/lro":                                            "on\n",
	"nic/eth0/qdisc":                                                  "pfifo_fast (default)\n",
	"nic/eth0/mtu":                                                    "1500\n",
}

// everyKind is a plan's worth of settings that aHost takes: every kind, and every form of file.
var everyKind = []Setting{
	{Kind: Sysctl, Key: "net.core.somaxconn", Value: "65535", Why: "the accept queue of a burst: \"SYN\" storms"},
	{Kind: Sysctl, Key: "net.core.rmem_max", Value: "16777216"},
	{Kind: Sysctl, Key: "net.ipv4.tcp_rmem", Value: "4096 262144 16777216"},
	{Kind: Sysctl, Key: "net.ipv4.ip_local_port_range", Value: "10240 65000"},
	{Kind: Sysctl, Key: "net.ipv4.ip_local_reserved_ports", Value: "18080,19000-19010"},
	{Kind: Sysctl, Key: "net.ipv4.conf.eth0/100.rp_filter", Value: "0"},
	{Kind: Sysctl, Key: "net.core.flow_limit_cpu_bitmap", Value: "ff,00000003"},
	{Kind: File, Key: "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", Value: "performance"},
	{Kind: Ethtool, Key: "eth0/combined", Value: "8"},
	{Kind: Ethtool, Key: "eth0/rx-ring", Value: "4096"},
	{Kind: Ethtool, Key: "eth0/rx-usecs", Value: "8"},
	{Kind: Ethtool, Key: "eth0/feature/lro", Value: "off"},
	{Kind: Link, Key: "eth0/qdisc", Value: "fq"},
	{Kind: Link, Key: "eth0/mtu", Value: "9000"},
	{Kind: File, Key: "/proc/irq/24/smp_affinity", Value: "01"},
	{Kind: File, Key: "/sys/class/net/eth0/queues/rx-0/rps_cpus", Value: "ff,00000000"},
	{Kind: File, Key: "/sys/kernel/mm/transparent_hugepage/enabled", Value: "never"},
	{Kind: File, Key: "/sys/block/vda/queue/scheduler", Value: "none"},
	{Kind: Unit, Key: "LimitNOFILE", Value: "1048576"},
	{Kind: Unit, Key: "Environment/GOGC", Value: "400"},
	{Kind: Boot, Key: "mitigations", Value: "off", Why: "they cost"},
}

// plant makes the tree of a host.
func plant(t testing.TB) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "root")
	for name, content := range aHost {
		p := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(content), 0o644))
	}
	return root
}

func changerAt(root string) *Changer {
	return &Changer{Host: &Host{Root: root, Device: drivers{root}}, State: filepath.Join(filepath.Dir(root), "state"), Binary: "/usr/bin/sluice"}
}

// listening is a changer whose lines are kept.
func listening(root string) (*Changer, *strings.Builder) {
	c, said := changerAt(root), &strings.Builder{}
	c.Say = func(line string) { said.WriteString(line + "\n") }
	return c, said
}

// writePlan leaves a plan of the settings in the tree, as the command does, and reads it again.
func writePlan(t testing.TB, root string, settings ...Setting) *Plan {
	t.Helper()
	p := NewPlan(changerAt(root).Host, settings, func(s Setting, why error) { t.Fatalf("%s: %v", s, why) })
	var b strings.Builder
	must(t, p.Write(&b))
	must(t, os.WriteFile(filepath.Join(root, "plan.yaml"), []byte(b.String()), 0o644))
	p, err := ParsePlan("plan.yaml", []byte(b.String()))
	must(t, err)
	return p
}

// contents are all files of a tree, space and the chosen word as normal has them: a copy of a tree does not bracket the word again.
func contents(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "plan.yaml" {
			return err
		}
		name, _ := filepath.Rel(root, p)
		if d.Type()&fs.ModeSymlink != 0 {
			to, _ := os.Readlink(p)
			fmt.Fprintf(&b, "%s -> %s\n", name, to)
			return nil
		}
		v, err := os.ReadFile(p)
		s := Setting{Kind: File, Key: "/" + name}
		if key, ok := strings.CutPrefix(name, "proc/sys/"); ok {
			s = Setting{Kind: Sysctl, Key: key}
		} else if strings.HasPrefix(name, "etc/") {
			s.Kind = ""
		}
		fmt.Fprintf(&b, "%s: %s\n", name, normal(s, string(v)))
		return err
	}))
	return strings.ReplaceAll(b.String(), filepath.Dir(root), "")
}

func value(t testing.TB, root, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	must(t, err)
	return strings.TrimSpace(string(b))
}

func setValue(t testing.TB, root, name, v string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(root, name), []byte(v+"\n"), 0o644))
}

// drivers are network devices in files, with the manners of drivers: a change of the queues resets the rings, a ring above 4096 is
// cut down without a word, and a coalescing time of 13 is refused.
type drivers struct{ root string }

func (d drivers) Get(s Setting) (string, error) {
	b, err := os.ReadFile(filepath.Join(d.root, "nic", s.Key))
	return strings.TrimSpace(string(b)), err
}

func (d drivers) Set(s Setting, v string) error {
	nic, name := s.device()
	put := func(name, v string) error {
		return os.WriteFile(filepath.Join(d.root, "nic", nic, name), []byte(v+"\n"), 0o644)
	}
	switch {
	case name == "combined":
		if err := put("rx-ring", "256"); err != nil {
			return err
		}
	case name == "rx-ring" && len(v) > 3 && v > "4096":
		v = "4096"
	case name == "rx-usecs" && v == "13":
		return syscall.EINVAL
	}
	return put(name, v)
}

func (d drivers) Check(s Setting, _ string) error {
	if s.Key == "eth0/mtu" && len(s.Value) > 4 {
		return errors.New("above the driver's most")
	}
	return nil
}
