package config

import (
	"fmt"
	"os"
	"strings"
)

// expand puts environment variables into a value.
func expand(s string) (string, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	var out strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			out.WriteString(s)
			return out.String(), nil
		}
		out.WriteString(s[:i])
		switch s[i+1] {
		case '$':
			out.WriteByte('$')
			s = s[i+2:]
			continue
		case '{':
		default:
			out.WriteByte('$')
			s = s[i+1:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("${ without }")
		}
		name, def, hasDef := strings.Cut(s[i+2:i+end], ":-")
		v, set := os.LookupEnv(name)
		switch {
		case set && (v != "" || !hasDef):
		case hasDef:
			v = def
		default:
			return "", fmt.Errorf("environment variable %s is not set; ${%s:-default} gives it a default", name, name)
		}
		out.WriteString(v)
		s = s[i+end+1:]
	}
}
