package host

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Value is one fact: its text, without white space around it, or why it is unknown.
type Value struct {
	Text    string
	Unknown string // empty if it is known
	Denied  bool   // unknown because this user may not read it
}

// Known says whether there is a text.
func (v Value) Known() bool { return v.Unknown == "" }

// Int is the value as an integer; false if it is none, or unknown.
func (v Value) Int() (int64, bool) {
	n, err := strconv.ParseInt(v.Text, 10, 64)
	return n, err == nil && v.Known()
}

// Ints are the integers of which the value is made; false if something else is among them.
func (v Value) Ints() ([]int64, bool) {
	var all []int64
	for _, field := range strings.Fields(v.Text) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, false
		}
		all = append(all, n)
	}
	return all, len(all) > 0 && v.Known()
}

// Chosen is the one in brackets of "always [madvise] never", and the text itself if there are none.
func (v Value) Chosen() string {
	if _, rest, ok := strings.Cut(v.Text, "["); ok {
		if chosen, _, ok := strings.Cut(rest, "]"); ok {
			return chosen
		}
	}
	return v.Text
}

// Text reads a file, by its path from the root without a leading slash.
func (h *Host) Text(path string) Value {
	data, err := fs.ReadFile(h.fsys, path)
	switch {
	case err == nil:
		return Value{Text: strings.TrimSpace(string(data))}
	case errors.Is(err, fs.ErrNotExist):
		return Value{Unknown: "/" + path + " is not there"}
	case errors.Is(err, fs.ErrPermission):
		return Value{Unknown: "/" + path + " may not be read by this user", Denied: true}
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return Value{Unknown: fmt.Sprintf("/%s cannot be read: %v", path, err)}
}

// Sysctl reads a kernel setting by its name with dots: net.core.somaxconn.
func (h *Host) Sysctl(key string) Value {
	return h.Text("proc/sys/" + strings.ReplaceAll(key, ".", "/"))
}

// Int reads a file that holds one integer.
func (h *Host) Int(path string) (int64, bool) { return h.Text(path).Int() }

// Names are what a directory holds, sorted; none if it is not there or may not be read.
func (h *Host) Names(dir string) []string {
	entries, _ := fs.ReadDir(h.fsys, dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// Has says whether something is at path, of whatever kind.
func (h *Host) Has(path string) bool {
	_, err := fs.Stat(h.fsys, path)
	return err == nil
}

// maxListed bounds the numbers of a list: the kernel knows fewer processors (NR_CPUS).
const maxListed = 8192

// ParseList reads the kernel's lists of numbers, "0-3,8,10-11"; false if it is none. An empty text is the empty list.
func ParseList(text string) ([]int, bool) {
	var all []int
	if text = strings.TrimSpace(text); text == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(last)
		}
		if err != nil || a < 0 || b < a || len(all)+b-a >= maxListed {
			return nil, false
		}
		for n := a; n <= b; n++ {
			all = append(all, n)
		}
	}
	return all, true
}

// FormatList is the kernel's form of a list: sorted, consecutive numbers as a range.
func FormatList(all []int) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(all)))
	var b strings.Builder
	for i := 0; i < len(sorted); {
		j := i
		for j+1 < len(sorted) && sorted[j+1] == sorted[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(sorted[i]))
		if j > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(sorted[j]))
		}
		i = j + 1
	}
	return b.String()
}

// ParseMask reads the kernel's bit masks of processors, "ff" or "00000001,ffffffff": words of 32 bits, highest first.
func ParseMask(text string) ([]int, bool) {
	words := strings.Split(strings.TrimSpace(text), ",")
	if len(words)*32 > maxListed {
		return nil, false
	}
	var all []int
	for i := len(words) - 1; i >= 0; i-- {
		word, err := strconv.ParseUint(words[i], 16, 32)
		if err != nil {
			return nil, false
		}
		for bit := range 32 {
			if word&(1<<bit) != 0 {
				all = append(all, (len(words)-1-i)*32+bit)
			}
		}
	}
	return all, true
}

// FormatMask is the mask with the bits of all set, in the kernel's form.
func FormatMask(all []int) string {
	words := []uint32{0}
	for _, n := range all {
		for n/32 >= len(words) {
			words = append(words, 0)
		}
		words[n/32] |= 1 << (n % 32)
	}
	slices.Reverse(words)
	var b strings.Builder
	fmt.Fprintf(&b, "%x", words[0])
	for _, word := range words[1:] {
		fmt.Fprintf(&b, ",%08x", word)
	}
	return b.String()
}
