package jsonedit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheck(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		doc  string
		want error
	}{
		{`{}`, nil}, {`[]`, nil}, {`null`, nil}, {`true`, nil}, {`false`, nil}, {`""`, nil}, {`0`, nil}, {`-0`, nil},
		{" \t\r\n{ \"a\" : [ 1 , -2.5e+10 , 0E0 , 1e400 ] } \n", nil},
		{`{"a":1,"a":2}`, nil},
		{`"\ud83d\ude00 \ud83d \u0000"`, nil},
		{"123456789012345678901234567890" + strings.Repeat("1", 1000), nil},
		{``, ErrSyntax}, {` `, ErrSyntax}, {`{}{}`, ErrSyntax}, {`{} x`, ErrSyntax}, {`{`, ErrSyntax}, {`[`, ErrSyntax}, {`"`, ErrSyntax},
		{`{"a"}`, ErrSyntax}, {`{"a":}`, ErrSyntax}, {`{"a":1,}`, ErrSyntax}, {`[1,]`, ErrSyntax}, {`[,1]`, ErrSyntax}, {`{a:1}`, ErrSyntax},
		{`{'a':1}`, ErrSyntax}, {`[1 2]`, ErrSyntax}, {`{"a":1]`, ErrSyntax}, {`[1}`, ErrSyntax}, {`{"a":1 "b":2}`, ErrSyntax},
		{`NaN`, ErrSyntax}, {`[NaN]`, ErrSyntax}, {`Infinity`, ErrSyntax}, {`-Infinity`, ErrSyntax}, {`nan`, ErrSyntax}, {`nul`, ErrSyntax},
		{`01`, ErrSyntax}, {`-`, ErrSyntax}, {`+1`, ErrSyntax}, {`.5`, ErrSyntax}, {`1.`, ErrSyntax}, {`1e`, ErrSyntax}, {`1e+`, ErrSyntax}, {`0x1`, ErrSyntax},
		{`"\x"`, ErrSyntax}, {`"\u12"`, ErrSyntax}, {`"\u12g4"`, ErrSyntax}, {"\"\n\"", ErrSyntax}, {"\"\x00\"", ErrSyntax}, {`"\`, ErrSyntax},
		{`/**/{}`, ErrSyntax}, {"\ufeff{}", ErrSyntax}, {"\v{}", ErrSyntax}, {"[]\x00", ErrSyntax},
		{"\"\xff\"", ErrUTF8}, {"\"\xed\xa0\x80\"", ErrUTF8}, {"\"\xc0\xaf\"", ErrUTF8},
		{nested(MaxDepth), nil}, {nested(MaxDepth + 1), ErrDepth}, {strings.Repeat("[", 1<<20), ErrDepth},
		{strings.Repeat(`{"a":`, 1<<20), ErrDepth}, {strings.Repeat("[[", MaxDepth) + "x", ErrDepth},
	} {
		if err := Check([]byte(c.doc)); !errors.Is(err, c.want) {
			t.Errorf("%.60q: %v, not %v", c.doc, err, c.want)
		}
	}
}

// The oracle is the standard library, which lets pass what is not UTF-8, and nests to 10,000.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":[1,"\u00e9",null]}`, `[1e5,-0.1,true]`, "\"\xff\"", `{"a":1,}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		err := Check(doc)
		if want := json.Valid(doc) && utf8.Valid(doc); (err == nil) != want && err != ErrDepth {
			t.Errorf("%q: %v", doc, err)
		}
	})
}
