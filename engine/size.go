package engine

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

// UnmarshalText takes a whole number of bytes, or of KiB, MiB, GiB or TiB: 4096, 256MiB, 1GiB.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || n > uint64(math.MaxInt64/u.bytes) {
			break
		}
		*s = Size(int64(n) * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size: a whole number of bytes, KiB, MiB, GiB or TiB, as in 4096, 256MiB or 1GiB", text)
}

// String is the size in the largest unit that makes it a whole number.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if n := int64(s) / u.bytes; n != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(n, 10) + u.name
		}
	}
	return "0"
}
