package bench

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Rig is the processes that a suite measures, and their origin.
type Rig struct {
	Origin   string // its address
	Chain    *Chain
	Trust    *Trust
	Targets  []Target
	Versions map[string]string
	// Absent says of peers that are not there why.
	Absent   map[string]string
	dir      string
	identity string // a file with the certificate of all targets, and its key
	self     string // the sluice binary, for the origin and the floor
	children []*child
}

// NewRig starts the origin, in a process of its own. self is the sluice binary; address is where the origin listens, a
// free port if empty.
func NewRig(ctx context.Context, self, address string, loops int) (*Rig, error) {
	chain, err := newChain()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluice-bench")
	if err != nil {
		return nil, err
	}
	r := &Rig{dir: dir, self: self, Chain: chain, Versions: map[string]string{}, Absent: map[string]string{}}
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are somebody else
		return nil, err
	}
	if err := r.certify(); err != nil {
		r.Close()
		return nil, err
	}
	if address == "" {
		if address, err = freePort(); err != nil {
			return nil, err
		}
	}
	c, err := spawn(ctx, []string{address}, self, "bench", "origin", "--listen", address, "--loops", fmt.Sprint(loops))
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("origin: %w", err)
	}
	r.children = append(r.children, c)
	r.Origin = address
	return r, nil
}

// certify makes the certificate that all targets show.
func (r *Rig) certify() error {
	pair, trust, err := newCertificate()
	if err != nil {
		return err
	}
	r.identity, r.Trust = filepath.Join(r.dir, "certificate.pem"), trust
	return os.WriteFile(r.identity, pair, 0o600)
}

// Close stops every process of the rig.
func (r *Rig) Close() {
	for _, c := range slices.Backward(r.children) {
		c.stop()
	}
	_ = os.RemoveAll(r.dir)
}

// benchRoutes is how many routes a sluice looks through for each request. The peers have one, which is the least that they
// can have to do.
const benchRoutes = 100

// routes is a list of benchRoutes routes, of which the last takes what the others do not, with filters: a list, or empty.
func routes(filters string) string {
	var b strings.Builder
	for i := range benchRoutes - 1 {
		fmt.Fprintf(&b, "    - {match: {path_prefix: /service-%d/v1}, cluster: origin}\n", i)
	}
	if filters != "" {
		filters = ", filters: " + filters
	}
	return b.String() + "    - {match: {path_prefix: /}, cluster: origin" + filters + "}\n"
}

// Sluice starts a sluice binary under a name.
func (r *Rig) Sluice(ctx context.Context, name, binary string, cores int) error {
	return r.side(ctx, binary, Side{Name: name, Loops: cores})
}

// side starts a sluice binary as a side of a trial has it.
func (r *Rig) side(ctx context.Context, binary string, as Side) error {
	name := as.Name
	at, err := freePorts(7)
	if err != nil {
		return err
	}
	t := Target{Name: name, HTTP: at[0], TCP: at[1], Admin: at[2], No: "this build has no udp listeners", NoChain: "this build has not all of its filters",
		NoTLS: "this build has no listeners of TLS"}
	file, keySet := filepath.Join(r.dir, name+".yaml"), filepath.Join(r.dir, "keys.json")
	if err := writeFile(keySet, r.Chain.keySet()); err != nil {
		return err
	}
	write := func() error {
		listeners, lists := "", ""
		if t.UDP != "" {
			listeners = fmt.Sprintf("  - {name: udp, address: \"%s\", protocol: udp, cluster: origin, session_timeout: 10s}\n", t.UDP)
		}
		if t.Chain != "" {
			listeners += fmt.Sprintf("  - {name: chain, address: \"%s\", protocol: http, routes: chain}\n", t.Chain)
			lists = "  chain:\n" + routes(r.Chain.filters(keySet))
		}
		if t.HTTPS != "" {
			pair := fmt.Sprintf("tls: {certificates: [{cert: \"%s\"}]}", r.identity)
			listeners += fmt.Sprintf("  - {name: https, address: \"%s\", protocol: https, routes: all, %s}\n", t.HTTPS, pair)
			listeners += fmt.Sprintf("  - {name: tls, address: \"%s\", protocol: tls, cluster: origin, %s}\n", t.TLS, pair)
		}
		return writeFile(file, fmt.Sprintf(`listeners:
  - {name: http, address: "%s", protocol: http, routes: all}
  - {name: tcp, address: "%s", protocol: tcp, cluster: origin}
%sroutes:
  all:
%s%sclusters:
  - {name: origin, endpoints: [{address: "%s"}]}
admin: {address: "%s"}
engine: {loops: %d%s}
`, t.HTTP, t.TCP, listeners, routes(""), lists, r.Origin, t.Admin, as.Loops, as.engine()))
	}
	// An older revision has not got all that is asked for.
	for _, has := range []struct{ udp, chain, https, tls string }{{at[3], at[4], at[5], at[6]}, {at[3], at[4], "", ""}, {udp: at[3]}, {}} {
		t.UDP, t.Chain, t.HTTPS, t.TLS = has.udp, has.chain, has.https, has.tls
		if err := write(); err != nil {
			return err
		}
		if exec.CommandContext(ctx, binary, "check", "-c", file).Run() == nil {
			break
		}
	}
	command := append(slices.Clone(as.Env), binary, "run", "-c", file)
	return r.start(ctx, t, version(binary, "version"), "env", command...)
}

// HAProxy starts HAProxy with as much to do as sluice has: X-Forwarded-For, kept connections, splicing.
func (r *Rig) HAProxy(ctx context.Context, cores int) error {
	binary, err := look("haproxy")
	if err != nil {
		r.Absent["haproxy"] = err.Error()
		return nil
	}
	at, err := freePorts(5)
	if err != nil {
		return err
	}
	t := Target{Name: "haproxy", HTTP: at[0], TCP: at[1], Chain: at[2], No: "HAProxy relays no datagrams", NoTLS: "this HAProxy was built without OpenSSL"}
	speaks, http, tcp := "", "", ""
	if built(binary, "-vv", "+OPENSSL") {
		t.HTTPS, t.TLS = at[3], at[4]
		speaks = fmt.Sprintf("  ssl-default-bind-options ssl-min-ver TLSv1.3\n  ssl-default-bind-ciphersuites %s\n  ssl-default-bind-curves X25519\n", openSSLSuite)
		http, tcp = fmt.Sprintf("  bind %s ssl crt %s\n", t.HTTPS, r.identity), fmt.Sprintf("  bind %s ssl crt %s\n", t.TLS, r.identity)
	}
	file := filepath.Join(r.dir, "haproxy.cfg")
	if err := writeFile(file, fmt.Sprintf(`global
  nbthread %d
%sdefaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option splice-auto
frontend http
  mode http
  bind %s
%s  option forwardfor
  default_backend origin
frontend chain
  mode http
  bind %s
  option forwardfor
%s  default_backend origin
backend origin
  mode http
  http-reuse always
  server origin %s
listen tcp
  mode tcp
  bind %s
%s  server origin %s
`, cores, speaks, at[0], http, at[2], r.Chain.haproxy(), r.Origin, at[1], tcp, r.Origin)); err != nil {
		return err
	}
	return r.start(ctx, t, version(binary, "-v"), binary, "-f", file)
}

// openSSLSuite is OpenSSL's name of tlsSuite.
const openSSLSuite = "TLS_AES_128_GCM_SHA256"

// streamModules are where nginx's stream module may be; empty is for one that has it built in.
var streamModules = []string{"/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so"}

// Nginx starts nginx with as much to do as sluice has.
func (r *Rig) Nginx(ctx context.Context, cores int) error {
	binary, err := look("nginx")
	if err != nil {
		r.Absent["nginx"] = err.Error()
		return nil
	}
	at, err := freePorts(5)
	if err != nil {
		return err
	}
	t := Target{Name: "nginx", HTTP: at[0], Chain: at[2], No: "nginx's stream module is not installed: make bench-deps does that"}
	load, stream, speaks, https, tls := "", "", "", "", ""
	if built(binary, "-V", "--with-http_ssl_module") {
		t.HTTPS, https = at[3], fmt.Sprintf("    listen %s ssl reuseport backlog=8192;\n", at[3])
		speaks = fmt.Sprintf("  ssl_certificate %[1]s; ssl_certificate_key %[1]s; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites %[2]s; ssl_ecdh_curve X25519;\n",
			r.identity, openSSLSuite)
	} else {
		t.NoTLS = "this nginx was built without its ssl modules"
	}
	for _, m := range streamModules {
		if _, err := os.Stat(m); err == nil {
			t.TCP, t.UDP = at[1], at[1]
			load = "load_module " + m + ";\n"
			// Each measurement has flows of its own: both forget those of the ones before after 10 s.
			if speaks == "" || !built(binary, "-V", "--with-stream_ssl_module") {
				t.NoTLS = "this nginx was built without its ssl modules"
			} else {
				t.TLS, tls = at[4], fmt.Sprintf("%s  server { listen %s ssl reuseport backlog=8192; proxy_pass origin; }\n", speaks, at[4])
			}
			stream = fmt.Sprintf(`stream {
  upstream origin { server %s; }
  server { listen %s reuseport backlog=8192; proxy_pass origin; proxy_half_close on; }
  server { listen %s udp reuseport; proxy_pass origin; proxy_timeout 10s; }
%s}
`, r.Origin, t.TCP, t.UDP, tls)
			break
		}
	}
	const pass = `      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr; proxy_max_temp_file_size 0;
`
	chain, filters := r.Chain.nginx()
	file := filepath.Join(r.dir, "nginx.conf")
	if err := writeFile(file, fmt.Sprintf(`%sworker_processes %d; daemon off; pid %s/nginx.pid; error_log %s/nginx.log crit;
events { worker_connections 16384; multi_accept on; }
%shttp {
  access_log off; keepalive_requests 1000000000; client_max_body_size 0; proxy_request_buffering off; client_body_temp_path %s;
%s  upstream origin { server %s; keepalive 512; keepalive_requests 1000000000; }
%s  server {
    listen %s reuseport backlog=8192;
%s    location / {
%s    }
  }
  server {
    listen %s reuseport backlog=8192;
    location / {
%s%s    }
  }
}
`, load, cores, r.dir, r.dir, stream, filepath.Join(r.dir, "body"), speaks, r.Origin, chain, at[0], https, pass, at[2], pass, filters)); err != nil {
		return err
	}
	return r.start(ctx, t, version(binary, "-v"), binary, "-c", file, "-p", r.dir)
}

// Floor starts the bare relay.
func (r *Rig) Floor(ctx context.Context, cores int) error {
	at, err := freePort()
	if err != nil {
		return err
	}
	return r.start(ctx, Target{Name: "floor", HTTP: at, TCP: at, UDP: at, Chain: at, Bare: true, NoTLS: "it is a relay of what comes: it speaks no TLS"}, "", r.self,
		"bench", "floor", "--listen", at, "--to", r.Origin, "--loops", fmt.Sprint(cores))
}

func (r *Rig) start(ctx context.Context, t Target, version, binary string, args ...string) error {
	addresses := slices.DeleteFunc([]string{t.HTTP, t.TCP, t.Chain, t.HTTPS, t.TLS, udp + t.UDP}, func(a string) bool { return a == "" || a == udp })
	var running *child
	t.restart = func(ctx context.Context, t *Target) error {
		if running != nil {
			running.stop()
			r.children = slices.DeleteFunc(r.children, func(c *child) bool { return c == running })
		}
		var err error
		if running, err = spawn(ctx, addresses, binary, args...); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		r.children = append(r.children, running)
		if t.PIDs, err = listenersOf(TCP, addresses[0]); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		return nil
	}
	if err := t.restart(ctx, &t); err != nil {
		return err
	}
	if version != "" {
		r.Versions[t.Name] = version
	}
	r.Targets = append(r.Targets, t)
	return nil
}

// Outside adds a target that the rig did not start: pids are found by its listener if none are given.
func (r *Rig) Outside(t Target) (warning string) {
	t.No, t.NoChain = "no address was given for this protocol", "a proxy that was not started here has not the key of its token"
	t.NoTLS = t.No
	if len(t.PIDs) == 0 {
		protocol, address := TCP, cmp.Or(t.HTTP, t.TCP, t.HTTPS, t.TLS)
		if address == "" {
			protocol, address = UDP, t.UDP
		}
		var err error
		if t.PIDs, err = listenersOf(protocol, address); err != nil {
			warning = fmt.Sprintf("the CPU time and memory of %s are not known: %v", t.Name, err)
		}
	}
	r.Targets = append(r.Targets, t)
	return warning
}

// AbsentPeers lists the peers that are not there, a line each.
func (r *Rig) AbsentPeers() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Absent)) {
		out = append(out, name+": "+r.Absent[name])
	}
	return strings.Join(out, "\n")
}
