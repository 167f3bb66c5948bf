package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// BuildRevision builds the sluice of a git revision of the checkout around the working directory into dir, as name;
// empty is the working tree as it is. It returns the binary.
func BuildRevision(ctx context.Context, dir, name, rev string) (string, error) {
	return buildRevision(ctx, dir, name, rev)
}

// buildRevision builds with more of go build's flags.
func buildRevision(ctx context.Context, dir, name, rev string, flags ...string) (string, error) {
	top, err := output(ctx, "", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	src := top
	if rev != "" {
		src = filepath.Join(dir, name+"-src")
		if _, err := output(ctx, top, "git", "worktree", "add", "--detach", src, rev); err != nil {
			return "", fmt.Errorf("check out %s: %w", rev, err)
		}
		defer func() { _, _ = output(context.WithoutCancel(ctx), top, "git", "worktree", "remove", "--force", src) }()
	}
	binary := filepath.Join(dir, name)
	made, err := output(ctx, src, "git", "describe", "--always", "--dirty=+", "--abbrev=12")
	if err != nil {
		return "", err
	}
	revision := "-X sluice/cmd/cli.gitRevision=" + made + " -X main.gitRevision=" + made // where it is, and where it was once
	args := append([]string{"build", "-trimpath", "-ldflags", revision, "-o", binary}, flags...)
	if _, err := output(ctx, src, "go", append(args, "./cmd/sluice")...); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return binary, nil
}

// output runs a command in dir; its error ends with the last line that it wrote.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		lines := strings.Split(text, "\n")
		return "", fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	return text, nil
}

// Regress measures two binaries in turns, as targets base and head. self is the binary that serves as their origin.
func Regress(ctx context.Context, s *Suite, self, base, head string, cores, loops int) (*Result, error) {
	rig, err := NewRig(ctx, self, "", loops)
	if err != nil {
		return nil, err
	}
	defer rig.Close()
	for _, t := range []struct{ name, binary string }{{"base", base}, {"head", head}} {
		if err := rig.Sluice(ctx, t.name, t.binary, cores); err != nil {
			return nil, err
		}
	}
	r := NewResult("", rig)
	s.Origin, s.Targets, s.Chain, s.Trust = rig.Origin, rig.Targets, rig.Chain, rig.Trust
	if err := s.Run(ctx, r); err != nil {
		return nil, err
	}
	return r, r.Failed()
}
