package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/gw/filter"
)

// greeting is what a filter of one's own is configured by.
type greeting struct {
	Name string `yaml:"name,required"`
}

func (g *greeting) Validate(report func(path, message string)) {
	if g.Name == "nobody" {
		report("name", "nobody is greeted")
	}
}

// The keys of one's own filters are as strict as the others, and strange ones are still unknown.
func TestOwnFiltersAreChecked(t *testing.T) {
	own := filter.Own{"greet": filter.Make(func(greeting) filter.Filter { panic("check makes no filters") })}
	f := func(filters, want string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "edge.yaml")
		must(t, os.WriteFile(file, []byte(`listeners: [{name: l, address: "127.0.0.1:80", protocol: http, routes: r}]
clusters: [{name: c, endpoints: [address: "127.0.0.1:9"]}]
routes:
  r:
    - cluster: c
      filters:
        - `+filters+"\n"), 0o600))
		var out, errs bytes.Buffer
		code := execute(own, []string{"check", "-c", file}, &out, &errs)
		if want == "" && code != 0 || want != "" && (code != exitUsage || !strings.Contains(errs.String(), want)) {
			t.Errorf("%s: %d, %s", filters, code, &errs)
		}
	}
	f("greet: {name: a}", "")
	f("greet: {}", `:7:18: key "name" is missing`)
	f("greet: {nam: a}", `:7:19: unknown key "nam"; did you mean "name"?`)
	f("greet: {name: nobody}", ":7:25: nobody is greeted")
	f("great: {name: a}", `:7:11: unknown key "great"`)
	f("{greet: {name: a}, respond: {}}", "exactly one of")
}

// The example is built and does what it says.
func TestExample(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "example")
	if out, err := exec.Command("go", "build", "-o", binary, "sluice/cmd/example").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile("../example/example.yaml")
	must(t, err)
	address := freePort(t)
	config := filepath.Join(t.TempDir(), "example.yaml")
	must(t, os.WriteFile(config, bytes.Replace(text, []byte("127.0.0.1:8090"), []byte(address), 1), 0o600))
	cmd := exec.Command(binary, "run", "-c", config)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var resp *http.Response
	eventually(t, "the example answers", func() bool {
		resp, err = http.Get("http://" + address + "/some/path")
		return err == nil
	})
	defer resp.Body.Close()
	var body bytes.Buffer
	_, _ = body.ReadFrom(resp.Body)
	if resp.StatusCode != 200 || resp.Header.Get("X-Greeting") != "hello from the example" || body.String() != "GET /some/path\n" {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, &body)
	}
}

// What limits hold is on the page: with the name that they count under, or the place where they stand.
func TestLimitsShowTheirTables(t *testing.T) {
	up, admin := origin(t, "up"), freePort(t)
	s := startServer(t, fmt.Sprintf(`listeners: [{name: l, address: "127.0.0.1:0", protocol: http, routes: r}]
clusters: [{name: c, endpoints: [address: %q]}]
admin: {address: %q}
routes:
  r:
    - {name: first, match: {path_prefix: /a}, cluster: c, filters: [{headers: {}}, {rate_limit: {rate: 5/s, keys: 1000}}]}
    - {name: second, cluster: c, filters: [{rate_limit: {name: all, rate: 5/s, keys: 1000}}]}
`, up, admin))
	for _, path := range []string{"/a", "/b"} {
		if status, body := get(t, "http://"+s.bound("l")+path); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	if n := metric(t, admin, `sluice_limit_entries{listener="l",filter="rate_limit",name="all"}`); n != "1" {
		t.Errorf("%s entries", n)
	}
	metric(t, admin, `sluice_limit_capacity{listener="l",filter="rate_limit",route="first",place="1"}`)
}
