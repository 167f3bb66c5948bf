package tune

import (
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"sluice/tune/change"
	"sluice/tune/host"
)

// copyOf is a recorded host that can be written to.
func copyOf(t testing.TB, f *host.Facts) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	must(t, fs.WalkDir(f.Files(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(f.Files(), path)
		files[path] = &fstest.MapFile{Data: data, Mode: 0o644}
		return err
	}))
	return files
}

// apply does to a recorded host what a setting would do to a running one; false for what only a boot applies.
func apply(t testing.TB, files fstest.MapFS, s Setting) bool {
	t.Helper()
	write := func(path, text string) { files[path] = &fstest.MapFile{Data: []byte(text + "\n"), Mode: 0o644} }
	switch s.Kind {
	case change.Sysctl, change.File:
		path := strings.TrimPrefix(fileOf(s), "/")
		if _, ok := files[path]; !ok && !strings.HasSuffix(path, "/disable") && !strings.HasSuffix(path, "/online") {
			t.Errorf("%s is not there to be set", s)
		}
		write(path, s.Value)
		// What the kernel then shows.
		if dir, ok := strings.CutSuffix(path, "/smp_affinity_list"); ok {
			write(dir+"/effective_affinity_list", s.Value)
		}
		if strings.HasSuffix(path, "/online") {
			write("sys/devices/system/cpu/offline", "")
		}
	case change.Unit:
		path := "etc/systemd/system/sluice.service.d/tune-" + strings.ReplaceAll(s.Key, "/", "-") + ".conf"
		if name, ok := strings.CutPrefix(s.Key, "Environment/"); ok {
			write(path, "[Service]\nEnvironment="+name+"="+s.Value)
		} else {
			write(path, "[Service]\n"+s.Key+"=\n"+s.Key+"="+s.Value)
		}
		// What a unit's line does to the cgroup.
		cgroup := strings.TrimPrefix(string(files["proc/self/cgroup"].Data), "0::")
		at := strings.TrimSuffix("sys/fs/cgroup"+strings.TrimSpace(cgroup), "/")
		switch s.Key {
		case "MemoryMax":
			write(at+"/memory.max", s.Value)
		case "MemoryHigh":
			write(at+"/memory.high", "max")
		case "TasksMax":
			write(at+"/pids.max", s.Value)
		case "CPUQuota":
			percent, err := strconv.Atoi(strings.TrimSuffix(s.Value, "%"))
			must(t, err)
			write(at+"/cpu.max", strconv.Itoa(percent*1000)+" 100000")
		}
	case change.Ethtool, change.Link:
		nic, name, _ := strings.Cut(s.Key, "/")
		path := "ethtool/" + nic + ".json"
		var l host.Link
		must(t, json.Unmarshal(files[path].Data, &l))
		n, _ := strconv.Atoi(s.Value)
		feature, isFeature := strings.CutPrefix(name, "feature/")
		switch {
		case isFeature:
			l.Features[feature] = s.Value
		case name == "rx-ring":
			l.Rings.Rx = n
		case name == "tx-ring":
			l.Rings.Tx = n
		case name == "combined":
			l.Channels.Combined = n
		case name == "rx-usecs":
			l.Coalesce.RxUsecs = n
		case name == "tx-usecs":
			l.Coalesce.TxUsecs = n
		case name == "qdisc":
			l.Qdisc, l.Leaves = s.Value, nil
			if s.Value == "mq" {
				l.Leaves = []string{strings.TrimSpace(string(files["proc/sys/net/core/default_qdisc"].Data))}
			}
		case name == "mtu":
			write("sys/class/net/"+nic+"/mtu", s.Value)
		case name == "txqlen":
			write("sys/class/net/"+nic+"/tx_queue_len", s.Value)
		default:
			t.Errorf("%s: what is that?", s)
		}
		data, err := json.Marshal(l)
		must(t, err)
		write(path, string(data))
	case change.Boot:
		return false
	default:
		t.Errorf("%s: an unknown kind", s)
	}
	return true
}

// Who does what the findings say has a clean audit: what is left needs a boot, or hands.
func TestRemediesMend(t *testing.T) {
	for name, read := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			f, e := read()
			files := copyOf(t, f)
			for range 2 { // new queues have interrupts of their own
				applied := 0
				for _, s := range Run(host.Read(host.Recorded(files)), e).Settings() {
					if apply(t, files, s) {
						applied++
					}
				}
				if applied == 0 {
					break
				}
			}
			for _, left := range Run(host.Read(host.Recorded(files)), e).Findings {
				byHand := len(left.Fix) == 0 && left.Do != ""
				boot := !slices.ContainsFunc(left.Fix, func(s Setting) bool { return s.Kind != change.Boot })
				if !byHand && !boot {
					t.Errorf("%s of %s is still amiss: set %s, wanted %s, fix %v", left.Name, left.Of, left.Set, left.Wanted, left.Fix)
				}
			}
		})
	}
}

// Every setting has a form that can be applied.
func TestSettingsAreWellFormed(t *testing.T) {
	kinds := map[change.Kind]int{}
	for name, read := range recorded(t) {
		f, e := read()
		for _, s := range Run(f, e).Settings() {
			kinds[s.Kind]++
			s.Validate(func(path, message string) { t.Errorf("%s: %s: %s: %s", name, s, path, message) })
		}
	}
	if len(kinds) != 6 {
		t.Errorf("not every kind is used: %v", slices.Sorted(maps.Keys(kinds)))
	}
}
