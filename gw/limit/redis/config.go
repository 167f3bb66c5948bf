package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/redis/rueidis"
)

// Config says where the server is, and how it is spoken to.
type Config struct {
	// Address is host:port.
	Address string `yaml:"address"`
	// Username, and Password or PasswordFile, whose first line it is, are for servers that want them.
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	// TLS has the connection encrypted, and the server's certificate verified.
	TLS *TLS `yaml:"tls"`
}

// TLS is how a server is known, and a client makes itself known. Files are PEM, and read again with each connection.
type TLS struct {
	// CA are the certificates that the server's is signed by; not given: the system's.
	CA string `yaml:"ca"`
	// ServerName is what the server's certificate is for; not given: the host of the address.
	ServerName string `yaml:"server_name"`
	// Cert and Key are the client's own, if the server wants one.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	if _, port, err := net.SplitHostPort(c.Address); err != nil || port == "" {
		report("address", fmt.Sprintf("%q is not a host and a port, as in 127.0.0.1:6379", c.Address))
	}
	if c.Password != "" && c.PasswordFile != "" {
		report("password", "takes the place of password_file: give one or the other")
	}
	if c.Username != "" && c.Password == "" && c.PasswordFile == "" {
		report("username", "a user needs a password or a password_file")
	}
	if t := c.TLS; t != nil {
		if (t.Cert == "") != (t.Key == "") {
			report("tls", "cert and key go together")
			return
		}
		if _, err := t.config(); err != nil {
			report("tls", err.Error())
		}
	}
}

// ID is all of c in one string, which holds its password: for comparison, not to be shown.
func (c *Config) ID() string {
	id := fmt.Sprintf("%q %q %q %q", c.Address, c.Username, c.Password, c.PasswordFile)
	if c.TLS != nil {
		id += fmt.Sprintf(" %q", *c.TLS)
	}
	return id
}

func (t *TLS) config() (*tls.Config, error) {
	out := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: no certificate in %s", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// options are a client's.
func (c *Config) options() (rueidis.ClientOption, error) {
	out := rueidis.ClientOption{
		InitAddress: []string{c.Address}, Username: c.Username, Password: c.Password, ClientName: "sluice",
		DisableCache: true, DisableRetry: true, AlwaysPipelining: true,
		Dialer: net.Dialer{Timeout: dialTimeout}, ConnWriteTimeout: dialTimeout,
	}
	if c.PasswordFile != "" {
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return out, fmt.Errorf("password of redis: %w", err)
		}
		out.Password, _, _ = strings.Cut(string(b), "\n")
	}
	if c.TLS != nil {
		var err error
		if out.TLSConfig, err = c.TLS.config(); err != nil {
			return out, fmt.Errorf("tls of redis: %w", err)
		}
		if out.TLSConfig.ServerName == "" {
			out.TLSConfig.ServerName, _, _ = net.SplitHostPort(c.Address)
		}
	}
	return out, nil
}

// Kind is what sort of failure err is, in a word for a metric's label: none, timeout, tls, answer (the server has said no) or connection.
func Kind(err error) string {
	var (
		timeout interface{ Timeout() bool }
		unknown *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		op      *net.OpError
		no      *rueidis.RedisError
	)
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &unknown), errors.As(err, &record),
		errors.As(err, &op) && op.Op == "remote error": // an alert of the server's, whose type crypto/tls keeps to itself
		return "tls"
	case errors.As(err, &no):
		return "answer"
	}
	return "connection"
}
