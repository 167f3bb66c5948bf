package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// schema is the version of the result file's form.
const schema = 1

// Result is what a run has found: every sample, and where it was taken.
type Result struct {
	Schema   int       `json:"schema"`
	Started  time.Time `json:"started"`
	Host     Host      `json:"host"`
	Revision string    `json:"revision,omitempty"` // of the measured sluice, if known
	// Partial says why the run did not come to its end; empty if it did.
	Partial string   `json:"partial,omitempty"`
	Samples []Sample `json:"samples"`
}

// Sample is one round of one scenario on one target.
type Sample struct {
	Scenario string  `json:"scenario"`
	Target   string  `json:"target"`
	Round    int     `json:"round"`
	Conns    int     `json:"connections,omitempty"`
	Rate     float64 `json:"rate,omitempty"` // of the open loop, requests/s; absent: closed loop
	Seconds  float64 `json:"seconds,omitempty"`
	Requests uint64  `json:"requests,omitempty"`
	Bytes    uint64  `json:"bytes,omitempty"` // received
	Lost     uint64  `json:"lost,omitempty"`  // datagrams that were not answered
	// Throughput is in requests per second.
	Throughput float64  `json:"throughput,omitempty"`
	Latency    *Latency `json:"latency,omitempty"`
	// CPUUser and CPUSystem are of the target's processes, in µs per request.
	CPUUser   float64 `json:"cpu_user_us,omitempty"`
	CPUSystem float64 `json:"cpu_system_us,omitempty"`
	// Switches are context switches, Syscalls system calls of the target per request, where the kernel tells.
	Switches float64 `json:"switches,omitempty"`
	Syscalls float64 `json:"syscalls,omitempty"`
	// RSS and RSSPeak are the target's in bytes; BytesPerConn is what one more idle connection costs it.
	RSS          uint64  `json:"rss,omitempty"`
	RSSPeak      uint64  `json:"rss_peak,omitempty"`
	BytesPerConn float64 `json:"bytes_per_connection,omitempty"`
	// Allocs and AllocBytes are the target's heap allocations per request, if it is a sluice with an admin endpoint.
	Allocs     *float64 `json:"allocs,omitempty"`
	AllocBytes *float64 `json:"alloc_bytes,omitempty"`
	// GeneratorCPU is the generator's own, in µs per request; GeneratorBusy and TargetBusy the shares of a core that both
	// used. Direct is the throughput without the target, in requests/s.
	GeneratorCPU  float64           `json:"generator_cpu_us,omitempty"`
	GeneratorBusy float64           `json:"generator_busy,omitempty"`
	TargetBusy    float64           `json:"target_busy,omitempty"`
	Direct        float64           `json:"direct,omitempty"`
	SlipP99       float64           `json:"slip_p99_us,omitempty"` // how late the open loop sent, of itself
	Errors        map[string]uint64 `json:"errors,omitempty"`
	Warnings      []string          `json:"warnings,omitempty"`
	// Unavailable says why the target cannot do the scenario; nothing was measured then.
	Unavailable string `json:"unavailable,omitempty"`
}

// CPU is the target's CPU time in µs per request.
func (s *Sample) CPU() float64 { return s.CPUUser + s.CPUSystem }

// Measured says that the sample has figures.
func (s *Sample) Measured() bool {
	return s.Unavailable == "" && (s.Requests > 0 || s.BytesPerConn > 0)
}

// Latency is in µs.
type Latency struct {
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
	Curve []Point `json:"curve,omitempty"` // for the report
}

// Point is a percentile, 0 to 100, and the latency in µs that it does not exceed.
type Point struct {
	Percentile float64 `json:"p"`
	Latency    float64 `json:"us"`
}

func latencyOf(t *tally) *Latency {
	h := t.latency
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	l := &Latency{Mean: h.Mean() / 1e3, P50: us(h.ValueAtQuantile(50)), P90: us(h.ValueAtQuantile(90)),
		P99: us(h.ValueAtQuantile(99)), P999: us(h.ValueAtQuantile(99.9)), Max: us(h.Max())}
	for _, p := range []float64{0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999} {
		l.Curve = append(l.Curve, Point{p, us(h.ValueAtQuantile(p))})
	}
	return l
}

// Host is where figures were taken: they are comparable with those of the same host only.
type Host struct {
	Name        string   `json:"name"`
	CPU         string   `json:"cpu"`
	Cores       int      `json:"cores"`
	MemoryMiB   int      `json:"memory_mib"`
	Kernel      string   `json:"kernel"`
	Governor    string   `json:"governor,omitempty"`
	Congestion  string   `json:"congestion_control,omitempty"`
	Mitigations []string `json:"mitigations,omitempty"`
	// Versions are those of what was measured.
	Versions map[string]string `json:"versions,omitempty"`
}

// ThisHost looks at the host.
func ThisHost() Host {
	h := Host{Cores: runtime.NumCPU(), Versions: map[string]string{"go": runtime.Version()}}
	h.Name, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if c, err := fs.CPUInfo(); err == nil && len(c) > 0 {
			h.CPU = c[0].ModelName
		}
		if m, err := fs.Meminfo(); err == nil && m.MemTotal != nil {
			h.MemoryMiB = int(*m.MemTotal / 1024)
		}
	}
	h.Governor = readFirst("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
	h.Congestion = readFirst("/proc/sys/net/ipv4/tcp_congestion_control")
	dir := "/sys/devices/system/cpu/vulnerabilities"
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		if m, ok := strings.CutPrefix(readFirst(dir+"/"+n.Name()), "Mitigation: "); ok {
			h.Mitigations = append(h.Mitigations, n.Name()+": "+m)
		}
	}
	return h
}

// Differs says in what two hosts differ that changes figures; empty if in nothing.
func (h *Host) Differs(o *Host) string {
	var out []string
	say := func(what, a, b string) {
		if a != b {
			out = append(out, fmt.Sprintf("%s %q and %q", what, a, b))
		}
	}
	say("CPU", h.CPU, o.CPU)
	say("cores", fmt.Sprint(h.Cores), fmt.Sprint(o.Cores))
	say("kernel", h.Kernel, o.Kernel)
	say("governor", h.Governor, o.Governor)
	say("congestion control", h.Congestion, o.Congestion)
	if !slices.Equal(h.Mitigations, o.Mitigations) {
		out = append(out, "mitigations")
	}
	return strings.Join(out, ", ")
}

// Write puts the result into a file.
func (r *Result) Write(name string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// ReadResult reads a result file.
func ReadResult(name string) (*Result, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &Result{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: not a result of sluice bench: %w", name, err)
	}
	if r.Schema != schema {
		return nil, fmt.Errorf("%s: result files of version %d are not understood, only of %d", name, r.Schema, schema)
	}
	return r, nil
}

// Failed is the first thing that went wrong, for the exit status; nil if everything was measured without an error.
func (r *Result) Failed() error {
	if r.Partial != "" {
		return errors.New(r.Partial)
	}
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.Unavailable != "" {
			continue
		}
		if !s.Measured() {
			return fmt.Errorf("%s on %s: nothing was measured", s.Scenario, s.Target)
		}
		if len(s.Errors) > 0 {
			return fmt.Errorf("%s on %s: %s", s.Scenario, s.Target, errorList(s.Errors))
		}
	}
	return nil
}

func errorList(errs map[string]uint64) string {
	var out []string
	for k, n := range errs {
		out = append(out, fmt.Sprintf("%d × %s", n, k))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// NewResult begins the result of a run of the rig's targets.
func NewResult(revision string, rig *Rig) *Result {
	r := &Result{Schema: schema, Started: time.Now(), Host: ThisHost(), Revision: revision}
	for name, v := range rig.Versions {
		r.Host.Versions[name] = v
	}
	return r
}
