package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ClientConfig is what connections towards endpoints need to speak TLS.
type ClientConfig struct {
	// CA is a PEM file of the authorities that may vouch for an endpoint, or system; not given: system.
	CA string `yaml:"ca"`
	// ServerName is who an endpoint has to be, and is told in SNI; not given: the host of its address.
	ServerName string `yaml:"server_name"`
	// Pins are SHA-256 digests in base64 of public keys (SPKI; RFC 7469, section 2.4), with sha256/ or without: one of them must be of
	// the endpoint or of one that vouches for it.
	Pins []string `yaml:"pins"`
	// Cert and Key are the certificate to show if an endpoint asks, in PEM; not given: none, and the same file.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// MinVersion is the oldest version to speak; not given: 1.2.
	MinVersion Version `yaml:"min_version"`
	// ALPN are the protocols to offer, the favourite first; not given: what the user of the connection speaks.
	ALPN []string `yaml:"alpn"`
	// Sessions is how many are remembered to be resumed; 0: 1024; -1: none.
	Sessions int `yaml:"sessions"`
	// InsecureSkipVerify takes anybody for the endpoint, but for Pins.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

const systemCA = "system"

// Validate reports what is wrong with c, by the path of the key. It reads the files.
func (c *ClientConfig) Validate(report func(path, message string)) {
	switch {
	case c.CA == "":
	case c.InsecureSkipVerify:
		report("ca", "is asked by nobody: insecure_skip_verify is set")
	default:
		if _, err := c.roots(); err != nil {
			report("ca", err.Error())
		}
	}
	for i, p := range c.Pins {
		if _, err := parsePin(p); err != nil {
			report("pins["+strconv.Itoa(i)+"]", err.Error())
		}
	}
	if c.Cert != "" {
		if _, err := loadPair(Certificate{c.Cert, c.Key}); err != nil {
			report("cert", err.Error())
		}
	} else if c.Key != "" {
		report("key", "is of no use without cert")
	}
	choice("min_version", c.MinVersion, report)
	validateALPN(c.ALPN, report)
	if c.Sessions < -1 || c.Sessions > 1<<20 {
		report("sessions", fmt.Sprintf("-1 to %d", 1<<20))
	}
}

// Warn reports, by the path of the key, what need not keep a process from starting but should be known. It reads the files.
func (c *ClientConfig) Warn(report func(path, message string)) {
	if c.InsecureSkipVerify && len(c.Pins) == 0 {
		report("insecure_skip_verify", "whoever answers is taken for the endpoint")
	}
	if c.Cert != "" {
		Certificate{c.Cert, c.Key}.warn("cert", time.Now(), report)
	}
}

// roots are the authorities; nil: the system's.
func (c *ClientConfig) roots() (*x509.CertPool, error) {
	if c.CA == "" || c.CA == systemCA {
		return nil, nil
	}
	cas, err := readCertificates(c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	return pool, nil
}

// Client is what connections towards endpoints need to speak TLS, kept up to date. For any goroutine.
type Client struct {
	cfg     ClientConfig
	pins    [][sha256.Size]byte
	log     *slog.Logger
	current atomic.Pointer[tls.Config]
	loads   atomic.Uint64
	done    chan struct{}
	group   sync.WaitGroup

	mu    sync.Mutex // one refresh at a time; it guards what follows
	files files
}

// NewClient reads what cfg names, and goes on to watch it until Close. An error is one that cfg.Validate reports too. nil for log: the
// default.
func NewClient(cfg ClientConfig, log *slog.Logger) (*Client, error) {
	var wrong error
	cfg.Validate(func(path, message string) { wrong = cmp.Or(wrong, errors.New(path+": "+message)) })
	if wrong != nil {
		return nil, wrong
	}
	cfg.Sessions = cmp.Or(cfg.Sessions, 1024)
	c := &Client{cfg: cfg, log: cmp.Or(log, slog.Default()), done: make(chan struct{})}
	for _, p := range cfg.Pins {
		pin, err := parsePin(p)
		if err != nil {
			return nil, err
		}
		c.pins = append(c.pins, pin)
	}
	var ca string
	if cfg.CA != systemCA {
		ca = cfg.CA
	}
	c.files = filesOf(ca, cfg.Cert, cfg.Key)
	if err := c.load(); err != nil {
		return nil, err
	}
	c.group.Go(c.watch)
	return c, nil
}

// Config is for a connection to a host, of which protocols are spoken if the configuration does not say. It is the caller's.
func (c *Client) Config(host string, alpn ...string) *tls.Config {
	t := c.current.Load().Clone()
	t.ServerName = cmp.Or(c.cfg.ServerName, host)
	if len(t.NextProtos) == 0 {
		t.NextProtos = slices.Clone(alpn)
	}
	return t
}

// Version counts the states of the files: a configuration that was made of an earlier one is out of date.
func (c *Client) Version() uint64 { return c.loads.Load() }

// Close ends the watching. Configurations that were made go on to work.
func (c *Client) Close() {
	close(c.done)
	c.group.Wait()
}

func (c *Client) watch() {
	t := time.NewTicker(glance)
	defer t.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-t.C:
			c.Refresh()
		}
	}
}

// Refresh takes up at once what has changed, which happens by itself every second.
func (c *Client) Refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.files.changed() {
		return
	}
	if err := c.load(); err != nil {
		c.log.Error("TLS towards endpoints not reloaded, what was there before stays in force", "error", err)
		return
	}
	c.log.Info("TLS towards endpoints reloaded", "files", c.files.names)
}

// load publishes what the files hold. With them the sessions change: one that is resumed is that of the certificate that it began with,
// and an endpoint that the CAs of then vouched for.
func (c *Client) load() error {
	t := &tls.Config{
		MinVersion:         c.cfg.MinVersion.number(),
		CipherSuites:       suites,
		CurvePreferences:   curves,
		NextProtos:         c.cfg.ALPN,
		InsecureSkipVerify: c.cfg.InsecureSkipVerify,
	}
	var err error
	if t.RootCAs, err = c.cfg.roots(); err != nil {
		return err
	}
	if c.cfg.Cert != "" {
		p, err := loadPair(Certificate{c.cfg.Cert, c.cfg.Key})
		if err != nil {
			return err
		}
		t.Certificates = []tls.Certificate{p.cert}
	}
	if c.cfg.Sessions > 0 {
		t.ClientSessionCache = tls.NewLRUClientSessionCache(c.cfg.Sessions)
	}
	if len(c.pins) > 0 {
		t.VerifyConnection = c.verifyPins
	}
	c.current.Store(t)
	c.loads.Add(1)
	return nil
}

var errUnpinned = errors.New("the endpoint's key is none of those that are pinned")

// verifyPins is tls.Config.VerifyConnection. Of a chain that nobody has verified only the endpoint's own key counts, whose possession it
// has proved: the rest are just words.
func (c *Client) verifyPins(state tls.ConnectionState) error {
	chains := state.VerifiedChains
	if len(chains) == 0 {
		chains = [][]*x509.Certificate{state.PeerCertificates[:min(1, len(state.PeerCertificates))]}
	}
	for _, chain := range chains {
		for _, cert := range chain {
			if slices.Contains(c.pins, sha256.Sum256(cert.RawSubjectPublicKeyInfo)) {
				return nil
			}
		}
	}
	return errUnpinned
}

func parsePin(s string) (pin [sha256.Size]byte, err error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "sha256/"))
	if err != nil || len(raw) != sha256.Size {
		return pin, errors.New("is not a SHA-256 digest in base64, as sha256/…")
	}
	return [sha256.Size]byte(raw), nil
}
