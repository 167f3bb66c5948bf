package sni

import "slices"

// maxName is the length of the longest host name there can be (RFC 1035, section 2.3.4).
const maxName = 255

// checkName says what is wrong with a host name in lower case without a dot at its end. Underscores are in no host
// name, but in many that are used.
func checkName(name []byte) error {
	if len(name) == 0 || len(name) > maxName {
		return errName
	}
	numeric := true
	for i, c := range name {
		switch {
		case c == '.':
			if i == 0 || i == len(name)-1 || name[i-1] == '.' {
				return errName
			}
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'z' || c == '-' || c == '_':
			numeric = false
		default:
			return errName // an IPv6 address has colons
		}
	}
	if numeric {
		return errAddress // in whatever form: 127.1 is one to some
	}
	return nil
}

func lower(p []byte) {
	for i, c := range p {
		if c >= 'A' && c <= 'Z' {
			p[i] = c | 0x20
		}
	}
}

// trimDot takes the dot off the end: a.test. is a.test, fully qualified.
func trimDot(name []byte) []byte {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	return slices.Clip(name)
}
