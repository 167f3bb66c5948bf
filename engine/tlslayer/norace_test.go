//go:build !race

package tlslayer

const raced = false
