package discovery

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// script is a source that says one thing after another, then waits for ever.
type script struct {
	steps []step
	again bool
	over  chan struct{}
}

type step struct {
	set []Endpoint
	err error
}

func (s *script) sayAgain() bool { return s.again }

func (s *script) ask(ctx context.Context) ([]Endpoint, time.Duration, error) {
	if len(s.steps) == 0 {
		close(s.over)
		<-ctx.Done()
		return of("10.9.9.9:9"), 0, errors.New("cut short") // must not be heard
	}
	next := s.steps[0]
	s.steps = s.steps[1:]
	return next.set, 0, next.err
}

// play follows a script to its end.
func play(t *testing.T, again bool, steps ...step) *watched {
	t.Helper()
	s := &script{steps: steps, again: again, over: make(chan struct{})}
	w := watch(t, s)
	select {
	case <-s.over:
	case <-time.After(patience):
		t.Fatal("the source is not asked on")
	}
	w.stop()
	return w
}

func TestOnlyChangesAreReported(t *testing.T) {
	weighted := func(n int) []Endpoint { return []Endpoint{{Address: "a:1", Weight: &n}} }
	w := play(t, false,
		step{set: of("b:1", "a:1")},
		step{set: of("a:1", "b:1")}, // another order
		step{},                      // nothing new
		step{set: of("b:1", "a:1")},
		step{set: []Endpoint{{Address: "a:1", State: Ready}, {Address: "b:1"}}}, // the default, said
		step{set: of("a:1")},
		step{set: weighted(1)}, // so is this
		step{set: weighted(2)},
		step{set: weighted(2)}, // another pointer to the same
		step{set: []Endpoint{{Address: "a:1", Zone: "z"}}},
		step{set: []Endpoint{}}, // all gone, in good order
		step{set: []Endpoint{}},
		step{set: of("a:1")},
	)
	w.next("a:1", "b:1")
	w.next("a:1")
	w.next("a:1 weight 2")
	w.next("a:1 zone z")
	w.next()
	w.next("a:1")
	w.none()
	if lines := w.log.lines(); lines != nil {
		t.Errorf("logged %q", lines)
	}
}

func TestNothingIsReportedBeforeSomethingIsKnown(t *testing.T) {
	w := play(t, false, step{err: errors.New("no")}, step{}, step{set: []Endpoint{}})
	w.next() // that there are none is something
	w.none()
}

func TestFailuresAreLoggedWhenTheyBeginAndEnd(t *testing.T) {
	no, never := errors.New("no"), errors.New("never")
	f := func(again bool, steps []step, want ...string) {
		t.Helper()
		w := play(t, again, steps...)
		if got := w.log.lines(); !slices.Equal(got, want) {
			t.Errorf("again %v: logged\n%q, want\n%q", again, got, want)
		}
	}
	const (
		unknown = `msg="discovery failed: no endpoints are known yet" error=no`
		kept    = `msg="discovery failed: the last good endpoints are kept" error=no endpoints=1`
		never1  = `msg="discovery failed: the last good endpoints are kept" error=never endpoints=1`
		inPart  = `msg="discovery failed in part" error=no endpoints=1`
		good    = `msg="discovery is good again" endpoints=1`
	)
	a := of("a:1")
	f(false, []step{{err: no}, {err: never}, {err: no}, {set: a}, {set: a}, {}}, unknown, good)
	f(false, []step{{set: a}, {err: no}, {err: never}, {err: no}, {}, {}, {err: no}}, kept, good, kept)
	f(true, []step{{set: a}, {err: no}, {err: no}, {err: never}, {err: never}, {err: no}, {}}, kept, never1, kept, good)
	f(false, []step{{set: a, err: no}, {set: a, err: never}, {err: no}, {set: a, err: no}, {set: a}}, inPart, kept, inPart, good)
}

func TestBackOffGrowsToItsBoundAndBegins(t *testing.T) {
	b := backoff{first: 100, most: 450}
	f := func(want time.Duration) {
		t.Helper()
		if got := b.next(); got < want-want/10 || got > want {
			t.Errorf("waits %d, want %d, less a tenth at most", got, want)
		}
	}
	for range 3 {
		f(100)
		f(200)
		f(400)
		f(450)
		f(450)
		b.reset()
	}
}
