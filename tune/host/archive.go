package host

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"
)

// maxFiles bounds what an archive expands to.
const maxFiles = 1 << 18

// Archive is a recording in one file: a txtar archive (golang.org/x/tools/txtar) in which much is said once.
//
//	-- proc/sys/* --                       a member named DIR/* has a line per file: its path below DIR, then its text
//	net/core/somaxconn 4096
//	-- sys/devices/system/cpu/cpu{0-15,32-47}/* --     a range stands for as many members
//	topology/physical_package_id 0
//	topology/core_id {%32}                 {} is the range's number n, {+K} n+K, {%K} n modulo K, {/K} n divided by K
//	topology/thread_siblings_list {%32},{%32+32}       and one after the other, from the left
//
// A later member replaces an earlier one of the same path.
func Archive(data []byte) (fs.FS, error) {
	whole, at := &txtar.Archive{}, map[string]int{}
	put := func(name, text string) error {
		if !fs.ValidPath(name) || name == "." {
			return fmt.Errorf("%q is no path of a recording", name)
		}
		file := txtar.File{Name: name, Data: []byte(text)}
		if i, ok := at[name]; ok {
			whole.Files[i] = file
			return nil
		}
		if len(at) >= maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		at[name] = len(whole.Files)
		whole.Files = append(whole.Files, file)
		return nil
	}
	for _, member := range txtar.Parse(data).Files {
		err := expand(member.Name, string(member.Data), func(name, text string) error {
			dir, each := strings.CutSuffix(name, "/*")
			if !each {
				return put(name, text)
			}
			for line := range strings.Lines(text) {
				if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				below, text, _ := strings.Cut(line, " ")
				if err := put(path.Join(dir, below), strings.TrimSpace(text)+"\n"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return txtar.FS(whole)
}

// expand calls f for each number of the range in name, or once.
func expand(name, text string, f func(name, text string) error) error {
	before, rest, ok := strings.Cut(name, "{")
	list, after, closed := strings.Cut(rest, "}")
	if !ok {
		return f(name, text)
	}
	numbers, valid := ParseList(list)
	if !closed || !valid {
		return fmt.Errorf("%q: a range like {0-3,8} is wanted", name)
	}
	for _, n := range numbers {
		filled, err := fill(text, n)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := f(before+strconv.Itoa(n)+after, filled); err != nil {
			return err
		}
	}
	return nil
}

// fill replaces the braces of text by what they make of n.
func fill(text string, n int) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		steps, after, ok := strings.Cut(rest, "}")
		v := n
		for ok && steps != "" {
			end := 1
			for end < len(steps) && steps[end] >= '0' && steps[end] <= '9' {
				end++
			}
			k, err := strconv.Atoi(steps[1:end])
			switch {
			case err != nil:
				ok = false
			case steps[0] == '+':
				v += k
			case steps[0] == '%' && k > 0:
				v %= k
			case steps[0] == '/' && k > 0:
				v /= k
			default:
				ok = false
			}
			steps = steps[end:]
		}
		if !ok {
			return "", fmt.Errorf("{%s: {}, {+K}, {%%K} or {/K} is wanted", rest[:min(len(rest), 12)])
		}
		b.WriteString(strconv.Itoa(v))
		text = after
	}
}
