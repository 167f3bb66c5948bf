package bench

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Target is a proxy, as seen from outside.
type Target struct {
	Name string
	// HTTP, TCP and UDP are the addresses of its listeners for scenarios of that protocol; empty: it has none, for the
	// reason that No tells.
	HTTP, TCP, UDP string
	No             string
	// HTTPS and TLS are those at which TLS ends; empty: it has none, for the reason that NoTLS tells.
	HTTPS, TLS, NoTLS string
	// Chain is the address of its HTTP listener with the filters of http-chain; empty: it has none, for the reason that
	// NoChain tells. Bare says that what listens there has no filters, and is measured all the same.
	Chain, NoChain string
	Bare           bool
	PIDs           []int  // its processes; none: its CPU time and memory are not known
	Admin          string // of a sluice: host:port of its metrics
	// restart begins its processes anew, if they are ours: memory that was once used shows in all later figures.
	restart func(ctx context.Context, t *Target) error
	turn    func(ctx context.Context, t *Target) error // before each measurement; nil: nothing
}

// address is where a target does a scenario; if it is empty, why says why it does not.
func (t *Target) address(sc *Scenario) (address, why string) {
	switch {
	case sc.Missing != "":
		return "", sc.Missing
	case sc.Chain:
		return t.Chain, t.NoChain
	case sc.Protocol == HTTP:
		return t.HTTP, t.No
	case sc.Protocol == UDP:
		return t.UDP, t.No
	case sc.Protocol == HTTPS:
		return t.HTTPS, t.NoTLS
	case sc.Protocol == TLS:
		return t.TLS, cmp.Or(t.NoTLS, t.No)
	}
	return t.TCP, t.No
}

// Rate is an open loop's rate: requests per second, or percent of what the target reached in the closed loop.
type Rate struct {
	Value   float64
	Percent bool
}

// ParseRate reads 20000, 20k or 50%.
func ParseRate(s string) (Rate, error) {
	r, unit := Rate{}, 1.0
	v, percent := strings.CutSuffix(s, "%")
	r.Percent = percent
	if k, ok := strings.CutSuffix(v, "k"); ok && !percent {
		v, unit = k, 1000
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || f <= 0 || percent && f > 100 {
		return r, fmt.Errorf("rate %q: requests per second, as in 20000 or 20k, or percent of the closed loop's, as in 50%%", s)
	}
	r.Value = f * unit
	return r, nil
}

// Suite is a series of measurements: every scenario on every target, round by round.
type Suite struct {
	Scenarios []Scenario
	Targets   []Target
	Origin    string // its address, for the measurement without a target
	Chain     *Chain // what Targets with filters were given
	Trust     *Trust // what Targets that speak TLS are believed by
	Rounds    int
	Warm      time.Duration
	Duration  time.Duration // of a round, without Warm
	Rates     []Rate        // open loops, after the closed one; none: the closed loop alone
	Conns     int           // 0: the scenario's
	Pipeline  int
	Loops     int // of the generator
	Cores     int // that each target may use
	Watch     func(Status)
}

// Status is what a suite is at.
type Status struct {
	Share            float64 // of the whole that is done
	Scenario, Target string
	Throughput       float64 // so far, requests/s
	P99              time.Duration
}

// Run measures and adds the samples to r as they come. Targets take turns within a round, and rounds begin with
// another target each, so that what drifts on the host meets all of them. On an error r has what was measured before.
func (s *Suite) Run(ctx context.Context, r *Result) error {
	step, steps := 0, s.steps()
	if err := s.prove(ctx); err != nil {
		return err
	}
	for _, sc := range s.Scenarios {
		direct := 0.0
		if sc.Chain && s.Chain != nil {
			sc.Headers = s.Chain.headers()
		}
		able := []*Target{}
		for i := range s.Targets {
			t := &s.Targets[i]
			if address, why := t.address(&sc); address == "" {
				r.Samples = append(r.Samples, Sample{Scenario: sc.Name, Target: t.Name, Unavailable: why})
				continue
			}
			able = append(able, t)
		}
		if len(able) == 0 {
			continue
		}
		if sc.Load != Idle && !sc.secure() { // the origin speaks no TLS
			var err error
			if direct, err = s.direct(ctx, sc); err != nil {
				return fmt.Errorf("%s without a target: %w", sc.Name, err)
			}
		}
		for round := range s.Rounds {
			for i := range able {
				t := able[(round+i)%len(able)]
				sample, err := s.measure(ctx, sc, t, 0, float64(step)/float64(steps), 1/float64(steps))
				step++
				sample.Round, sample.Direct = round, direct
				s.judge(sc, &sample)
				if sample.Measured() || len(sample.Errors) > 0 {
					r.Samples = append(r.Samples, sample)
				}
				if err != nil {
					return fmt.Errorf("%s on %s: %w", sc.Name, t.Name, err)
				}
			}
		}
		if sc.Load == Idle {
			step += len(s.Rates) * s.Rounds * len(able)
			continue
		}
		for _, rate := range s.Rates {
			for round := range s.Rounds {
				for i := range able {
					t := able[(round+i)%len(able)]
					perSecond := rate.Value
					if rate.Percent {
						perSecond *= closedThroughput(r, sc.Name, t.Name) / 100
					}
					sample, err := s.measure(ctx, sc, t, perSecond, float64(step)/float64(steps), 1/float64(steps))
					step++
					sample.Round, sample.Direct = round, direct
					if sample.Measured() || len(sample.Errors) > 0 {
						r.Samples = append(r.Samples, sample)
					}
					if err != nil {
						return fmt.Errorf("%s on %s at %.0f/s: %w", sc.Name, t.Name, perSecond, err)
					}
				}
			}
		}
	}
	return nil
}

// steps is the number of measurements.
func (s *Suite) steps() (n int) {
	for _, sc := range s.Scenarios {
		for i := range s.Targets {
			if address, _ := s.Targets[i].address(&sc); address != "" {
				n += s.Rounds * (1 + len(s.Rates))
			}
		}
	}
	return max(n, 1)
}

// prove sees to it, before anything is measured, that the filters do what they are measured for: a chain that lets
// everything through is a fast one; and that all targets speak the same TLS.
func (s *Suite) prove(ctx context.Context) error {
	for _, sc := range s.Scenarios {
		for i := range s.Targets {
			t := &s.Targets[i]
			address, _ := t.address(&sc)
			if sc.secure() && address != "" {
				if err := s.Trust.prove(ctx, &sc, address); err != nil {
					return fmt.Errorf("%s on %s: %w", sc.Name, t.Name, err)
				}
			}
			if !sc.Chain || t.Bare || address == "" {
				continue
			}
			if err := s.Chain.prove(ctx, address); err != nil {
				return fmt.Errorf("%s on %s: its filters do not work: %w", sc.Name, t.Name, err)
			}
		}
	}
	return nil
}

func closedThroughput(r *Result, scenario, target string) float64 {
	var all []float64
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Scenario == scenario && s.Target == target && s.Rate == 0 {
			all = append(all, s.Throughput)
		}
	}
	return median(all)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// directTime is enough to see what the generator and the origin can do without a target between them.
const directTime = 400 * time.Millisecond

func (s *Suite) direct(ctx context.Context, sc Scenario) (float64, error) {
	g, err := NewGenerator(ctx, Aim{Scenario: sc, Address: s.Origin, Conns: s.Conns, Pipeline: s.Pipeline, Loops: s.Loops})
	if err != nil {
		return 0, err
	}
	defer g.Close()
	t, elapsed, err := g.Measure(ctx, directTime/4, directTime, func() {}, nil)
	return float64(t.requests) / elapsed.Seconds(), err
}

// measure is one sample. What was counted before an error is returned with it.
func (s *Suite) measure(ctx context.Context, sc Scenario, t *Target, rate, done, part float64) (Sample, error) {
	out := Sample{Scenario: sc.Name, Target: t.Name, Rate: rate, Conns: s.Conns}
	if out.Conns == 0 {
		out.Conns = sc.Conns
	}
	if t.turn != nil {
		if err := t.turn(ctx, t); err != nil {
			return out, err
		}
	}
	if sc.Load == Idle && t.restart != nil {
		if err := s.fresh(ctx, sc, t); err != nil {
			return out, err
		}
	}
	before, _ := memory(t.PIDs)
	address, _ := t.address(&sc)
	g, err := NewGenerator(ctx, Aim{Scenario: sc, Address: address, Conns: out.Conns, Rate: rate, Pipeline: s.Pipeline, Loops: s.Loops, Trust: s.Trust})
	if err != nil {
		return out, err
	}
	defer g.Close()
	var at []usage // of the target, at the window's ends
	var own []time.Duration
	var heap [][2]float64
	var gone error
	edge := func() {
		own = append(own, ownUsage())
		if len(t.PIDs) > 0 {
			u, err := processUsage(t.PIDs)
			if err != nil {
				gone = fmt.Errorf("%w: %w", errTarget, err)
			}
			at = append(at, u)
		}
		if t.Admin != "" {
			heap = append(heap, allocations(t.Admin))
			if len(heap) == 1 { // twice: asking allocates too
				heap = append(heap, allocations(t.Admin))
			}
		}
	}
	sum, elapsed, err := g.Measure(ctx, s.Warm, s.Duration, edge, func(share float64, sum *tally) {
		if s.Watch != nil {
			s.Watch(Status{Share: done + share*part, Scenario: sc.Name, Target: t.Name,
				Throughput: float64(sum.requests) / (share * s.Duration.Seconds()), P99: time.Duration(sum.latency.ValueAtQuantile(99))})
		}
	})
	if err == nil {
		err = gone
	}
	out.Seconds, out.Errors, out.Lost = elapsed.Seconds(), sum.failures(), sum.lost
	if sc.Load == Idle {
		after, peak := memory(t.PIDs)
		out.RSS, out.RSSPeak = after, peak
		if len(t.PIDs) > 0 {
			out.BytesPerConn = max(1, (float64(after)-float64(before))/float64(out.Conns))
		} else if err == nil {
			out.Unavailable = "the target's process is not known: name it with --pid"
		}
		return out, err
	}
	n := float64(sum.requests)
	if sum.requests == 0 {
		return out, err
	}
	out.Requests, out.Bytes, out.Throughput, out.Latency = sum.requests, sum.bytes, n/elapsed.Seconds(), latencyOf(sum)
	if rate > 0 {
		out.SlipP99 = float64(sum.slip.ValueAtQuantile(99)) / 1e3
	}
	if len(own) == 2 {
		used := own[1] - own[0]
		out.GeneratorCPU, out.GeneratorBusy = float64(used.Microseconds())/n, used.Seconds()/elapsed.Seconds()
	}
	if len(at) == 2 {
		used := at[1].minus(at[0])
		user, system := used.split()
		out.CPUUser, out.CPUSystem = float64(user)/1e3/n, float64(system)/1e3/n
		out.Switches = float64(used.voluntary+used.involuntary) / n
		out.TargetBusy = (user + system).Seconds() / elapsed.Seconds()
		out.RSS, out.RSSPeak = memory(t.PIDs)
	}
	if len(heap) == 3 && heap[2][0] > 0 {
		per := func(i int) *float64 {
			asking := heap[1][i] - heap[0][i]
			v := max(0, heap[2][i]-heap[1][i]-asking) / n
			return &v
		}
		out.Allocs, out.AllocBytes = per(0), per(1)
	}
	if err == nil && len(t.PIDs) > 0 {
		out.Syscalls = countSyscalls(ctx, g, t.PIDs)
	}
	return out, err
}

// fresh restarts a target, and has it answer a little, so that what it needs once is there.
func (s *Suite) fresh(ctx context.Context, sc Scenario, t *Target) error {
	if err := t.restart(ctx, t); err != nil {
		return err
	}
	sc.Load = KeepAlive
	address, _ := t.address(&sc)
	g, err := NewGenerator(ctx, Aim{Scenario: sc, Address: address, Conns: 16})
	if err != nil {
		return err
	}
	defer g.Close()
	_, _, err = g.Measure(ctx, 0, directTime, func() {}, nil)
	return err
}

// maxLost is the share of datagrams that may be lost without a word: the closed loop's window fits all buffers.
const maxLost = 0.001

// judge marks a throughput that is not the target's own.
func (s *Suite) judge(sc Scenario, out *Sample) {
	if out.Throughput == 0 {
		return
	}
	cores := float64(max(s.Cores, 1))
	if share := float64(out.Lost) / float64(out.Requests+out.Lost); share > maxLost {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%.2f %% of the datagrams were not answered", share*100))
	}
	switch {
	case out.GeneratorBusy >= 0.95*float64(max(s.Loops, 1)) && out.TargetBusy < 0.9*cores && !sc.perConn() && !sc.secure():
		out.Warnings = append(out.Warnings, fmt.Sprintf("the generator was the bottleneck (busy %.0f %%, the target %.0f %%): the throughput is not the target's",
			out.GeneratorBusy*100, out.TargetBusy*100))
	case sc.secure() && out.GeneratorBusy > out.TargetBusy && out.TargetBusy < 0.9*cores:
		out.Warnings = append(out.Warnings, fmt.Sprintf("the target was busy for %.0f %% only, the generator, which speaks TLS too, for %.0f %%: the throughput is not the target's",
			out.TargetBusy*100, out.GeneratorBusy*100))
	case out.Direct > 0 && out.Throughput > 0.9*out.Direct && out.TargetBusy < 0.9*cores:
		out.Warnings = append(out.Warnings, fmt.Sprintf("generator and origin alone reach %.0f/s, hardly more than through the target: the throughput is not the target's", out.Direct))
	}
}

// allocations are the heap allocations and their bytes that a sluice has made since it began; zero if it does not say.
func allocations(admin string) (v [2]float64) {
	c := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + admin + "/metrics")
	if err != nil {
		return v
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		for i, name := range []string{"go_memstats_mallocs_total ", "go_memstats_alloc_bytes_total "} {
			if s, ok := strings.CutPrefix(lines.Text(), name); ok {
				v[i], _ = strconv.ParseFloat(s, 64)
			}
		}
	}
	return v
}

// ErrInterrupted says that a run was ended by whoever started it.
var ErrInterrupted = errors.New("interrupted")
