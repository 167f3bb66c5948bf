package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type colour string

func (colour) Choices() []string { return []string{"red", "green"} }

type sample struct {
	Name  string              `yaml:"name,required"`
	Wait  time.Duration       `yaml:"wait"`
	Count int                 `yaml:"count"`
	On    bool                `yaml:"on"`
	Tint  colour              `yaml:"tint"`
	List  []item              `yaml:"list"`
	Map   map[string][]string `yaml:"map"`
	Sub   *item               `yaml:"sub"`
}

// spots is a word, or a list.
type spots struct {
	everywhere bool
	at         []int
}

func (s *spots) UnmarshalText(text []byte) error {
	if string(text) != "everywhere" {
		return errors.New("not everywhere, nor a list")
	}
	s.everywhere = true
	return nil
}

func (s *spots) List() any { return &s.at }

func TestListsAndWords(t *testing.T) {
	t.Setenv("SLUICE_T", "7")
	for _, c := range []struct {
		src  string
		want spots
		err  string
	}{
		{"s: everywhere", spots{everywhere: true}, ""},
		{"s: [1, 0x10, \"${SLUICE_T}\"]", spots{at: []int{1, 16, 7}}, ""},
		{"s: &a [1]\nr: *a", spots{at: []int{1}}, ""},
		{"s: []", spots{at: []int{}}, ""},
		{"s: nowhere", spots{}, "f:1:4: not everywhere, nor a list"},
		{"s: [1, x]", spots{}, "f:1:8: expected a whole number, found \"x\""},
		{"s: {a: 1}", spots{}, "f:1:4: expected a single value, found a mapping"},
		{"s: [[1]]", spots{}, "f:1:5: expected a single value, found a list"},
	} {
		var got struct {
			S spots `yaml:"s"`
			R spots `yaml:"r"`
		}
		d, errs := Decode("f", []byte(c.src), &got, nil)
		if errs.Error() != c.err {
			t.Errorf("%q:\n got %s\nwant %s", c.src, errs.Error(), c.err)
		} else if c.err == "" && !reflect.DeepEqual(got.S, c.want) {
			t.Errorf("%q: %+v", c.src, got.S)
		}
		if e := d.Errorf("s[1]", ""); len(c.want.at) > 1 && (e.Line != 1 || e.Column != 8) {
			t.Errorf("%q: the second is at %d:%d", c.src, e.Line, e.Column)
		}
	}
}

type item struct {
	Address string `yaml:"address"`
	Weight  *int   `yaml:"weight"`
}

func TestDecode(t *testing.T) {
	t.Setenv("SLUICE_T", "5s")
	var got sample
	_, errs := Decode("f", []byte(`
name: "a ${NONE:-b}"
wait: ${SLUICE_T}
count: 0x10
on: true
tint: green
list: [{address: 127.0.0.1:80}, {address: "b", weight: 3}]
map:
  x: [a, b]
sub: &s {address: c}
`), &got, nil)
	if errs != nil {
		t.Fatal(errs)
	}
	three := 3
	want := sample{"a b", 5 * time.Second, 16, true, "green", []item{{"127.0.0.1:80", nil}, {"b", &three}},
		map[string][]string{"x": {"a", "b"}}, &item{Address: "c"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestErrorsAllAtOnceWithTheirSpot(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"nmae: a", "f:1:1: unknown key \"nmae\"; did you mean \"name\"?\nf:1:1: key \"name\" is missing"},
		{"name: a\nwait: 5\non: 1", "f:2:7: \"5\" is not a duration: a number with a unit, as in 500ms, 10s or 1m30s\nf:3:5: expected true or false, found \"1\""},
		{"name: 5", "f:1:7: expected text, found a number: put it in quotes"},
		{"name: a\ncount: x", "f:2:8: expected a whole number, found \"x\""},
		{"name: a\ntint: rde", "f:2:7: \"rde\" is not one of red, green; did you mean \"red\"?"},
		{"name: a\nlist:\n  address: b", "f:3:3: expected a list, found a mapping"},
		{"name: a\nlist:\n  - {adress: b}", "f:3:6: unknown key \"adress\"; did you mean \"address\"?"},
		{"name: a\nsub: [1]", "f:2:6: expected a mapping, found a list"},
		{"name: a\nname: b", "f:2:1: key \"name\" is there twice, first at line 1"},
		{"name: ${SLUICE_UNSET}", "f:1:7: environment variable SLUICE_UNSET is not set; ${SLUICE_UNSET:-default} gives it a default"},
		{"name:", "f:1:7: a value is missing"},
		{"", "f:1:1: key \"name\" is missing"},
		{"name: a\n---\nname: b", "f:3:1: a second document: one file holds one configuration"},
	} {
		_, errs := Decode("f", []byte(c.src), &sample{}, nil)
		if got := errs.Error(); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.src, got, c.want)
		}
	}
}

func TestErrorf(t *testing.T) {
	d, errs := Decode("f", []byte("name: a\nlist:\n  - {address: b}\n"), &sample{}, nil)
	if errs != nil {
		t.Fatal(errs)
	}
	got := d.Errorf("list[0].weight", "no weight").Detail()
	if want := "f:3:5: no weight\n      - {address: b}\n        ^"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"name: a", "{", "a: &a [*a]", "- - -", "name: |\n x", "<<: *x", "? a\n: b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, errs := Decode("f", []byte(s), &sample{}, nil)
		for _, e := range errs {
			if e.Line < 1 || e.Column < 1 || e.Line > strings.Count(s, "\n")+2 {
				t.Errorf("%q: %v is not in the file", s, e)
			}
		}
	})
}
