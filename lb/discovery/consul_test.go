package discovery

import (
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// agent is a server of Consul's documented GET /v1/health/service/:name with blocking queries: one whose index is that
// of the state, or more, waits for the state to change, or wait and at most a sixteenth of it.
type agent struct {
	*httptest.Server
	mu      sync.Mutex
	changed chan struct{} // closed when what follows does
	index   uint64
	body    string
	fail    http.HandlerFunc // answers in place of the agent
	asked   []string         // the queries' strings
	header  http.Header      // the last query's
	filters bool             // tells that an ACL has hidden instances
}

func newAgent(t testing.TB, index uint64, body string) *agent {
	t.Helper()
	a := &agent{changed: make(chan struct{}), index: index, body: body}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

// set changes the state.
func (a *agent) set(alter func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	alter()
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agent) now(index uint64, body string) {
	a.set(func() { a.index, a.body, a.fail = index, body, nil })
}

// queries are the strings of all queries yet.
func (a *agent) queries() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.asked...)
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked, a.header = append(a.asked, r.URL.Path+"?"+r.URL.RawQuery), r.Header
	if a.fail != nil {
		fail := a.fail
		a.mu.Unlock()
		defer a.mu.Lock() // for the deferred Unlock, also if fail panics
		fail(w, r)
		return
	}
	wait, err := time.ParseDuration(r.FormValue("wait"))
	if err != nil {
		http.Error(w, "Invalid wait time", http.StatusBadRequest)
		return
	}
	index, _ := strconv.ParseUint(r.FormValue("index"), 10, 64)
	for over := time.After(wait + wait/16); index > 0 && index >= a.index && a.fail == nil; {
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-over:
			index = 0
		case <-r.Context().Done():
			index = 0
		}
		a.mu.Lock()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Consul-Index", strconv.FormatUint(a.index, 10))
	w.Header().Set("X-Consul-Knownleader", "true")
	w.Header().Set("X-Consul-Lastcontact", "0")
	if a.filters {
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	}
	_, _ = w.Write([]byte(a.body))
}

// watching is a source that asks a, fast.
func watching(a *agent, c Consul) *consulSource {
	c.Address = strings.TrimPrefix(a.URL, "http://")
	if c.Service == "" {
		c.Service = "web"
	}
	s := newConsulSource(&c)
	s.gap, s.retry = 0, backoff{first: time.Millisecond, most: 2 * time.Millisecond}
	return s
}

// entry is an instance as the documentation shows one, with what overrides name put in its place: "Service.Port": 81.
func entry(overrides map[string]any) map[string]any {
	var e map[string]any
	if err := json.Unmarshal([]byte(`{
		"Node": {
			"ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Node": "t2.320", "Address": "10.1.10.12", "Datacenter": "dc1",
			"TaggedAddresses": {"lan": "10.1.10.12", "wan": "10.1.10.12"}, "Meta": {"instance_type": "t2.medium"}
		},
		"Service": {
			"ID": "web-1", "Service": "web", "Tags": ["primary"], "Address": "10.0.0.1", "Port": 80,
			"TaggedAddresses": {"lan": {"address": "10.0.0.1", "port": 80}, "wan": {"address": "198.18.0.1", "port": 80}},
			"Meta": {"version": "4.0"}, "Weights": {"Passing": 10, "Warning": 1}, "Namespace": "default"
		},
		"Checks": [
			{"Node": "t2.320", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "ServiceID": "", "ServiceTags": []},
			{"Node": "t2.320", "CheckID": "service:web-1", "Name": "Service 'web' check", "Status": "passing", "ServiceID": "web-1", "ServiceTags": ["primary"]}
		]
	}`), &e); err != nil {
		panic(err)
	}
	for path, v := range overrides {
		at, keys := e, strings.Split(path, ".")
		for _, k := range keys[:len(keys)-1] {
			if at[k] == nil {
				at[k] = map[string]any{}
			}
			at = at[k].(map[string]any)
		}
		at[keys[len(keys)-1]] = v
	}
	return e
}

func entries(of ...map[string]any) string {
	if of == nil {
		return "[]"
	}
	b, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// at is an instance by itself at that address and port 80, of weight 1.
func at(address string) map[string]any {
	return entry(map[string]any{"Service.Address": address, "Service.ID": address, "Service.Weights.Passing": 1})
}

func TestInstances(t *testing.T) {
	f := func(err string, list string, want ...string) {
		t.Helper()
		set, _, got := watching(newAgent(t, 1, list), Consul{State: Any}).ask(t.Context())
		if (got == nil) != (err == "") || got != nil && !strings.Contains(got.Error(), err) {
			t.Errorf("error %v, want %q", got, err)
		}
		if g, w := strings.Join(describe(canonical(set)), ", "), strings.Join(want, ", "); g != w || set == nil && err == "" {
			t.Errorf("%s:\n got %s\nwant %s", list, g, w)
		}
	}
	one := func(path string, v any, want string) {
		t.Helper()
		f("", entries(entry(map[string]any{path: v})), want)
	}
	f("", "[]")
	one("Service.Port", 81, "10.0.0.1:81 weight 10")
	one("Service.Address", "", "10.1.10.12:80 weight 10")
	one("Service.Address", "2001:db8::1", "[2001:db8::1]:80 weight 10")
	one("Service.Address", "web.internal", "web.internal:80 weight 10")
	f("", entries(entry(map[string]any{"Service.Address": "", "Service.Port": 0, "Service.SocketPath": "/run/web.sock"})), "unix:/run/web.sock weight 10")
	one("Service.Weights", nil, "10.0.0.1:80") // of before Consul 1.2.3
	one("Service.Weights.Passing", 1e6, "10.0.0.1:80 weight 65535")
	one("Service.Meta.zone", "a", "10.0.0.1:80 weight 10 zone a")
	one("Service.Locality", map[string]any{"Region": "eu", "Zone": "eu-1"}, "10.0.0.1:80 weight 10 zone eu-1")
	one("Node.Locality", map[string]any{"Region": "eu", "Zone": "eu-2"}, "10.0.0.1:80 weight 10 zone eu-2")
	f("", entries(entry(map[string]any{"Service.Meta.zone": "a", "Service.Locality.Zone": "b", "Node.Locality.Zone": "c"})), "10.0.0.1:80 weight 10 zone a")
	f("", entries(entry(map[string]any{"Service.Locality.Zone": "b", "Node.Locality.Zone": "c"})), "10.0.0.1:80 weight 10 zone b")
	check := func(id, status string) []any { return []any{map[string]any{"CheckID": id, "Status": status}} }
	one("Checks", check("service:web-1", "critical"), "10.0.0.1:80 weight 10")
	one("Checks", check("service:web-1", "warning"), "10.0.0.1:80")
	f("", entries(entry(map[string]any{"Checks": check("service:web-1", "warning"), "Service.Weights.Warning": 0})), "10.0.0.1:80 drain")
	one("Checks", check("_service_maintenance:web-1", "critical"), "10.0.0.1:80 weight 10 maint")
	one("Checks", check("_node_maintenance", "critical"), "10.0.0.1:80 weight 10 maint")
	// Registered twice.
	f("", entries(entry(map[string]any{"Service.ID": "a"}), entry(map[string]any{"Service.ID": "b", "Service.Weights.Passing": 20})), "10.0.0.1:80 weight 20")
	// What cannot be an endpoint is left out and said, the others go on.
	f(`instance "web-1" of node "t2.320": bad address "10.0.0.1:0": port 0`, entries(entry(map[string]any{"Service.Port": 0}), at("10.0.0.2")), "10.0.0.2:80")
	f("an instance without service or node", "[null, {}, "+entries(at("10.0.0.2"))[1:], "10.0.0.2:80")
	f("port 0 cannot be connected to", entries(entry(map[string]any{"Service.Port": 0}))) // and alone, it is no "none"
}

func TestServiceIsFollowed(t *testing.T) {
	a := newAgent(t, 7, entries(at("10.0.0.2"), at("10.0.0.1")))
	w := watch(t, watching(a, Consul{}))
	w.next("10.0.0.1:80", "10.0.0.2:80")
	a.now(8, entries(at("10.0.0.1"), at("10.0.0.2"))) // another order
	a.now(9, entries(at("10.0.0.3")))
	w.next("10.0.0.3:80")
	a.now(12, entries()) // all gone, says Consul
	w.next()
	a.now(13, entries(at("10.0.0.1")))
	w.next("10.0.0.1:80")
	w.none()
	eventually(t, "the last index is waited for", func() bool {
		q := a.queries()
		return strings.Contains(q[len(q)-1], "index=13&")
	})
	if q := a.queries(); len(q) > 6 {
		t.Errorf("queries that do not block: %q", q)
	}
	if lines := w.log.lines(); lines != nil {
		t.Errorf("logged %q", lines)
	}
}

func TestQuery(t *testing.T) {
	f := func(c Consul, token, want string) {
		t.Helper()
		a := newAgent(t, 7, "[]")
		s := watching(a, c)
		for range 2 {
			if _, _, err := s.ask(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.now(8, "[]")
		}
		if diff := cmp.Diff([]string{strings.ReplaceAll(want, "index=7&", ""), want}, a.queries()); diff != "" {
			t.Errorf("queries (-want +got):\n%s", diff)
		}
		if got := a.header.Get("X-Consul-Token"); got != token {
			t.Errorf("token %q, want %q", got, token)
		}
	}
	f(Consul{}, "", "/v1/health/service/web?index=7&passing=1&wait=300000ms")
	f(Consul{State: Passing, Wait: 30 * time.Second, Token: "s3cr3t"}, "s3cr3t", "/v1/health/service/web?index=7&passing=1&wait=30000ms")
	f(Consul{Service: "w?b", State: Any, Tags: []string{"a&b", "c"}, Datacenter: "dc2", Namespace: "team"}, "",
		"/v1/health/service/w?b?dc=dc2&index=7&ns=team&tag=a%26b&tag=c&wait=300000ms")
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	t.Setenv("CONSUL_HTTP_SSL", "true")
	t.Setenv("CONSUL_HTTP_TOKEN", "of the environment")
	f(Consul{}, "of the environment", "/v1/health/service/web?index=7&passing=1&wait=300000ms")
}

func TestAgentByUnixSocketAndTLS(t *testing.T) {
	a := &agent{changed: make(chan struct{}), index: 7, body: entries(at("10.0.0.1"))}
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	must(t, err)
	unix := httptest.NewUnstartedServer(a)
	unix.Listener.Close()
	unix.Listener = ln
	unix.Start()
	t.Cleanup(unix.Close)
	cfg := Config{Consul: &Consul{Address: "unix:" + path, Service: "web"}}
	watchRun(t, cfg.Run).next("10.0.0.1:80")

	secure := httptest.NewUnstartedServer(a)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	cfg = Config{Consul: &Consul{Address: secure.Listener.Addr().String(), Scheme: "https", Service: "web"}}
	w := watchRun(t, cfg.Run)
	w.says("certificate")
	w.stop()
	t.Setenv("CONSUL_HTTP_SSL_VERIFY", "false")
	watchRun(t, cfg.Run).next("10.0.0.1:80")
}

func TestConsulsFailuresKeepTheLastGoodSet(t *testing.T) {
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Consul-Index", "20")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for _, c := range []struct {
		name   string
		fail   http.HandlerFunc
		reason string
	}{
		{"500", says(500, "No cluster leader"), "500"},
		{"403", says(403, "ACL not found"), "403"},
		{"429", says(429, "rate limit"), "429"},
		{"no JSON", says(200, "<html>"), "invalid character"},
		{"half of it", says(200, "[{"), "unexpected EOF"},
		{"a mapping", says(200, "{}"), "cannot unmarshal"},
		{"null", says(200, "null"), "the answer is no list"},
		{"nothing", says(200, ""), "EOF"},
		{"nothing but garbage", says(200, "[{}]"), "an instance without service or node"},
		{"all hidden by ACLs", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			w.Header().Set("X-Consul-Lastcontact", "0")
			says(200, "[]")(w, r)
		}, "the token may not read all instances"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer in "},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgent(t, 7, entries(at("10.0.0.1")))
			s := watching(a, Consul{Wait: time.Millisecond})
			if c.name == "silence" {
				s.grace = 50 * time.Millisecond
			}
			w := watch(t, s)
			w.next("10.0.0.1:80")
			from := len(a.queries())
			a.set(func() { a.fail = c.fail })
			w.says("discovery failed: the last good endpoints are kept")
			w.says(c.reason)
			eventually(t, "it is asked three more times", func() bool { return len(a.queries()) >= from+3 })
			w.none()
			q := a.queries()
			if last := q[len(q)-1]; strings.Contains(last, "index=") {
				t.Errorf("waits for a change while it knows nothing: %s", last)
			}
			a.now(7, entries(at("10.0.0.2"))) // which the index alone would not tell
			w.next("10.0.0.2:80")
			w.says("discovery is good again")
		})
	}
}

func TestInstancesHiddenByACLsAreSaid(t *testing.T) {
	a := newAgent(t, 7, entries(at("10.0.0.1")))
	a.filters = true
	w := watch(t, watching(a, Consul{}))
	w.next("10.0.0.1:80")
	w.says(`msg="discovery failed in part" error="the token may not read all instances" endpoints=1`)
}

// The rules of Consul's documentation for an index.
func TestIndex(t *testing.T) {
	a := newAgent(t, 7, entries(at("10.0.0.1")))
	s := watching(a, Consul{Wait: time.Millisecond})
	f := func(index, want uint64, asks string) {
		t.Helper()
		a.now(index, "[]")
		_, _, err := s.ask(t.Context())
		must(t, err)
		q := a.queries()
		if last := q[len(q)-1]; !strings.Contains(last, asks) || asks == "" && strings.Contains(last, "index=") || s.index != want {
			t.Errorf("asked %s, index %d; want %q and %d", last, s.index, asks, want)
		}
	}
	f(7, 7, "")
	f(7, 7, "index=7") // the wait has passed
	f(9, 9, "index=7")
	f(3, 0, "index=9") // gone backwards
	f(3, 3, "")
	f(0, 0, "index=3") // never 0, which would not block
	f(0, 1, "")
	f(0, 1, "index=1")
}

// Consul answers at once while a service changes; a client is not to ask as fast as it can.
func TestQueriesHaveAGap(t *testing.T) {
	a := newAgent(t, 7, "[]")
	s := newConsulSource(&Consul{Service: "web", Address: strings.TrimPrefix(a.URL, "http://")})
	_, wait, err := s.ask(t.Context())
	must(t, err)
	if wait > queryGap || queryGap-wait > 10*time.Second {
		t.Errorf("waits %v", wait)
	}
	s.gap = time.Hour
	a.now(8, "[]")
	if _, wait, err = s.ask(t.Context()); err != nil || wait < 59*time.Minute || wait > time.Hour {
		t.Errorf("waits %v, %v; want the rest of the hour since the question", wait, err)
	}
	a.set(func() { a.fail = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) } })
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		_, wait, err := s.ask(t.Context())
		if want *= time.Second; err == nil || wait < want-want/10 || wait > want {
			t.Errorf("tries again in %v, %v; want about %v", wait, err, want)
		}
	}
}

// A query that blocks may take its wait as well.
func TestWaitIsNoSilence(t *testing.T) {
	a := newAgent(t, 7, "[]")
	s := watching(a, Consul{Wait: patience})
	_, _, err := s.ask(t.Context())
	must(t, err)
	s.grace = 1
	a.now(8, entries(at("10.0.0.1")))
	if set, _, err := s.ask(t.Context()); len(set) != 1 {
		t.Errorf("%q, %v", describe(set), err)
	}
}

func TestConnectionsEndWithRun(t *testing.T) {
	a := newAgent(t, 7, entries(at("10.0.0.1")))
	var open atomic.Int64
	counted := httptest.NewUnstartedServer(a)
	counted.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	counted.Start()
	t.Cleanup(counted.Close)
	s := watching(a, Consul{})
	s.cfg.Address, s.gap = counted.Listener.Addr().String(), time.Hour
	w := watch(t, s)
	w.next("10.0.0.1:80")
	if open.Load() != 1 {
		t.Errorf("%d connections", open.Load())
	}
	w.stop()
	eventually(t, "the idle connection is closed", func() bool { return open.Load() == 0 })
}

func TestRunEndsWhileAQueryBlocks(t *testing.T) {
	a := newAgent(t, 7, entries(at("10.0.0.1")))
	cfg := Config{Consul: &Consul{Address: strings.TrimPrefix(a.URL, "http://"), Service: "web"}}
	w := watchRun(t, cfg.Run)
	w.next("10.0.0.1:80")
	eventually(t, "a query blocks", func() bool { return strings.Contains(strings.Join(a.queries(), " "), "index=7") })
	w.stop()
	w.none()
	if lines := w.log.lines(); lines != nil {
		t.Errorf("the end is logged as a failure: %q", lines)
	}
}
