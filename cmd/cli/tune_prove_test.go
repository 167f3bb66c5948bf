package cli

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/bench"
	hostchange "sluice/tune/change"
)

// figures are what a turn measures: CPU in µs a request, requests a second, and p99 in µs.
type figures struct{ cpu, rate, p99 float64 }

// turns is a result of injected figures; noise is the share by which each strays to either side.
func turns(seed uint64, rounds int, noise float64, off, on figures) *bench.Result {
	random := rand.New(rand.NewPCG(seed, 7))
	stray := func(v float64) float64 { return v * (1 + noise*(2*random.Float64()-1)) }
	r := &bench.Result{}
	for round := range rounds {
		for _, side := range []string{offSide, onSide} {
			f := off
			if side == onSide {
				f = on
			}
			r.Samples = append(r.Samples, bench.Sample{Scenario: "http-close", Target: side, Round: round, Requests: 1000,
				CPUUser: stray(f.cpu), Throughput: stray(f.rate), Latency: &bench.Latency{P50: stray(f.p99 / 4), P99: stray(f.p99)}})
		}
	}
	return r
}

var usual = figures{cpu: 30, rate: 20000, p99: 4000}

// measures is a measurement that runs both sides' preparations as the suite does, and finds what was injected.
func measures(r *bench.Result) func(context.Context, bench.Side, bench.Side) (*bench.Result, error) {
	return func(ctx context.Context, off, on bench.Side) (*bench.Result, error) {
		for _, side := range []bench.Side{off, on, on, off} {
			if side.Before != nil {
				if err := side.Before(ctx); err != nil {
					return nil, err
				}
			}
		}
		return r, nil
	}
}

// proverAt is a prover of a tree with two sysctls.
func proverAt(t *testing.T, measure func(context.Context, bench.Side, bench.Side) (*bench.Result, error)) (p *prover, root string) {
	root, flags := tunedTree(t)
	h := tunedHost{root: root, state: flags[3]}
	c, err := h.changer(io.Discard)
	must(t, err)
	return &prover{changer: c, within: time.Hour, loops: 1, measure: measure}, root
}

func somaxconnOf(t *testing.T, root string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "proc/sys/net/core/somaxconn"))
	must(t, err)
	return strings.TrimSpace(string(b))
}

func assigned(t *testing.T, arg string) *knob {
	t.Helper()
	name, value, _ := strings.Cut(arg, "=")
	k, err := assign(name, value)
	must(t, err)
	return k
}

func TestProveFindsWhatIsThere(t *testing.T) {
	f := func(want outcome, says string, rounds int, on figures) {
		t.Helper()
		p, _ := proverAt(t, measures(turns(1, rounds, 0.03, usual, on)))
		got, err := p.prove(t.Context(), assigned(t, "net.core.somaxconn=65535"))
		must(t, err)
		if got.Verdict != want || !strings.Contains(got.figures(), says) {
			t.Errorf("%+v: %s, %q; want %s, %q", on, got.Verdict, got.figures(), want, says)
		}
	}
	f(helps, "http-close cpu-µs/req -", 12, figures{24, 20000, 4000})
	f(helps, "http-close req/s +", 12, figures{30, 30000, 4000})
	f(helps, "http-close p99-µs -", 12, figures{30, 20000, 2000})
	f(harms, "http-close cpu-µs/req +", 12, figures{36, 20000, 4000})
	f(harms, "http-close p99-µs +", 12, figures{30, 20000, 6000})
	f(mixed, "http-close p99-µs +", 12, figures{24, 20000, 6000})
	f(unshown, "", 12, usual)
	f(unshown, "", 12, figures{29.7, 20100, 4000}) // 1 % is below what counts
	f(unshown, "too few rounds", 5, figures{10, 60000, 1000})
}

// Of 400 knobs that do nothing, under noise of 10 % to either side, the gates and the test let hardly one through.
func TestProveFindsNothingWhereNothingIs(t *testing.T) {
	found := 0
	for seed := range uint64(400) {
		r := turns(seed, 12, 0.1, usual, usual)
		if judge(bench.CompareTargets(r, offSide, onSide)) != unshown {
			found++
		}
	}
	if found > 4 { // 4 figures at p < 0.005 would be 8, without the gates
		t.Errorf("%d of 400", found)
	}
}

func TestProveRanks(t *testing.T) {
	var proofs []*proof
	for name, on := range map[string]figures{"a little": {27, 20000, 4000}, "nothing": usual, "much": {15, 20000, 4000}, "harm": {45, 20000, 4000}} {
		c := bench.CompareTargets(turns(3, 12, 0.02, usual, on), offSide, onSide)
		proofs = append(proofs, &proof{knob: &knob{Name: name}, Verdict: judge(c), Rows: c.Rows})
	}
	proofs = append(proofs, &proof{knob: &knob{Name: "no"}, Verdict: untried, Why: "no"})
	rank(proofs)
	var names []string
	for _, p := range proofs {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, ", "); got != "much, a little, nothing, harm, no" {
		t.Error(got)
	}
}

// Each side has its own state of the host, in every turn; and whatever ends the trial, the host is as it was.
func TestProveLeavesTheHostAsItWas(t *testing.T) {
	broken := errors.New("the measurement broke")
	for name, x := range map[string]struct {
		ends func(ctx context.Context, stop func(), off, on bench.Side) error
		want outcome
	}{
		"to its end": {func(context.Context, func(), bench.Side, bench.Side) error { return nil }, unshown},
		"broken while it is on": {func(ctx context.Context, _ func(), _, on bench.Side) error {
			return errors.Join(broken, on.Before(ctx))
		}, failed},
		"interrupted": {func(ctx context.Context, stop func(), _, on bench.Side) error {
			err := on.Before(ctx)
			stop()
			return errors.Join(err, ctx.Err())
		}, failed},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var p *prover
			var root string
			p, root = proverAt(t, func(ctx context.Context, off, on bench.Side) (*bench.Result, error) {
				for _, turn := range []struct {
					bench.Side
					want string
				}{{off, "4096"}, {on, "65535"}, {on, "65535"}, {off, "4096"}, {on, "65535"}} {
					if err := turn.Before(ctx); err != nil {
						return nil, err
					}
					if got := somaxconnOf(t, root); got != turn.want {
						t.Errorf("in a turn of %s it is %s", turn.Name, got)
					}
				}
				return turns(1, 12, 0.01, usual, usual), x.ends(ctx, stop, off, on)
			})
			got, err := p.prove(ctx, assigned(t, "net.core.somaxconn=65535"))
			if got.Verdict != x.want || (err != nil) != (ctx.Err() != nil) {
				t.Errorf("%s (%s), %v", got.Verdict, got.Why, err)
			}
			left, _ := filepath.Glob(filepath.Join(p.changer.State, "pending*"))
			if now := somaxconnOf(t, root); now != "4096" || len(left) > 0 {
				t.Errorf("it is %s, and %v is left", now, left)
			}
		})
	}
}

// A prover that is killed leaves a watcher behind, which reverts.
func TestProveKilled(t *testing.T) {
	t.Setenv(tuneEnv, "1")
	p, root := proverAt(t, nil)
	p.within = 100 * time.Millisecond
	p.watch = func(id string) error {
		return hostchange.Spawn(filepath.Join(p.changer.State, "watch.log"), self(), "tune", "watch", "--root", root, "--state", p.changer.State, id)
	}
	plan := hostchange.NewPlan(p.changer.Host, assigned(t, "net.core.somaxconn=65535").Settings, func(s hostchange.Setting, why error) { t.Error(s, why) })
	must(t, p.apply(plan))
	eventually(t, "the watcher reverts", func() bool {
		left, _ := filepath.Glob(filepath.Join(p.changer.State, "pending*"))
		return somaxconnOf(t, root) == "4096" && len(left) == 0
	})
	if err := p.cancel(); !errors.Is(err, errGone) {
		t.Errorf("a turn whose change was reverted meanwhile: %v", err)
	}
}

// Somebody's change that waits for its confirmation is not touched.
func TestProveBesideAnothersChange(t *testing.T) {
	p, root := proverAt(t, measures(turns(1, 12, 0.01, usual, usual)))
	rmem := assigned(t, "net.ipv4.tcp_rmem=4096 262144 16777216")
	_, err := p.changer.Apply(hostchange.NewPlan(p.changer.Host, rmem.Settings, func(s hostchange.Setting, why error) { t.Error(s, why) }), hostchange.ApplyOptions{Within: time.Hour})
	must(t, err)
	got, err := p.prove(t.Context(), assigned(t, "net.core.somaxconn=65535"))
	must(t, err)
	if got.Verdict != failed || !strings.Contains(got.Why, "waits for its confirmation") {
		t.Errorf("%s: %s", got.Verdict, got.Why)
	}
	if drift, err := p.changer.Verify(nil); err != nil || len(drift) > 0 || somaxconnOf(t, root) != "4096" {
		t.Errorf("%v, %v", drift, err)
	}
}

// Kept is what helps, if it helps again in the company of all others that do; and what was confirmed before stays.
func TestProveKeeps(t *testing.T) {
	better, worse := figures{24, 20000, 4000}, figures{24, 20000, 6000}
	f := func(again figures, wantKept bool) {
		t.Helper()
		var tried int
		p, root := proverAt(t, nil)
		p.measure = func(ctx context.Context, off, on bench.Side) (*bench.Result, error) {
			tried++
			r := turns(uint64(tried), 12, 0.02, usual, []figures{better, worse, better, again}[tried-1])
			return measures(r)(ctx, off, on)
		}
		var out strings.Builder
		knobs := []*knob{assigned(t, "net.core.somaxconn=65535"), assigned(t, "net.ipv4.tcp_rmem=4096 262144 16777216"), assigned(t, "GOGC=400")}
		must(t, proveAll(t.Context(), &out, p, knobs, true, ""))
		conf, _ := os.ReadFile(filepath.Join(root, "etc/sysctl.d/90-sluice.conf"))
		unit, _ := os.ReadFile(filepath.Join(root, "etc/systemd/system/sluice.service.d/90-sluice-tune.conf"))
		kept := somaxconnOf(t, root) == "65535" && strings.Contains(string(conf), "net.core.somaxconn = 65535") && strings.Contains(string(unit), "GOGC=400")
		if kept != wantKept || tried != 4 || strings.Contains(string(conf), "tcp_rmem") || !wantKept && len(conf)+len(unit) > 0 {
			t.Errorf("kept: %v, after %d trials\n%s\n%s\n%s", kept, tried, conf, unit, &out)
		}
		if !wantKept {
			return
		}
		// Another trial after that leaves what is kept.
		p.measure = measures(turns(1, 12, 0.01, usual, usual))
		_, err := p.prove(t.Context(), knobs[1])
		must(t, err)
		if drift, err := p.changer.Verify(nil); err != nil || len(drift) > 0 || somaxconnOf(t, root) != "65535" {
			t.Errorf("%v, %v", drift, err)
		}
		had, err := p.prove(t.Context(), knobs[0])
		must(t, err)
		if had.Verdict != untried || !strings.Contains(had.Why, "has this value already") {
			t.Errorf("%s: %s", had.Verdict, had.Why)
		}
	}
	f(better, true)
	f(usual, false)
	f(worse, false)
}

// Of two values of one thing that help, the one that helps more is kept.
func TestProveKeepsOneValueOfAThing(t *testing.T) {
	tried := 0
	p, root := proverAt(t, nil)
	p.measure = func(ctx context.Context, off, on bench.Side) (*bench.Result, error) {
		tried++
		if tried == 4 && strings.Join(on.Env, " ") != "GOGC=400" {
			t.Errorf("once more with %v", on.Env)
		}
		return measures(turns(uint64(tried), 12, 0.02, usual, figures{[]float64{28, 20, 20, 15}[tried-1], 20000, 4000}))(ctx, off, on)
	}
	var out strings.Builder
	must(t, proveAll(t.Context(), &out, p, []*knob{assigned(t, "GOGC=200"), assigned(t, "GOGC=400"), assigned(t, "net.core.somaxconn=9000")}, true, ""))
	if somaxconnOf(t, root) != "9000" || !strings.Contains(out.String(), "GOGC=400") {
		t.Errorf("%s", &out)
	}
}

// What cannot be tried here is said, and nothing of it is measured.
func TestProveSaysWhatItCannotTry(t *testing.T) {
	p, _ := proverAt(t, func(context.Context, bench.Side, bench.Side) (*bench.Result, error) {
		return nil, errors.New("measured")
	})
	f := func(arg, why string) {
		t.Helper()
		got, err := p.prove(t.Context(), assigned(t, arg))
		must(t, err)
		if got.Verdict != untried || !strings.Contains(got.Why, why) {
			t.Errorf("%s: %s: %s", arg, got.Verdict, got.Why)
		}
	}
	f("eth0/rx-ring=4096", "over the loopback")
	f("eth0/mtu=9000", "over the loopback")
	f("/proc/irq/24/smp_affinity=1", "over the loopback")
	f("/sys/class/net/eth0/queues/rx-0/rps_cpus=1", "over the loopback")
	f("net.core.somaxconn=4096", "has this value already")
	f("net.core.nothing=1", "this host has no")
	f("net.core.somaxconn=-5", "outside of the kernel's range")
	t.Setenv("GOGC", "400")
	f("GOGC=400", "has this value already")
	must(t, os.Setenv("GOGC", ""))
	if got, err := p.prove(t.Context(), assigned(t, "GOGC=400")); err != nil || got.Verdict != failed || got.Why != "measured" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestProveWrongUse(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		status, _, errs := tuned(t, append([]string{"prove"}, args...)...)
		if status != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%v: status %d, %q, without %q", args, status, errs, want)
		}
	}
	f("which knob?")
	f(`did you mean "net.core.somaxconn"?`, "net.core.somaxcon")
	f("did you mean http-close", "-s", "http-clos", "GOGC=200")
	f("must be positive", "--rounds", "0", "GOGC=200")
	f("a .html or a .json file", "-o", "report.pdf", "GOGC=200")
	f("number of loops", "process.loops=none")
	f("engine", "engine.loops: 1}=2")
	f("no whole number", "eth0/mtu=much")
	f("is no sysctl", "what is this=2")
}
