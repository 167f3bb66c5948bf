package cli

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sluice/engine"
	"sluice/gw"
	"sluice/lb"
	"sluice/lb/access"
	"sluice/lb/certs"
)

// Listener is a bound address and its protocol, as the file has it.
type Listener struct {
	Name     string   `yaml:"name,required"`
	Address  string   `yaml:"address,required"`
	Protocol Protocol `yaml:"protocol,required"`

	// What new connections meet, in this order.
	Socket  engine.ListenOptions `yaml:",inline"`
	Limits  engine.Limits        `yaml:",inline"`
	Access  access.Config        `yaml:",inline"`
	Preface lb.PrefaceConfig     `yaml:",inline"`
	Session lb.ProxyConfig       `yaml:",inline"` // tcp; cluster and session_timeout are udp's too
	UDP     lb.UDPConfig         `yaml:",inline"`
	HTTP    gw.Config            `yaml:",inline"`

	TLS *certs.Config `yaml:"tls"` // tls, https
}

// Protocol is what a listener speaks.
type Protocol string

// The protocols.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	HTTP Protocol = "http"
	// TLS ends here, and what is in it goes on as with TCP or HTTP.
	TLS   Protocol = "tls"
	HTTPS Protocol = "https"
)

// http says that the protocol is HTTP; secure, that it is within TLS.
func (p Protocol) http() bool   { return p == HTTP || p == HTTPS }
func (p Protocol) secure() bool { return p == TLS || p == HTTPS }

// Choices are the values that a file may have.
func (Protocol) Choices() []string {
	return []string{string(TCP), string(UDP), string(HTTP), string(TLS), string(HTTPS)}
}

// part is one of a listener's structs, and who may have its keys.
type part struct {
	value any
	of    []Protocol
}

func (l *Listener) parts() []part {
	return []part{
		{l.Socket, []Protocol{TCP, HTTP, TLS, HTTPS}},
		{l.Limits, []Protocol{TCP, HTTP, TLS, HTTPS}},
		{l.Access, []Protocol{TCP, UDP, HTTP, TLS, HTTPS}},
		{l.Preface, []Protocol{TCP, HTTP, TLS, HTTPS}},
		{l.Session, []Protocol{TCP, TLS}},
		{l.UDP, []Protocol{UDP}},
		{l.HTTP, []Protocol{HTTP, HTTPS}},
	}
}

// validate reports what is wrong with l, by the path of the key. needCluster reports a cluster that is not there.
func (l *Listener) validate(f *File, report func(path, message string), needCluster func(path, name string)) {
	if !slices.Contains(Protocol("").Choices(), string(l.Protocol)) {
		return // said already
	}
	for _, p := range l.parts() {
		for _, key := range given(reflect.ValueOf(p.value)) {
			shared := key == "cluster" || key == "session_timeout"
			if !slices.Contains(p.of, l.Protocol) && !(shared && l.Protocol == UDP) {
				report(key, fmt.Sprintf("key %q is not for %s listeners, but for %s", key, l.Protocol, protocols(p.of, shared)))
			}
		}
	}
	l.Limits.Validate(report)
	l.Access.Validate(report)
	if l.Address != "" {
		if err := l.Socket.Suits(l.Address); err != nil {
			report("address", err.Error())
		}
	}
	switch l.Protocol {
	case TCP, UDP, TLS:
		if l.Session.Cluster == "" && (l.Protocol == UDP || len(l.Session.SNI) == 0) {
			report("", fmt.Sprintf("a %s listener needs a cluster", l.Protocol))
		}
		needCluster("cluster", l.Session.Cluster)
		f.needL4("cluster", l.Session.Cluster, report)
		l.Session.Validate(report)
		for i, r := range l.Session.SNI {
			at := fmt.Sprintf("sni[%d].cluster", i)
			needCluster(at, r.Cluster)
			f.needL4(at, r.Cluster, report)
		}
	case HTTP, HTTPS:
		if l.HTTP.Routes == "" {
			report("", fmt.Sprintf("an %s listener needs routes", l.Protocol))
		} else if _, ok := f.Routes[l.HTTP.Routes]; !ok {
			report("routes", unknown("routes", l.HTTP.Routes, slices.Sorted(maps.Keys(f.Routes))))
		}
		l.HTTP.Validate(report)
		l.HTTP.ClusterNames(needCluster)
	}
	if l.Protocol == UDP {
		l.UDP.Validate(report)
		if strings.HasPrefix(l.Address, "unix:") {
			report("address", "a udp listener has host:port or [v6]:port")
		}
		return
	}
	switch {
	case l.TLS != nil && !l.Protocol.secure():
		report("tls", fmt.Sprintf("key \"tls\" is not for %s listeners, but for tls and https", l.Protocol))
	case l.TLS != nil:
		l.TLS.Validate(func(path, message string) { report("tls."+path, message) })
		if len(l.TLS.ALPN) > 0 && l.Protocol == HTTPS {
			report("tls.alpn", "is for tls listeners: an https listener offers what it speaks")
		}
	case l.Protocol.secure():
		report("", fmt.Sprintf("the key tls is missing: %s listeners need certificates", l.Protocol))
	}
	l.Socket.Validate(report)
	l.Preface.Validate(report)
}

// needL4 reports a cluster that sessions cannot be placed in.
func (f *File) needL4(path, name string, report func(path, message string)) {
	for i := range f.Clusters {
		if c := &f.Clusters[i]; c.Name == name {
			if c.HTTPOnly() {
				report(path, fmt.Sprintf("cluster %q needs to see requests, for its hash_key, sticky or adaptive, and this listener reads none", name))
			}
		}
	}
}

func protocols(of []Protocol, shared bool) string {
	names := []string{}
	for _, p := range of {
		names = append(names, string(p))
	}
	if shared {
		names = append(names, string(UDP))
	}
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " and " + names[n]
	}
	return strings.Join(names, "")
}

// given are the keys of a struct that are not at their zero value.
func given(v reflect.Value) (keys []string) {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			keys = append(keys, given(v.Field(i))...)
		case !v.Field(i).IsZero():
			keys = append(keys, name)
		}
	}
	return keys
}
