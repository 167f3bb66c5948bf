package lb

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"

	"sluice/engine"
	"sluice/engine/tlslayer"
	"sluice/lb/certs"
)

// How connections towards endpoints speak TLS: the handshake comes between the dial and whoever dialled, behind the PROXY header
// if there is one.

// upstreamTLS is what a cluster needs for that.
type upstreamTLS struct {
	client     *certs.Client
	handshakes *tlslayer.Handshaker
}

// endpointTLS is an endpoint's tls.Config, made of the cluster's.
type endpointTLS struct {
	of  *certs.Client
	cfg *tls.Config
}

// SetHandshaker has the cluster's handshakes count against the bounds of h, which is for all of a process. Without it the cluster
// has bounds of its own. It is called before the first Dial.
func (c *Cluster) SetHandshaker(h *tlslayer.Handshaker) {
	if c.secure != nil {
		c.secure.handshakes = h
	}
}

// Secure says that the endpoints speak TLS; Introduce then comes before it, and Dial is told.
func (c *Cluster) Secure() bool { return c.secure != nil }

// TLSConfig is for connections to ep that are not a loop's; nil: they are in clear. It must not be changed.
func (c *Cluster) TLSConfig(ep *Endpoint) *tls.Config {
	if c.secure == nil {
		return nil
	}
	if t := ep.tls.Load(); t != nil && t.of == c.secure.client {
		return t.cfg
	}
	t := &endpointTLS{c.secure.client, c.secure.client.Config(ep.host())}
	ep.tls.Store(t)
	return t.cfg
}

// host is what the endpoint's certificate is to be for, if the configuration does not say.
func (ep *Endpoint) host() string {
	if strings.HasPrefix(ep.address, "unix:") {
		return "localhost"
	}
	host, _, err := net.SplitHostPort(ep.address)
	if err != nil {
		return ep.address
	}
	return host
}

// Dial connects to ep on behalf of client, as the cluster's configuration says. introduce writes what comes before TLS; nil:
// nothing does. It is not called if the cluster is not Secure.
func (c *Cluster) Dial(l *engine.Loop, ep *Endpoint, client netip.AddrPort, introduce func(*engine.Conn) bool, h engine.Handler) (*engine.Conn, error) {
	conn, err := l.DialWith(ep.Addrs(), c.cfg.ConnectTimeout, c.dial, client, h)
	if err != nil || c.secure == nil {
		return conn, err
	}
	conn.BeforeConnected(func(conn *engine.Conn) (bool, error) {
		if introduce != nil && !introduce(conn) {
			return false, errIntroduction
		}
		return true, c.secure.handshakes.Client(conn, c.TLSConfig(ep), opener{})
	})
	return conn, nil
}

// opener passes a connection on whose handshake is done.
type opener struct{}

// Secured implements tlslayer.Owner.
func (opener) Secured(c *engine.Conn, _ *tls.ConnectionState, err error) { c.Opened(err) }
