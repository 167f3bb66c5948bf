package tune

import (
	"slices"
	"strconv"
	"strings"

	"sluice/tune/host"
)

// unit is the [Service] section of sluice.service as an administrator has written it, with its drop-ins: lines by key, in
// their order.
type unit map[string][]string

const unitFile = "etc/systemd/system/sluice.service"

// readUnit reads the service's unit and its drop-ins; false if there are none in /etc.
func readUnit(f *host.Facts) (unit, bool) {
	u := unit{}
	main := f.Text(unitFile)
	files := []host.Value{main}
	for _, name := range f.Names(unitFile + ".d") {
		if strings.HasSuffix(name, ".conf") {
			files = append(files, f.Text(unitFile+".d/"+name))
		}
	}
	for _, file := range files {
		section := ""
		for line := range strings.Lines(file.Text) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "[") {
				section = line
			}
			key, value, ok := strings.Cut(line, "=")
			if !ok || section != "[Service]" || strings.ContainsAny(line[:1], "#;") {
				continue
			}
			key, value = strings.TrimSpace(key), strings.TrimSpace(value)
			if value == "" {
				delete(u, key) // an empty line starts anew
				continue
			}
			u[key] = append(u[key], value)
		}
	}
	return u, main.Known() || len(u) > 0
}

// value is the last line of a key; empty if there is none.
func (u unit) value(key string) string {
	if lines := u[key]; len(lines) > 0 {
		return lines[len(lines)-1]
	}
	return ""
}

// env is a variable of the environment that the unit gives; empty if it gives none.
func (u unit) env(name string) (value string) {
	for _, line := range u["Environment"] {
		for _, word := range strings.Fields(line) {
			if v, ok := strings.CutPrefix(strings.Trim(word, `"'`), name+"="); ok {
				value = v
			}
		}
	}
	return value
}

// hardLimit is the hard part of LIMIT or SOFT:HARD; infinity is the most that fs.nr_open could be.
func hardLimit(text string) (int64, bool) {
	parts := strings.Split(text, ":")
	last := parts[len(parts)-1]
	if last == "infinity" {
		return 1<<30 - 1, true
	}
	n, err := strconv.ParseInt(last, 10, 64)
	return n, err == nil
}

// inUnit asks of the service's unit.
func inUnit(ask func(u unit, f *host.Facts, e Edge) []State) check {
	return func(_ string, f *host.Facts, e Edge) []State {
		u, ok := readUnit(f)
		if !ok {
			return moot("there is no /" + unitFile)
		}
		return ask(u, f, e)
	}
}

// variable is what the process will have in its environment: the unit's, or this process's if there is no unit.
func variable(name string, f *host.Facts, e Edge) string {
	if u, ok := readUnit(f); ok {
		return u.env(name)
	}
	return e.Env[name]
}

// list is the numbers of a unit's list of processors, "0-3 8"; false if it is none.
func (u unit) list(key string) ([]int, bool) {
	text := strings.Join(slices.Concat(u[key]), " ")
	if text == "" {
		return nil, false
	}
	return host.ParseList(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }), ","))
}
