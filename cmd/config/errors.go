package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a file.
type Error struct {
	File         string
	Line, Column int // from 1; columns count characters
	Message      string
	Source       string // the line
}

func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Detail is the error with its line and a caret under the spot.
func (e Error) Detail() string {
	if e.Source == "" {
		return e.Error()
	}
	pad := []rune(e.Source)
	pad = pad[:min(len(pad), max(e.Column-1, 0))]
	for i, r := range pad {
		if r != '\t' {
			pad[i] = ' '
		}
	}
	return fmt.Sprintf("%s\n    %s\n    %s^", e.Error(), e.Source, string(pad))
}

// Errors are all that is wrong with a file.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Sort orders by position.
func (e Errors) Sort() {
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Nearest is the known word that is most like s, if one is like it at all.
func Nearest(s string, known []string) string {
	best, at := "", max(len(s)/3, 1)+1
	for _, k := range known {
		if d := distance(strings.ToLower(s), k); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: insertions, deletions, replacements, swaps of neighbours.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] || (a[i-1] == '-' && b[j-1] == '_') {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
