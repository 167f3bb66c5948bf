package bench

import (
	"context"
	"fmt"
)

// Side is one of the two ways to run a sluice that a trial compares.
type Side struct {
	Name   string
	Loops  int
	Env    []string // NAME=VALUE, beside this process's environment
	Engine []string // more of the configuration's engine, as in "affinity: auto"
	// Before puts the host into the state of this side, before each of its turns; nil: there is nothing to do.
	Before func(ctx context.Context) error
}

// engine is the rest of the configuration's engine.
func (s *Side) engine() (text string) {
	for _, e := range s.Engine {
		text += ", " + e
	}
	return text
}

// Trial measures a binary in two ways in turns: A B, B A, A B … self serves as the origin, with as many loops as the generator.
// Each turn has a process of its own: what a process has for its whole life, its place in memory, the seeds of its maps, differs
// from turn to turn, and is noise. Two processes measured ten times each would differ by it, time and again, and look different.
// On an error the result has what was measured before.
func Trial(ctx context.Context, s *Suite, self, binary string, a, b Side) (*Result, error) {
	rig, err := NewRig(ctx, self, "", s.Loops)
	if err != nil {
		return nil, err
	}
	defer rig.Close()
	for _, side := range []Side{a, b} {
		if err := rig.side(ctx, binary, side); err != nil {
			return nil, err
		}
		rig.Targets[len(rig.Targets)-1].turn = func(ctx context.Context, t *Target) error {
			if side.Before != nil {
				if err := side.Before(ctx); err != nil {
					return fmt.Errorf("before a turn of %s: %w", side.Name, err)
				}
			}
			return t.restart(ctx, t)
		}
	}
	r := NewResult("", rig)
	s.Origin, s.Targets, s.Chain, s.Trust = rig.Origin, rig.Targets, rig.Chain, rig.Trust
	if err := s.Run(ctx, r); err != nil {
		r.Partial = err.Error()
	}
	return r, r.Failed()
}
