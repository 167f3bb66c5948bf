package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// HistoryLine is what is kept of a measured revision: the medians of its result.
type HistoryLine struct {
	Time     time.Time `json:"time"`
	Revision string    `json:"revision"`
	CPU      string    `json:"cpu"`
	Cores    int       `json:"cores"`
	Kernel   string    `json:"kernel"`
	// Medians are by load, target and metric.
	Medians map[string]map[string]map[string]float64 `json:"medians"`
}

// AppendHistory adds a line for r to a file, which need not be there.
func AppendHistory(name string, r *Result) error {
	l := HistoryLine{Time: r.Started.UTC().Truncate(time.Second), Revision: r.Revision, CPU: r.Host.CPU, Cores: r.Host.Cores,
		Kernel: r.Host.Kernel, Medians: map[string]map[string]map[string]float64{}}
	for _, load := range r.each((*Sample).load) {
		for _, target := range r.each(func(s *Sample) string { return s.Target }) {
			for _, m := range metrics {
				if v := values(r.series(load, target), m); len(v) > 0 {
					if l.Medians[load] == nil {
						l.Medians[load] = map[string]map[string]float64{}
					}
					if l.Medians[load][target] == nil {
						l.Medians[load][target] = map[string]float64{}
					}
					l.Medians[load][target][m.name] = round(median(v))
				}
			}
		}
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// round keeps three decimals: more than any figure is good for.
func round(v float64) float64 { return float64(int64(v*1000+0.5)) / 1000 }

// ReadHistory reads all lines of a file.
func ReadHistory(name string) ([]HistoryLine, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []HistoryLine
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		var l HistoryLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		out = append(out, l)
	}
	return out, lines.Err()
}
