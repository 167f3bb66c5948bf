package filter

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"sluice/engine"
)

// Rate is how many requests, or units of their cost, come back per second; 0 is none given.
type Rate float64

// UnmarshalText takes what engine.Rate takes, a number per day, and k and M behind the number: 1000/s, 10k/m, 1M/d.
func (r *Rate) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), "/")
	per := 1.0
	if unit == "d" {
		unit, per = "h", 24
	}
	for suffix, power := range map[string]string{"k": "e3", "M": "e6"} {
		if n, ok := strings.CutSuffix(number, suffix); ok && n != "" && n[len(n)-1] >= '0' && n[len(n)-1] <= '9' {
			number = n + power
		}
	}
	var e engine.Rate
	if err := e.UnmarshalText([]byte(number + "/" + unit)); err != nil {
		return fmt.Errorf("%q is not a rate: a number per second, minute, hour or day, as in 1000/s, 60/m, 5/h or 1M/d, "+
			"of more than 0 and at most 1M/s", text)
	}
	*r = Rate(float64(e) / per)
	return nil
}

// String is the rate per second, minute, hour or day, in the first of them in which it is a whole number.
func (r Rate) String() string {
	for _, u := range []struct {
		per  float64
		unit string
	}{{1, "/s"}, {60, "/m"}, {3600, "/h"}, {86400, "/d"}} {
		n := float64(r) * u.per
		if whole := math.Round(n); whole != 0 && math.Abs(n-whole) < 1e-9*whole {
			return strconv.FormatFloat(whole, 'f', -1, 64) + u.unit
		}
	}
	return strconv.FormatFloat(float64(r), 'g', 6, 64) + "/s"
}
