package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"sluice/cmd/config"
	"sluice/engine"
	"sluice/engine/tlslayer"
	"sluice/gw"
	"sluice/gw/filter"
	"sluice/lb"
)

// File is a configuration file.
type File struct {
	Listeners []Listener            `yaml:"listeners,required"`
	Routes    map[string][]gw.Route `yaml:"routes"`
	Clusters  []lb.Config           `yaml:"clusters"`
	Admin     Admin                 `yaml:"admin"`
	Engine    engine.Config         `yaml:"engine"`
	// TLS bounds the handshakes of all listeners and clusters together.
	TLS tlslayer.Config `yaml:"tls"`
	// DrainTimeout is how long TERM waits for what is open; 0: 30 s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`

	warnings config.Errors // what is not wrong, but should be known
}

// Admin is where the process shows itself.
type Admin struct {
	Address string `yaml:"address"`
}

// readFile reads and validates a configuration; own are the filters that it may name beyond gw/filter's. The error is config.Errors, or that of reading the file.
func readFile(name string, own filter.Own) (*File, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parseFile(name, src, own)
}

func parseFile(name string, src []byte, own filter.Own) (*File, error) {
	f := &File{}
	doc, errs := config.Decode(name, src, f, own)
	// What could not be decoded has been said: what follows from it is not worth saying.
	said := map[[2]int]bool{}
	for _, e := range errs {
		said[[2]int{e.Line, e.Column}] = true
	}
	f.validate(func(path, message string) {
		if e := doc.Errorf(path, "%s", message); !said[[2]int{e.Line, e.Column}] {
			errs = append(errs, e)
		}
	})
	if len(errs) > 0 {
		errs.Sort()
		return nil, slices.Compact(errs)
	}
	f.warn(func(path, message string) { f.warnings = append(f.warnings, doc.Errorf(path, "%s", message)) })
	f.warnings.Sort()
	return f, nil
}

// validate reports what is wrong with the whole, by the path of the key.
func (f *File) validate(report func(path, message string)) {
	under := func(at string) func(path, message string) {
		return func(path, message string) { report(at+"."+path, message) }
	}
	clusters := map[string]bool{}
	names := []string{}
	for i := range f.Clusters {
		c := &f.Clusters[i]
		at := "clusters[" + strconv.Itoa(i) + "]"
		if clusters[c.Name] && c.Name != "" {
			report(at+".name", fmt.Sprintf("a second cluster named %q", c.Name))
		}
		clusters[c.Name] = true
		names = append(names, c.Name)
		c.Validate(under(at))
	}
	needCluster := func(report func(path, message string)) func(path, name string) {
		return func(path, name string) {
			if name != "" && !clusters[name] {
				report(path, unknown("cluster", name, names))
			}
		}
	}
	if f.Listeners != nil && len(f.Listeners) == 0 {
		report("listeners", "no listeners")
	}
	byName, byAddress := map[string]bool{}, map[string]bool{}
	for i := range f.Listeners {
		l := &f.Listeners[i]
		at := "listeners[" + strconv.Itoa(i) + "]"
		if byName[l.Name] && l.Name != "" {
			report(at+".name", fmt.Sprintf("a second listener named %q", l.Name))
		}
		socket := l.Address
		if l.Protocol == UDP {
			socket += "/udp"
		}
		if byAddress[socket] && l.Address != "" {
			report(at+".address", fmt.Sprintf("a second listener on %s", l.Address))
		}
		byName[l.Name], byAddress[socket] = true, true
		if l.Address != "" {
			if err := engine.CheckAddr(l.Address, true); err != nil {
				report(at+".address", "bad address "+err.Error())
			}
		}
		l.validate(f, under(at), needCluster(under(at)))
	}
	for name, routes := range f.Routes {
		for i := range routes {
			at := "routes." + name + "[" + strconv.Itoa(i) + "]"
			routes[i].Validate(under(at))
			routes[i].ClusterNames(func(path, name string) { needCluster(under(at))(path, name) })
		}
		gw.ValidateRoutes(routes, func(i int, message string) {
			report("routes."+name+"["+strconv.Itoa(i)+"]", message)
		})
	}
	if a := f.Admin.Address; a != "" {
		if err := engine.CheckAddr(a, true); err != nil {
			report("admin.address", "bad address "+err.Error())
		} else if byAddress[a] {
			report("admin.address", "a listener has this address")
		}
	}
	f.Engine.Validate(under("engine"))
	f.TLS.Validate(under("tls"))
	if f.DrainTimeout < 0 {
		report("drain_timeout", "must not be negative")
	}
}

func unknown(what, name string, known []string) string {
	if near := config.Nearest(name, known); near != "" {
		return fmt.Sprintf("no %s named %q; did you mean %q?", what, name, near)
	}
	return fmt.Sprintf("no %s named %q", what, name)
}
