package host

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"
)

// Recording keeps what is read of a host, so that the same facts can be read again elsewhere. Of the mounts, the
// kernel's command line and the processes only what matters is kept. Not safe for use by several goroutines.
type Recording struct {
	*Host
	files map[string][]byte // what was read
	seen  map[string]bool   // what is there, and was not read
}

// Record is h, whose facts are kept from now on as they are read.
func Record(h *Host) *Recording {
	r := &Recording{files: map[string][]byte{}, seen: map[string]bool{}}
	r.Host = &Host{fsys: recordedFiles{h.fsys, r}, links: recordedAnswers{h.links, r}}
	return r
}

// recordedFiles reads through, and notes.
type recordedFiles struct {
	fs.FS
	r *Recording
}

func (f recordedFiles) ReadFile(name string) ([]byte, error) {
	data, err := fs.ReadFile(f.FS, name)
	if err == nil {
		f.r.files[name] = data
	}
	return data, err
}

func (f recordedFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(f.FS, name)
	for _, e := range entries {
		f.r.seen[path.Join(name, e.Name())] = true
	}
	return entries, err
}

func (f recordedFiles) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(f.FS, name)
	if err == nil {
		f.r.seen[name] = true
	}
	return info, err
}

// recordedAnswers are kept as ethtool/NAME.json.
type recordedAnswers struct {
	prober
	r *Recording
}

func (a recordedAnswers) link(name string) (*Link, error) {
	l, err := a.prober.link(name)
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err == nil {
		a.r.files[linkFile(name)] = append(data, '\n')
	}
	return l, err
}

// bootKeys are what is kept of the kernel's command line: the rest may hold what is nobody's business.
var bootKeys = []string{"mitigations", "isolcpus", "nohz_full", "rcu_nocbs", "nosmt", "intel_idle.max_cstate",
	"processor.max_cstate", "idle", "intel_pstate", "amd_pstate", "clocksource", "tsc", "retbleed", "spectre_v2", "iommu",
	"intel_iommu", "amd_iommu", "iommu.passthrough", "transparent_hugepage", "numa_balancing", "nmi_watchdog", "nowatchdog", "skew_tick",
	"hugepages", "default_hugepagesz", "preempt"}

// archive is what was recorded, sorted by path.
func (r *Recording) archive() *txtar.Archive {
	files := maps.Clone(r.files)
	for name := range r.seen {
		if _, read := files[name]; !read {
			files[name] = nil
		}
	}
	for name := range files { // what was seen as a file and turned out to be a directory is one by what it holds
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			delete(files, dir)
		}
	}
	for name, text := range files { // of the processes it matters only whether irqbalance is one
		parts := strings.Split(name, "/")
		if parts[0] != "proc" || len(parts) > 1 && (parts[1] == "self" || parts[1] == "sys" || parts[1] == "irq" || parts[1] == "net") {
			continue
		}
		if isProcess := strings.Trim(parts[1], "0123456789") == ""; isProcess && parts[1] != "1" && strings.TrimSpace(string(text)) != "irqbalance" || len(text) == 0 {
			delete(files, name)
		}
	}
	if mounts, ok := files["proc/self/mounts"]; ok {
		files["proc/self/mounts"] = lines(mounts, func(line string) bool {
			at := strings.Fields(line)
			return len(at) > 1 && (strings.HasPrefix(at[1], "/proc") || strings.HasPrefix(at[1], "/sys"))
		})
	}
	if boot, ok := files["proc/cmdline"]; ok {
		var kept []string
		for _, word := range strings.Fields(string(boot)) {
			key, _, _ := strings.Cut(word, "=")
			if slices.Contains(bootKeys, key) {
				kept = append(kept, word)
			}
		}
		files["proc/cmdline"] = []byte(strings.Join(kept, " ") + "\n")
	}
	a := &txtar.Archive{}
	for name, data := range files {
		if len(data) > 0 && data[len(data)-1] != '\n' {
			data = append(slices.Clone(data), '\n') // as txtar wants it
		}
		a.Files = append(a.Files, txtar.File{Name: name, Data: data})
	}
	slices.SortFunc(a.Files, func(x, y txtar.File) int { return cmp.Compare(x.Name, y.Name) })
	return a
}

func lines(text []byte, keep func(string) bool) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if keep(line) {
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}

// Write writes the recording to a directory that is not there yet or empty, or to a file if the name ends in .txtar.
func (r *Recording) Write(name string) error {
	a := r.archive()
	if strings.HasSuffix(name, ".txtar") {
		for i := range a.Files { // braces and DIR/* mean something there
			if f := &a.Files[i]; strings.ContainsAny(f.Name, "{*") {
				return fmt.Errorf("%s cannot be written to an archive", f.Name)
			}
		}
		return os.WriteFile(name, txtar.Format(a), 0o644)
	}
	if entries, err := os.ReadDir(name); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", name)
	}
	for _, f := range a.Files {
		at := filepath.Join(name, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
