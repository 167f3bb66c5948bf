package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sluice/lb/certs/acme"
)

// Store is what listeners need to speak TLS, kept up to date. For any goroutine.
type Store struct {
	cfg       Config
	log       *slog.Logger
	index     atomic.Pointer[index]
	authority atomic.Pointer[authority] // nil: clients are not asked for certificates
	tickets   *tickets                  // nil: there are none
	acme      *acme.Manager             // nil: there is none
	// responders asks those of OCSP, of which each is asked once in some days.
	responders *http.Client

	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu          sync.Mutex // one refresh at a time; it guards what follows
	pairs       []*pair
	pairFiles   []files
	clientFiles files
	stapleFile  files
	staples     map[[32]byte]*staple // by the certificate's fingerprint
	configs     map[string]*serverConfig
}

// New reads what cfg names, and goes on to watch it until Close. An error is one that cfg.Validate reports too, or that ACME's
// storage cannot be written. nil for log: the default.
func New(cfg Config, log *slog.Logger) (*Store, error) {
	var wrong error
	cfg.Validate(func(path, message string) {
		if path != "" {
			message = path + ": " + message
		}
		wrong = cmp.Or(wrong, errors.New(message))
	})
	if wrong != nil {
		return nil, wrong
	}
	s := &Store{cfg: cfg.withDefaults(), log: cmp.Or(log, slog.Default()), staples: map[[32]byte]*staple{},
		configs:    map[string]*serverConfig{},
		responders: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}, Timeout: ocspTimeout}}
	for _, c := range s.cfg.Certificates {
		s.pairFiles = append(s.pairFiles, filesOf(c.Cert, c.Key))
		p, err := loadPair(c)
		if err != nil {
			return nil, err
		}
		s.pairs = append(s.pairs, p)
	}
	if a := s.cfg.ClientAuth; a != nil {
		s.clientFiles = filesOf(a.CA, a.CRL)
		auth, err := newAuthority(*a)
		if err != nil {
			return nil, err
		}
		s.authority.Store(auth)
		for _, w := range auth.revoked.warnings(time.Now()) {
			s.log.Warn(w)
		}
	}
	if !s.cfg.Tickets.Off {
		var err error
		if s.tickets, err = newTickets(s.cfg.Tickets, time.Now()); err != nil {
			return nil, err
		}
	}
	if s.cfg.ACME != nil {
		var err error
		if s.acme, err = acme.New(*s.cfg.ACME, s.log); err != nil {
			return nil, err
		}
	}
	s.stapleFile = filesOf(s.cfg.OCSP.File)
	if s.cfg.OCSP.File != "" {
		s.readStaple(time.Now())
	}
	s.rebuild()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.group.Go(s.watch)
	return s, nil
}

// withDefaults fills in what was not given.
func (c Config) withDefaults() Config {
	c.MinVersion = cmp.Or(c.MinVersion, "1.2")
	c.OCSP.Mode = cmp.Or(c.OCSP.Mode, OCSPAuto)
	c.Tickets.Rotate = cmp.Or(c.Tickets.Rotate, 12*time.Hour)
	c.Tickets.Keep = cmp.Or(c.Tickets.Keep, 2)
	if a := c.ClientAuth; a != nil {
		a := *a
		a.Mode = cmp.Or(a.Mode, ClientRequire)
		if c.ClientAuth = &a; a.Mode == ClientNone {
			c.ClientAuth = nil
		}
	}
	return c
}

// Close ends the watching. Configurations that were made go on to work, with what was there last.
func (s *Store) Close() {
	s.cancel()
	s.group.Wait()
	if s.acme != nil {
		s.acme.Close()
	}
}

func (s *Store) watch() {
	t := time.NewTicker(glance)
	defer t.Stop()
	for {
		s.Refresh()
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Refresh takes up at once what has changed, which happens by itself every second. What is wrong is logged, and changes nothing:
// each certificate with its key, the authorities with their revocations, and the ticket keys stand and fall alone.
func (s *Store) Refresh() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for i := range s.pairs {
		if !s.pairFiles[i].changed() {
			continue
		}
		c := s.cfg.Certificates[i]
		p, err := loadPair(c)
		if err != nil {
			s.log.Error("certificate not reloaded, the one before stays in force", "cert", c.Cert, "error", err)
			continue
		}
		s.log.Info("certificate reloaded", "cert", c.Cert, "names", names(p.cert.Leaf), "not_after", p.cert.Leaf.NotAfter)
		for _, w := range p.warnings(now) {
			s.log.Warn(w)
		}
		s.pairs[i], changed = p, true
	}
	if s.stapleFile.changed() || changed && s.cfg.OCSP.File != "" {
		changed = s.readStaple(now) || changed
	}
	if s.refreshStaples(now) || changed {
		s.rebuild()
	}
	s.refreshAuthority(now)
	if s.tickets != nil {
		if err := s.tickets.refresh(now); err != nil {
			s.log.Error("ticket keys not reloaded, those before stay in force", "error", err)
		}
	}
}

func (s *Store) refreshAuthority(now time.Time) {
	if s.cfg.ClientAuth == nil || !s.clientFiles.changed() {
		return
	}
	auth, err := newAuthority(*s.cfg.ClientAuth)
	if err != nil {
		s.log.Error("client authorities not reloaded, those before stay in force", "error", err)
		return
	}
	for _, w := range auth.revoked.warnings(now) {
		s.log.Warn(w)
	}
	s.log.Info("client authorities reloaded", "ca", s.cfg.ClientAuth.CA, "revoked", auth.revoked.size())
	s.authority.Store(auth)
}

// rebuild publishes the pairs and their staples. s.mu is held, or s is not yet known to others.
func (s *Store) rebuild() {
	all := make([]*tls.Certificate, 0, len(s.pairs))
	for _, p := range s.pairs {
		c := p.cert
		if st := s.staples[p.print]; st != nil {
			c.OCSPStaple = st.raw
		}
		all = append(all, &c)
	}
	s.index.Store(newIndex(all))
}

// ACMEChallenge answers a request of the CA for http-01 (RFC 8555, section 8.3): the path of the request, which begins with
// /.well-known/acme-challenge/, and its host. It may read a file, and so is not for an engine's loop.
func (s *Store) ACMEChallenge(host, path string) (body string, ok bool) {
	if s.acme == nil {
		return "", false
	}
	return s.acme.Challenge(host, path)
}

// Status is what is known of a certificate.
type Status struct {
	Source              string // its file, or acme
	Names               []string
	NotBefore, NotAfter time.Time
	Expired             bool
	// Stapled is until when there is a staple; zero: there is none.
	Stapled time.Time
}

// Certificates are all that are served, in the order of the configuration.
func (s *Store) Certificates() (all []Status) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pairs {
		leaf := p.cert.Leaf
		st := Status{Source: p.from, Names: names(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Expired: now.After(leaf.NotAfter)}
		if staple := s.staples[p.print]; staple != nil && staple.raw != nil {
			st.Stapled = staple.until
		}
		all = append(all, st)
	}
	if s.acme != nil {
		for _, leaf := range s.acme.Certificates() {
			all = append(all, Status{Source: "acme", Names: names(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
				Expired: now.After(leaf.NotAfter)})
		}
	}
	return all
}
