// Package acme gets certificates from a CA by itself, and renews them (RFC 8555). What it is asked by the CA it answers through the
// listeners that are there already: Challenge is for those of plain HTTP, ChallengeCertificate for those of TLS.
//
// certmagic decides when a certificate is due (with renewal information of the CA, RFC 9773), stores and locks, and tries again with
// growing intervals. Its own issuer is not used, for it opens listeners on ports 80 and 443 if nobody is there.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// Manager has the certificates of a configuration's domains. For any goroutine.
type Manager struct {
	cfg        Config
	cache      *certmagic.Cache
	challenges *challenges
	http       *http.Client // towards the CA
	cancel     context.CancelFunc
	group      sync.WaitGroup
}

// New loads the certificates that the storage has, and goes on to get and renew them in the background until Close. An error is one of
// the storage, or one that cfg.Validate reports. nil for log: the default.
func New(cfg Config, log *slog.Logger) (*Manager, error) {
	cfg = cfg.withDefaults()
	if log == nil {
		log = slog.Default()
	}
	if err := os.MkdirAll(cfg.Storage, 0o700); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	storage := storageOf(cfg)
	m := &Manager{cfg: cfg, challenges: newChallenges(storage)}
	issuer, err := newIssuer(cfg, storage, m.challenges, log)
	if err != nil {
		return nil, err
	}
	m.http = issuer.client.HTTPClient
	logger := zapFor(log)
	var magic atomic.Pointer[certmagic.Config] // each of the two needs the other
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic.Load(), nil },
		Logger:           logger,
	})
	magic.Store(certmagic.New(m.cache, certmagic.Config{
		Issuers: []certmagic.Issuer{issuer},
		Storage: storage,
		Logger:  logger,
	}))
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	loaded := make(chan struct{})
	m.group.Go(func() { m.manage(ctx, magic.Load(), log, loaded) })
	select {
	case <-loaded:
	case <-time.After(loadTimeout):
	}
	return m, nil
}

// loadTimeout is how long New waits for what the storage has: with a certificate comes its OCSP response, whose responder may be slow.
const loadTimeout = 5 * time.Second

// manage loads what there is, gets what there is not, and renews what is due. (certmagic's ManageAsync does too, but beyond Close.)
func (m *Manager) manage(ctx context.Context, magic *certmagic.Config, log *slog.Logger, loaded chan<- struct{}) {
	var missing []string
	for _, d := range m.cfg.Domains {
		if _, err := magic.CacheManagedCertificate(ctx, d); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			log.Error("acme: stored certificate not loaded", "domain", d, "error", err)
		}
		missing = append(missing, d)
	}
	close(loaded)
	for _, d := range missing {
		m.group.Go(func() {
			// It tries again for 30 days, at intervals that grow to one.
			err := magic.ObtainCertAsync(ctx, d)
			if err == nil {
				_, err = magic.CacheManagedCertificate(ctx, d)
			}
			if err != nil && ctx.Err() == nil {
				log.Error("acme: no certificate", "domain", d, "error", err)
			}
		})
	}
	// What was loaded is looked at here, for the next look of certmagic's own is 10 min away.
	if err := m.cache.RenewManagedCertificates(ctx); err != nil {
		log.Error("acme: not renewed", "error", err)
	}
}

// Close ends the getting and renewing. What is there already goes on to be found.
func (m *Manager) Close() {
	m.cancel()
	m.group.Wait()
	m.cache.Stop()
	m.http.CloseIdleConnections()
}

// Manages says that a host name is one of the domains.
func (m *Manager) Manages(name string) bool {
	return slices.Contains(m.cfg.Domains, strings.ToLower(name))
}

// Certificate is that of a domain; of any other name, that of the first domain, if whoever asks wants one anyway; nil: there is none
// yet, or none any more.
func (m *Manager) Certificate(name string, anyway bool) *tls.Certificate {
	if !m.Manages(name) {
		if !anyway {
			return nil
		}
		name = m.cfg.Domains[0]
	}
	now := time.Now()
	for _, c := range m.cache.AllMatchingCertificates(strings.ToLower(name)) {
		if now.Before(c.Leaf.NotAfter) {
			return &c.Certificate
		}
	}
	return nil
}

// Certificates are those of all domains that have one.
func (m *Manager) Certificates() (all []*x509.Certificate) {
	for _, d := range m.cfg.Domains {
		for _, c := range m.cache.AllMatchingCertificates(d) {
			all = append(all, c.Leaf)
		}
	}
	return all
}

func storageOf(cfg Config) certmagic.Storage { return &certmagic.FileStorage{Path: cfg.Storage} }
