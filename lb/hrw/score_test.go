package hrw

import (
	"math"
	"math/rand/v2"
	"testing"
)

// draws calls f with u·2⁵³: the ends, the powers of two and what lies beside them, √½ and such, and many at random.
func draws(f func(u float64)) {
	near := func(u float64) {
		for d := -3.0; d <= 3; d++ {
			if v := math.Floor(u) + d; v >= 0 && v < 1<<53 {
				f(v)
			}
		}
	}
	for k := range 54 {
		near(math.Ldexp(1, k))
		near((1 << 53) - math.Ldexp(1, k))
		near((1 << 53) - math.Ldexp(math.Sqrt2, k-1))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		f(float64(random.Uint64N(1<<53) >> random.IntN(53)))
	}
}

func TestExponentialIsTheLogarithm(t *testing.T) {
	draws(func(u float64) {
		if got, want := exponential(u), -math.Log1p(-u/(1<<53)); math.Abs(got-want) > 1e-10*want {
			t.Errorf("%v: %v, want %v", u, got, want)
		}
	})
}

// What contendFor and Next take for granted when they dismiss, with a hundredth of the slack.
func TestExponentialIsNotBelowItsBound(t *testing.T) {
	draws(func(u float64) {
		if got := exponential(u); got*(1+0x1p-47) < u/(1<<53) {
			t.Errorf("%v: %v is less than %v", u, got, u/(1<<53))
		}
	})
}
