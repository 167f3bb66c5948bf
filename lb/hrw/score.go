package hrw

import "math"

// What is compared is not the score but the cost, its inverse: -ln(1-u)/w, an exponential variate of rate w, and the
// lowest wins.
//
// Tables must come out the same on every machine, so math.Log will not do: it is written in assembly on amd64 and
// s390x, elsewhere in Go, where compilers for arm64, ppc64, riscv64 and s390x fuse x*y+z into one operation, which rounds
// once and not twice. Here are only operations that IEEE 754 defines to the bit, and every product that is added to
// something is converted explicitly, which forbids fusing (Go specification, "Floating-point operators").

// draw is u·2⁵³ of an endpoint for a slot: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), made to tell
// counters apart, less the last shift, which would concern only bits that matter least.
func draw(hash uint64, slot int) float64 {
	z := hash ^ uint64(slot)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64(int64(z >> 11))
}

// slack makes a bound of a cost: -ln(1-u) is at least u, so one whose u is beyond cost·w can only cost more, and costs
// no logarithm. The few roundings on the way, of 2⁻⁵³ each, are far within the 2⁻⁴⁰ that the bound leaves, so nobody is
// dismissed who would have won. The other factor is draw's.
const slack = (1 + 0x1p-40) * 0x1p53

// exponential is -ln(1-u) for u·2⁵³, to 1 in 10¹⁰.
func exponential(u float64) float64 {
	// 1-u = m·2ᵉ with m from √½ to √2, so that e is 0 for small u, and 1-m is u then, exactly.
	const root = 0x3fe6a09e667f3bcd // √½
	bits := int64(math.Float64bits(1 - float64(u*0x1p-53)))
	e := (bits - root) >> 52
	m := math.Float64frombits(uint64(bits - e<<52))
	// -ln m = 2 artanh s = 2 (s + s³/3 + s⁵/5 + …), where s² is 0.03 at most.
	s := (1 - m) / (1 + m)
	z := float64(s * s)
	sum := float64(z*(1.0/11)) + 1.0/9
	sum = float64(sum*z) + 1.0/7
	sum = float64(sum*z) + 1.0/5
	sum = float64(sum*z) + 1.0/3
	s += float64(float64(s*z) * sum)
	return float64(2*s) - float64(float64(e)*math.Ln2)
}
