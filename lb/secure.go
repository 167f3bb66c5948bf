package lb

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

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
	of    *certs.Client
	files uint64 // of's Version that it is made of
	cfg   *tls.Config
	// failed is when a handshake's failure was logged last, in Unix nanoseconds.
	failed atomic.Int64
}

// failuresEvery is how often at most it is logged why handshakes with an endpoint fail: each request of a busy gateway may try one.
const failuresEvery = time.Second

// SetHandshaker has the cluster's handshakes count against the bounds of h, which is for all of a process. Without it the cluster
// has bounds of its own. It is called before the first Dial.
func (c *Cluster) SetHandshaker(h *tlslayer.Handshaker) {
	if c.secure != nil && c.secure.handshakes != h { // of a cluster before a reload, loops read it
		c.secure.handshakes = h
	}
}

// Secure says that the endpoints speak TLS; Introduce then comes before it, and Dial is told.
func (c *Cluster) Secure() bool { return c.secure != nil }

// TLSConfig is for connections to ep; nil: they are in clear. It must not be changed, and is another one when the cluster's
// files have changed.
func (c *Cluster) TLSConfig(ep *Endpoint) *tls.Config {
	if c.secure == nil {
		return nil
	}
	of := c.secure.client
	files := of.Version() // before the configuration, which may be newer but not older
	if t := ep.tls.Load(); t != nil && t.of == of && t.files == files {
		return t.cfg
	}
	t := &endpointTLS{of: of, files: files, cfg: of.Config(ep.host())}
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
		if err := c.secure.handshakes.Client(conn, c.TLSConfig(ep), opener{c, ep}); err != nil {
			return false, err
		}
		conn.SetTimeout(c.cfg.ConnectTimeout) // an endpoint that accepts and says nothing is none that has answered
		return true, nil
	})
	return conn, nil
}

// opener passes a connection on whose handshake is done.
type opener struct {
	cluster *Cluster
	ep      *Endpoint
}

// Secured implements tlslayer.Owner.
func (o opener) Secured(c *engine.Conn, _ *tls.ConnectionState, err error) {
	if err != nil {
		o.log(err)
		if tlslayer.Classify(err) == tlslayer.Timeout {
			err = fmt.Errorf("%w: %w", engine.ErrDialTimeout, err)
		}
	}
	c.Opened(err)
}

// log tells why a handshake failed: of a certificate that is not accepted a client hears nothing but that there is no endpoint.
func (o opener) log(err error) {
	now, last := time.Now().UnixNano(), &o.ep.tls.Load().failed
	if before := last.Load(); now-before >= int64(failuresEvery) && last.CompareAndSwap(before, now) {
		o.cluster.log.Warn("endpoint cannot be spoken to", "endpoint", o.ep, "error", err)
	}
}
