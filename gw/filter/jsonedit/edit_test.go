package jsonedit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// build reads an edit as "-path", "path>name" or "path=value", separated by spaces.
func build(t testing.TB, s string) (*Edit, error) {
	t.Helper()
	e := &Edit{}
	for _, w := range strings.Fields(s) {
		at := strings.IndexAny(w[1:], "=>") + 1
		if w[0] == '-' {
			at = len(w)
		}
		p, err := ParsePath(strings.TrimPrefix(w[:at], "-"))
		if err != nil {
			return nil, err
		}
		switch {
		case w[0] == '-':
			err = e.Remove(p)
		case w[at] == '>':
			err = e.Rename(p, w[at+1:])
		default:
			err = e.Set(p, []byte(w[at+1:]))
		}
		if err != nil {
			return nil, err
		}
	}
	return e, nil
}

func TestApply(t *testing.T) {
	for _, c := range []struct{ edit, doc, want string }{
		{``, ` {"a" : 1} `, `{"a" : 1}`},
		{`-a`, `{"a":1,"b":2}`, `{"b":2}`},
		{`-b`, `{"a":1, "b":2 }`, `{"a":1}`},
		{`-a`, `{"a":1}`, `{}`},
		{`-a`, `{}`, `{}`},
		{`-a`, `[1]`, `[1]`},
		{`-a`, `"a"`, `"a"`},
		{`-a.b`, `{"a":{"b":1,"c":{"b":2}},"b":3}`, `{"a":{"c":{"b":2}},"b":3}`},
		{`-a.b`, `{"a":"b"}`, `{"a":"b"}`},
		{`-a\.b`, `{"a":{"b":1},"a.b":2}`, `{"a":{"b":1}}`},
		{`-a.*.b`, `{"a":[{"b":1,"c":2},{"b":3},4]}`, `{"a":[{"c":2},{},4]}`},
		{`-a.*.b`, `{"a":{"x":{"b":1,"c":2},"y":{"b":3}}}`, `{"a":{"x":{"c":2},"y":{}}}`},
		{`-*.p`, `[{"p":1},{"p":2,"q":3}]`, `[{},{"q":3}]`},
		{`-a.\*`, `{"a":{"*":1,"b":2}}`, `{"a":{"b":2}}`},
		{`-a.*`, `{"a":[1,2]}`, `{"a":[]}`},
		{`-a.0`, `{"a":[1,2,3]}`, `{"a":[2,3]}`},
		{`-a.1 -a.2`, `{"a":[1,2,3]}`, `{"a":[1]}`},
		{`-a.0`, `{"a":{"0":1}}`, `{"a":{}}`},
		{`-a.00`, `{"a":[1]}`, `{"a":[1]}`},
		// What a name is called does not depend on how it is written; each of its copies goes.
		{`-admin`, `{"\u0061dm\u0069n":true,"x":1,"admin":2}`, `{"x":1}`},
		{`-é`, `{"\u00e9":1,"é":2}`, `{}`},
		{`-a"b`, `{"a\"b":1}`, `{}`},
		{`-a.b`, `{"a":{"b":1},"a":{"b":2,"c":3}}`, `{"a":{"c":3}}`},
		{`a>b`, `{"a":1,"c":2}`, `{"b":1,"c":2}`},
		{`a>b`, `{"b":0,"a":1,"b":3}`, `{"b":1}`},
		{`a>b`, `{"a":1,"a":2}`, `{"b":2}`},
		{`a>b`, `{"b":0,"c":1}`, `{"b":0,"c":1}`},
		{`x.a>b\"`, `{"x":{"a":{"a":1}}}`, `{"x":{"b\\\"":{"a":1}}}`},
		{`*.a>b`, `[{"a":1},{"b":2},{"a":3,"b":4}]`, `[{"b":1},{"b":2},{"b":3}]`},
		{`0.a>b`, `[{"a":1},{"a":2}]`, `[{"b":1},{"a":2}]`},
		{`a=2`, `{"a":{"b":1},"c":3}`, `{"a":2,"c":3}`},
		{`a=2`, `{"c":3}`, `{"c":3,"a":2}`},
		{`a=2`, `{}`, `{"a":2}`},
		{`a=2`, `{"a":1,"a":3,"\u0061":4}`, `{"\u0061":2}`},
		{`a.b.c=[1]`, `{}`, `{"a":{"b":{"c":[1]}}}`},
		{`a.b.c=1`, `{"a":{"b":null,"d":2}}`, `{"a":{"b":{"c":1},"d":2}}`},
		{`a.b=1`, `{"a":"text"}`, `{"a":{"b":1}}`},
		{`a.b=1`, `{"a":[1,2]}`, `{"a":{"b":1}}`},
		{`a.b=1 a.a=2`, `{"a":{}}`, `{"a":{"a":2,"b":1}}`},
		{`a.0=9`, `{"a":[1,2]}`, `{"a":[9,2]}`},
		{`a.5=9`, `{"a":[1,2]}`, `{"a":[1,2]}`},
		{`a.0=9`, `{}`, `{}`},
		{`a.*=9`, `{"a":[1,{"b":2}]}`, `{"a":[9,9]}`},
		{`a.*.k=9`, `{"a":[{"k":1},{}]}`, `{"a":[{"k":9},{"k":9}]}`},
		{`-x y>z w=1`, `{"z":0,"y":1,"x":2}`, `{"z":1,"w":1}`},
		// What is not changed stays as it came.
		{`-x`, `{"n":1234567890123456789012345678901234567890.10,"e":1E+400,"s":"\u00e9\/","d":{ "k" : 1 , "k":2}, "x":0}`,
			`{"n":1234567890123456789012345678901234567890.10,"e":1E+400,"s":"\u00e9\/","d":{ "k" : 1 , "k":2}}`},
	} {
		e, err := build(t, c.edit)
		if err != nil {
			t.Errorf("%s: %v", c.edit, err)
			continue
		}
		got, err := e.Apply([]byte("x"), []byte(c.doc))
		if string(got) != "x"+c.want || err != nil {
			t.Errorf("%s of %s: %s, %v, not %s", c.edit, c.doc, got, err, c.want)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, c := range []struct {
		edit, doc string
		want      error
	}{
		{`a=1`, `[1]`, ErrNotObject}, {`a=1`, `"a"`, ErrNotObject}, {`a=1`, `null`, ErrNotObject},
		{`-a`, `{"a":NaN}`, ErrSyntax}, {`-a`, "{\"\xff\":1}", ErrUTF8}, {`-a`, strings.Repeat(`{"a":`, 1000), ErrDepth},
	} {
		e, _ := build(t, c.edit)
		if got, err := e.Apply(nil, []byte(c.doc)); err != c.want || len(got) > 0 {
			t.Errorf("%s of %.60s: %q, %v, not %v", c.edit, c.doc, got, err, c.want)
		}
	}
}

func TestEditsThatContradict(t *testing.T) {
	for _, s := range []string{
		`-a -a`, `-a a=1`, `-a a.b=1`, `a.b=1 -a`, `a={} a.b=1`, `a>b -b`, `-b a>b`, `a>b b>a`, `a>c b>c`, `a>a`, `a>b b.c=1`, `a>b a.c=1`,
		`-a.* -a.b`, `-a.b -a.*`, `a.*>b`, `a=`, `a={`, `a=NaN`, `-`, `-a.`, `-.a`, `-a..b`, `-a\`,
		"-" + strings.Repeat("a.", 16) + "a",
	} {
		if _, err := build(t, s); err == nil {
			t.Errorf("%s is an edit", s)
		}
	}
}

func TestFind(t *testing.T) {
	doc := []byte(` {"a": {"b": [10, {"c": "x"}], "b2" : 1.50 }, "\u0061" : {"b":[7, {"c":"y"}]}, "n": null}`)
	for path, want := range map[string]string{
		"a.b.0": "7", "a.b.1.c": `"y"`, "a.b.2": "", "a.b.01": "", "a.b.x": "", "a.b2": "", "n": "null", "n.x": "", "x": "", "a.b.*": "",
		"a": `{"b":[7, {"c":"y"}]}`,
	} {
		p, err := ParsePath(path)
		if got := Find(doc, p); string(got) != want || err != nil {
			t.Errorf("%s: %q, not %q", path, got, want)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, s := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f</script>", "é 😀 \u2028\u2029", "\xff\xc0a\xed\xa0\x80"} {
		quoted := AppendString(nil, s)
		var want string
		if err := json.Unmarshal(quoted, &want); err != nil || want != string([]rune(s)) {
			t.Errorf("%q: %s, %v", s, quoted, err)
		}
		if got := AppendText(nil, quoted); string(got) != want {
			t.Errorf("%s is %q, not %q", quoted, got, want)
		}
	}
	for in, want := range map[string]string{`"\ud83d\ude00"`: "😀", `"\ud83dx"`: "\ufffdx", `"\ude00\ud83d"`: "\ufffd\ufffd", `"\u0041\/"`: "A/"} {
		if got := AppendText(nil, []byte(in)); string(got) != want {
			t.Errorf("%s is %q, not %q", in, got, want)
		}
	}
}

// Whatever comes: what leaves is JSON, what was to go is gone for a reader that takes any copy, what was set is there.
func FuzzApply(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":{"x":2},"l":[{"p":1}]}`, `{"\u0061":1,"b":3,"c":{},"b":{"x":1}}`, `{"old":1,"new":2}`, `{"b":[{"x":1}]}`} {
		f.Add([]byte(s))
	}
	e, err := build(f, `-a -l.*.p b.x=5 old>new`)
	if err != nil {
		f.Fatal(err)
	}
	set, _ := ParsePath("b.x")
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := e.Apply(nil, doc)
		if err != nil {
			return
		}
		if Check(got) != nil {
			t.Fatalf("%q became %q", doc, got)
		}
		if v := Find(got, set); string(v) != "5" {
			t.Errorf("%q became %q", doc, got)
		}
		var m, old map[string]json.RawMessage
		if json.Unmarshal(got, &m) != nil || json.Unmarshal(doc, &old) != nil {
			t.Fatalf("%q became %q", doc, got)
		}
		if m["a"] != nil || m["old"] != nil {
			t.Errorf("%q became %q", doc, got)
		}
		if v := bytes.TrimSpace(old["old"]); v != nil && !bytes.Equal(m["new"], v) {
			t.Errorf("%q became %q", doc, got)
		}
		if again, err := e.Apply(nil, got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%q became %q, and then %q", doc, got, again)
		}
	})
}

func TestApplyAllocatesNothing(t *testing.T) {
	e, err := build(t, `-user.password -items.*.secret old>new user.role="guest" trace.id=1`)
	if err != nil {
		t.Fatal(err)
	}
	doc := []byte(`{"user":{"name":"n","p\u0061ssword":"p"},"items":[{"a":1,"secret":2},{"a":3}],"old":[1,2,3]}`)
	dst := make([]byte, 0, 1024)
	if n := leastAllocations(func() {
		if _, err := e.Apply(dst, doc); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// leastAllocations is what a run of f allocates, of several the least: sync.Pool loses what it is given, on purpose, under the
// race detector.
func leastAllocations(f func()) float64 {
	least := testing.AllocsPerRun(1, f)
	for range 100 {
		least = min(least, testing.AllocsPerRun(1, f))
	}
	return least
}

func BenchmarkApply(b *testing.B) {
	e, _ := build(b, `-user.password user.role="guest" items.*.old>new`)
	doc := []byte(`{"user":{"name":"n","password":"p"},"items":[` +
		strings.TrimSuffix(strings.Repeat(`{"id":12345,"old":"some text of usual length","price":12.50,"tags":["a","b"]},`, 800), ",") + `]}`)
	dst := make([]byte, 0, 2*len(doc))
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		e.Apply(dst, doc)
	}
}
