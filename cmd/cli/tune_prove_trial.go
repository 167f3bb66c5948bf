package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/bench"
	hostchange "sluice/tune/change"
)

// outcome is what a trial says of a knob.
type outcome string

// From the best to the worst, as they are ranked.
const (
	helps   outcome = "helps"               // something is better, and nothing worse
	mixed   outcome = "helps and harms"     // something is better, and something worse
	unshown outcome = "no difference shown" // which is not to say that there is none
	harms   outcome = "harms"
	failed  outcome = "failed" // the trial did not come to its end
	untried outcome = "not tried"
	offSide         = "off"
	onSide          = "on"
)

var ranks = []outcome{helps, mixed, unshown, harms, failed, untried}

// proof is what came of a knob.
type proof struct {
	*knob
	Verdict outcome        `json:"verdict"`
	Why     string         `json:"why,omitempty"` // it failed, or was not tried
	Rows    []bench.Change `json:"comparison,omitempty"`
	Result  *bench.Result  `json:"result,omitempty"`
}

// judge is the verdict of a comparison.
func judge(c *bench.Comparison) outcome {
	better := slices.ContainsFunc(c.Rows, func(r bench.Change) bool { return r.Better })
	worse := slices.ContainsFunc(c.Rows, func(r bench.Change) bool { return r.Worse })
	switch {
	case better && worse:
		return mixed
	case better:
		return helps
	case worse:
		return harms
	}
	return unshown
}

// gain is the largest share by which something got better, or if nothing did the largest loss, below zero.
func (p *proof) gain() (most float64) {
	for _, r := range p.Rows {
		if r.Better {
			most = max(most, -r.Delta)
		}
	}
	if most > 0 {
		return most
	}
	for _, r := range p.Rows {
		if r.Worse {
			most = min(most, -r.Delta)
		}
	}
	return most
}

// rank sorts proofs from what helps most to what was not tried.
func rank(proofs []*proof) {
	slices.SortStableFunc(proofs, func(a, b *proof) int {
		return cmp.Or(slices.Index(ranks, a.Verdict)-slices.Index(ranks, b.Verdict), cmp.Compare(b.gain(), a.gain()))
	})
}

// figures words what counts, or why nothing was measured.
func (p *proof) figures() string {
	if p.Why != "" {
		return p.Why
	}
	var out []string
	for _, r := range p.Rows {
		if r.Better || r.Worse {
			out = append(out, fmt.Sprintf("%s %s %+.1f %% (p %.4f)", r.Load, r.Metric, (r.New/r.Old-1)*100, r.P))
		}
	}
	if len(out) == 0 && !slices.ContainsFunc(p.Rows, func(r bench.Change) bool { return !r.Undecided }) {
		return "too few rounds: a difference needs at least 6"
	}
	return strings.Join(out, ", ")
}

// prover tries knobs on a host. Whatever happens it leaves the host as it was, but for what keep keeps: by itself, or when the
// process is killed by the watcher of the change that waits.
type prover struct {
	changer *hostchange.Changer
	watch   func(id string) error
	within  time.Duration // in which the watcher reverts what a killed process has left: more than a turn takes
	loops   int
	measure func(ctx context.Context, off, on bench.Side) (*bench.Result, error)

	on bool // a change of ours waits
}

// prove tries one knob. The error is that the host could not be restored, or that ctx has ended: nothing more is to be tried then.
func (p *prover) prove(ctx context.Context, k *knob) (*proof, error) {
	out := &proof{knob: k, Verdict: untried, Why: k.Obstacle}
	if k.Obstacle != "" {
		return out, nil
	}
	plan := hostchange.NewPlan(p.changer.Host, k.runtime(), func(s hostchange.Setting, why error) {
		out.Why = cmp.Or(out.Why, s.String()+": "+why.Error())
	})
	if len(plan.Settings) < len(k.runtime()) && (len(plan.Settings) == 0 || !strings.HasSuffix(out.Why, "has this value already")) {
		return out, nil
	}
	out.Why = ""
	if err := p.able(plan); err != nil {
		out.Why = err.Error()
		return out, nil
	}
	off := bench.Side{Name: offSide, Loops: p.loops}
	on := bench.Side{Name: onSide, Loops: cmp.Or(k.loops, p.loops), Env: k.env, Engine: k.engine}
	if len(plan.Settings) > 0 {
		off.Before = func(context.Context) error { return p.cancel() }
		on.Before = func(context.Context) error { return p.apply(plan) }
	}
	var err error
	out.Result, err = p.measure(ctx, off, on)
	restored := p.cancel()
	if out.Result != nil {
		out.Rows = bench.CompareTargets(out.Result, offSide, onSide).Rows
	}
	switch {
	case err != nil:
		out.Verdict, out.Why = failed, err.Error()
	default:
		out.Verdict = judge(&bench.Comparison{Rows: out.Rows})
	}
	if restored != nil {
		return out, fmt.Errorf("after the trial of %s: %w; try sluice tune revert", k.title(), restored)
	}
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	return out, nil
}

// able says why a plan could not be applied, without applying it.
func (p *prover) able(plan *hostchange.Plan) error {
	if len(plan.Settings) == 0 {
		return nil
	}
	_, err := p.changer.Apply(plan, hostchange.ApplyOptions{DryRun: true})
	return err
}

// apply puts the host into the state of a plan, for one turn.
func (p *prover) apply(plan *hostchange.Plan) error {
	if err := p.cancel(); err != nil {
		return err
	}
	pending, err := p.changer.Apply(plan, hostchange.ApplyOptions{Within: p.within, Watch: p.watch})
	p.on = pending
	return err
}

// errGone says that what a turn has set was not there any more at its end.
var errGone = errors.New("what was tried was reverted by somebody else meanwhile")

// cancel takes back what apply has done. It does nothing to a change that is not ours.
func (p *prover) cancel() error {
	if !p.on {
		return nil
	}
	changed, err := p.changer.Cancel()
	if err != nil {
		return err
	}
	p.on = false
	if !changed {
		return errGone
	}
	return nil
}

// keep measures all that help, ranked, once more and together, and keeps them if they help again and nothing is worse. What is chosen of many
// by its figures has good luck in them: the second measurement has not. kept is nil if there was nothing to keep.
func (p *prover) keep(ctx context.Context, proofs []*proof) (kept *proof, err error) {
	all := &knob{}
	var names, byHand []string
	for _, one := range proofs {
		if one.Verdict != helps || all.clashes(one.knob) { // of two values of one thing the one that helps more
			continue
		}
		all.Settings = append(all.Settings, one.Settings...)
		all.env, all.engine, all.loops = append(all.env, one.env...), append(all.engine, one.engine...), cmp.Or(all.loops, one.loops)
		names = append(names, one.title())
		if one.ByHand != "" {
			byHand = append(byHand, one.ByHand)
		}
	}
	all.Name, all.ByHand = "once more: "+strings.Join(names, ", "), strings.Join(byHand, "; ")
	if len(names) == 0 {
		return nil, nil
	}
	kept, err = p.prove(ctx, all)
	if err != nil || kept.Verdict != helps || len(all.Settings) == 0 {
		return kept, err
	}
	plan := hostchange.NewPlan(p.changer.Host, all.Settings, func(hostchange.Setting, error) {})
	if _, err := p.changer.Apply(plan, hostchange.ApplyOptions{Within: p.within, Watch: p.watch}); err != nil {
		return kept, err
	}
	p.on = true
	if err := p.changer.Confirm(); err != nil {
		return kept, errors.Join(err, p.cancel())
	}
	p.on = false
	return kept, nil
}
