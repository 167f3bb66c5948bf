//go:build !race

package filter

// raced says that the race detector is on, which has pools forget.
const raced = false
