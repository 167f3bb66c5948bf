package tune

import (
	"testing"

	"sluice/tune/host"
)

// factsOf are the facts of a host of the archive's text.
func factsOf(t testing.TB, archive string) *host.Facts {
	t.Helper()
	fsys, err := host.Archive([]byte(archive))
	must(t, err)
	return host.Read(host.Recorded(fsys))
}

// Where a judgement turns.
func TestJudgements(t *testing.T) {
	f := func(knob, archive string, want Verdict) {
		t.Helper()
		facts := factsOf(t, archive)
		e := Edge{Loops: 4, Connections: 1000, TCP: true, Forwards: true}.Fill(facts)
		for _, s := range Find(knob).States(facts, e) {
			if s.Verdict != want {
				t.Errorf("%s is %s, want %s: %+v, of\n%s", knob, s.Verdict, want, s, archive)
			}
		}
	}
	// The limit is 1 GiB.
	limited := func(env string) string {
		return "-- proc/self/cgroup --\n0::/\n-- sys/fs/cgroup/* --\nmemory.max 1073741824\n-- etc/systemd/system/sluice.service --\n[Service]\n" + env
	}
	f("process.gomemlimit", limited(""), Amiss)
	f("process.gomemlimit", limited("Environment=GOMEMLIMIT=511MiB\n"), Amiss)
	f("process.gomemlimit", limited("Environment=GOMEMLIMIT=512MiB\n"), Good)
	f("process.gomemlimit", limited("Environment=\"GOMEMLIMIT=960000000\" GOGC=off\n"), Good)
	f("process.gomemlimit", limited("Environment=GOMEMLIMIT=1GiB\n"), Amiss)
	f("process.gomemlimit", limited("Environment=GOMEMLIMIT=lots\n"), Amiss)
	f("process.gogc", limited("Environment=GOGC=off\n"), Amiss)
	f("process.gogc", limited("Environment=GOGC=off GOMEMLIMIT=900MiB\n"), Good)
	f("process.gogc", limited("Environment=GOGC=99\n"), Amiss)

	unit := func(lines string) string { return "-- etc/systemd/system/sluice.service --\n[Service]\n" + lines }
	f("limits.nofile", unit(""), Good) // systemd's own
	f("limits.nofile", unit("LimitNOFILE=1024\n"), Amiss)
	f("limits.nofile", unit("LimitNOFILE=1024:65536\n"), Good)
	f("limits.nofile", unit("LimitNOFILE=infinity\n"), Good)
	f("limits.nofile", unit("#LimitNOFILE=1024\n[Unit]\nLimitNOFILE=1024\n"), Good)
	f("limits.nofile", unit("LimitNOFILE=1024\n")+"-- etc/systemd/system/sluice.service.d/a.conf --\n[Service]\nLimitNOFILE=65536\n", Good)
	f("limits.nofile", unit("LimitNOFILE=1024\n")+"-- etc/systemd/system/sluice.service.d/a.txt --\n[Service]\nLimitNOFILE=65536\n", Amiss)
	f("process.cpu_affinity", "-- sys/devices/system/cpu/* --\nonline 0-7\n"+unit("CPUAffinity=0-1\n"), Amiss)
	f("process.cpu_affinity", "-- sys/devices/system/cpu/* --\nonline 0-7\n"+unit("CPUAffinity=0-1\nCPUAffinity=2 3\n"), Good)
	f("process.cpu_affinity", "-- sys/devices/system/cpu/* --\nonline 0-7\n"+unit("CPUAffinity=0-7\nCPUAffinity=\nCPUAffinity=0\n"), Amiss)

	// Of few packets nothing is said: 0xf4240 is a million.
	f("nic.softnet_dropped", "-- proc/net/softnet_stat --\n000f423f 00000fff 00000000\n", Good)
	f("nic.softnet_dropped", "-- proc/net/softnet_stat --\n000f4240 0000000a 00000000\n", Amiss)
	f("nic.softnet_dropped", "-- proc/net/softnet_stat --\n000f4240 00000009 00000000\n", Good)
	f("nic.softnet_dropped", "-- proc/net/softnet_stat --\nmany 1 2\n", Unseen)

	sysctl := func(line string) string { return "-- proc/sys/* --\n" + line + "\n" }
	f("net.core.somaxconn", sysctl("net/core/somaxconn 4095"), Amiss)
	f("net.core.somaxconn", sysctl("net/core/somaxconn 4096"), Good)
	f("net.core.somaxconn", sysctl("net/core/somaxconn many"), Unseen)
	f("net.ipv4.tcp_mem", sysctl("net/ipv4/tcp_mem 1 2"), Unseen)
	f("net.ipv4.tcp_rmem", sysctl("net/ipv4/tcp_rmem 4096 x 2"), Unseen)
	f("net.ipv4.ip_local_port_range", sysctl("net/ipv4/ip_local_port_range 1024"), Unseen)
	f("net.ipv4.ip_local_port_range", sysctl("net/ipv4/ip_local_port_range 15536 65535"), Good)
	f("net.ipv4.ip_local_port_range", sysctl("net/ipv4/ip_local_port_range 15537 65535"), Amiss)
	f("fs.pipe-user-pages-soft", sysctl("fs/pipe-user-pages-soft 0"), Good)
	f("fs.pipe-user-pages-soft", sysctl("fs/pipe-user-pages-soft 1"), Amiss)
}

func TestGoBytes(t *testing.T) {
	f := func(text string, want int64, wantOK bool) {
		t.Helper()
		if n, ok := goBytes(text); n != want || ok != wantOK {
			t.Errorf("%q: %d, %v; want %d, %v", text, n, ok, want, wantOK)
		}
	}
	f("512", 512, true)
	f("512B", 512, true)
	f("3KiB", 3<<10, true)
	f("2GiB", 2<<30, true)
	f("9999999TiB", 0, false)
	f("-1", 0, false)
	f("", 0, false)
	f("1GB", 0, false)
}

func TestEdgeIsFilledByTheHost(t *testing.T) {
	f := func(archive string, e Edge, loops, connections int, memory int64) {
		t.Helper()
		got := e.Fill(factsOf(t, archive))
		if got.Loops != loops || got.Connections != connections || got.MemoryBytes != memory {
			t.Errorf("%d loops, %d connections, %d bytes; want %d, %d, %d", got.Loops, got.Connections, got.MemoryBytes, loops, connections, memory)
		}
	}
	const machine = "-- sys/devices/system/cpu/* --\nonline 0-7\n-- proc/meminfo --\nMemTotal: 8388608 kB\n"
	f("", Edge{}, 1, 1024, 0)
	f(machine, Edge{}, 8, 65536, 8<<30)
	f(machine, Edge{Loops: 3, Connections: 5, MemoryBytes: 7}, 3, 5, 7)
	f(machine+"-- proc/self/status --\nCpus_allowed_list:\t2-4\n", Edge{}, 3, 65536, 8<<30)
	f(machine+"-- proc/self/cgroup --\n0::/a\n-- sys/fs/cgroup/* --\ncpu.max 400000 100000\na/cpu.max 150000 100000\na/memory.max 1073741824\n", Edge{}, 2, 8192, 1<<30)
}
