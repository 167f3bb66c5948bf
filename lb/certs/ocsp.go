package certs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	// maxResponse bounds an OCSP response; one with a responder's certificate has 2 KiB.
	maxResponse = 64 << 10
	ocspTimeout = 10 * time.Second
	// A responder that fails is asked again after retryFirst, then after twice that, up to retryLast: an outage of one must not
	// become a load on it.
	retryFirst = time.Minute
	retryLast  = time.Hour
	// ocspSkew is how far a responder's clock may be ahead of ours.
	ocspSkew = 5 * time.Minute
)

// staple is the state of a certificate's OCSP response. Store.mu guards it.
type staple struct {
	raw   []byte // nil: there is none to send
	until time.Time
	next  time.Time // when to ask
	wait  time.Duration
	busy  bool
	// fixed is one from a file: nobody is asked while it is good.
	fixed bool
}

// refreshStaples drops what is over and asks for what is due; true: something to publish has changed. s.mu is held.
func (s *Store) refreshStaples(now time.Time) (changed bool) {
	live := make(map[[32]byte]bool, len(s.pairs))
	for _, p := range s.pairs {
		live[p.print] = true
		st := s.staples[p.print]
		if st == nil && s.cfg.OCSP.Mode == OCSPAuto && len(p.cert.Leaf.OCSPServer) > 0 && p.issuer != nil {
			st = &staple{next: now}
			s.staples[p.print] = st
		}
		if st == nil {
			continue
		}
		if st.raw != nil && now.After(st.until) {
			st.raw, changed = nil, true
			s.log.Warn("OCSP response is over, and not sent any more", "cert", p.from)
			if st.fixed {
				delete(s.staples, p.print) // the responder is asked instead
				continue
			}
		}
		if !st.busy && !st.fixed && !now.Before(st.next) {
			st.busy = true
			s.group.Go(func() { s.fetchStaple(p, st) })
		}
	}
	for print := range s.staples {
		if !live[print] {
			delete(s.staples, print)
		}
	}
	return changed
}

// fetchStaple asks the certificate's responder, and publishes what it says.
func (s *Store) fetchStaple(p *pair, st *staple) {
	r, raw, err := fetchOCSP(s.ctx, s.responders, p)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.busy = false
	if s.ctx.Err() != nil {
		return
	}
	if err != nil {
		// The certificate is as good without: clients that insist on staples are few, and have a few days of the last one.
		st.wait = min(cmp.Or(2*st.wait, retryFirst), retryLast)
		st.next = now.Add(st.wait)
		s.log.Warn("OCSP response not renewed", "cert", p.from, "again_in", st.wait, "error", err)
		return
	}
	st.raw, st.until, st.wait = raw, r.NextUpdate, 0
	st.next = r.ThisUpdate.Add(r.NextUpdate.Sub(r.ThisUpdate) / 2)
	if soon := now.Add(retryFirst); st.next.Before(soon) {
		st.next = soon // the response was old already
	}
	s.rebuild()
}

// readStaple takes the response of the file for the certificate that it is about; true: there is one.
func (s *Store) readStaple(now time.Time) bool {
	raw, err := readFile(s.cfg.OCSP.File)
	if err == nil {
		err = errors.New("is about none of the certificates")
		for _, p := range s.pairs {
			r, wrong := parseOCSP(raw, p, now)
			if wrong == nil {
				s.staples[p.print] = &staple{raw: raw, until: r.NextUpdate, fixed: true}
				return true
			}
			if r != nil || len(s.pairs) == 1 {
				err = wrong
			}
		}
	}
	s.log.Error("OCSP response not loaded", "file", s.cfg.OCSP.File, "error", err)
	return false
}

// fetchOCSP asks the first responder of a certificate that answers well (RFC 6960, appendix A).
func fetchOCSP(ctx context.Context, client *http.Client, p *pair) (*ocsp.Response, []byte, error) {
	body, err := ocsp.CreateRequest(p.cert.Leaf, p.issuer, nil)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, url := range p.cert.Leaf.OCSPServer {
		raw, err := postOCSP(ctx, client, url, body)
		if err == nil {
			var r *ocsp.Response
			if r, err = parseOCSP(raw, p, time.Now()); err == nil {
				return r, raw, nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", url, err))
	}
	return nil, nil, errors.Join(errs...)
}

func postOCSP(ctx context.Context, client *http.Client, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err == nil && len(raw) > maxResponse {
		err = fmt.Errorf("more than %d bytes", maxResponse)
	}
	return raw, err
}

// parseOCSP checks that a response is about the certificate, signed for its issuer, good, and in force. With an error the response
// is not nil if it is one about the certificate.
func parseOCSP(raw []byte, p *pair, now time.Time) (*ocsp.Response, error) {
	if p.issuer == nil {
		return nil, errors.New("the certificate's file does not have its issuer, by which a response is verified")
	}
	r, err := ocsp.ParseResponseForCert(raw, p.cert.Leaf, p.issuer)
	switch {
	case err != nil:
		return nil, err
	case r.Status == ocsp.Revoked:
		return r, fmt.Errorf("the certificate was revoked at %v", r.RevokedAt)
	case r.Status != ocsp.Good:
		return r, errors.New("the responder does not know the certificate")
	case r.NextUpdate.IsZero():
		return r, errors.New("the response does not say how long it is good") // as RFC 5019, section 2.2.4, wants it to
	case now.Add(ocspSkew).Before(r.ThisUpdate):
		return r, fmt.Errorf("the response is not good before %v", r.ThisUpdate)
	case now.After(r.NextUpdate):
		return r, fmt.Errorf("the response is over since %v", r.NextUpdate)
	}
	return r, nil
}
