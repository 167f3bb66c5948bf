package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// responder answers for a CA.
type responder struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(*ocsp.Request) (template ocsp.Response, by testCA, ok bool)
	asked  atomic.Int64
}

func newResponder(t *testing.T, ca testCA) *responder {
	r := &responder{}
	r.answers(ca, ocsp.Good, 0, time.Hour)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.asked.Add(1)
		body, _ := io.ReadAll(q.Body)
		req, err := ocsp.ParseRequest(body)
		if err != nil || q.Header.Get("Content-Type") != "application/ocsp-request" {
			w.WriteHeader(400)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		template, by, ok := r.answer(req)
		if !ok {
			w.WriteHeader(500)
			return
		}
		der, err := ocsp.CreateResponse(ca.cert, by.cert, template, by.key)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(der)
	}))
	t.Cleanup(r.Close)
	return r
}

// answers has the responder say from now on what is the state of everything, from when to when.
func (r *responder) answers(by testCA, status int, from, to time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(q *ocsp.Request) (ocsp.Response, testCA, bool) {
		now := time.Now()
		return ocsp.Response{Status: status, SerialNumber: q.SerialNumber, ThisUpdate: now.Add(from), NextUpdate: now.Add(to),
			RevokedAt: now}, by, true
	}
}

func (r *responder) fails() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(*ocsp.Request) (ocsp.Response, testCA, bool) { return ocsp.Response{}, testCA{}, false }
}

func (r *responder) certificate(t *testing.T, ca testCA, names ...string) testCA {
	return ca.sign(t, newKey(t), func(c *x509.Certificate) { c.DNSNames, c.OCSPServer = names, []string{r.URL} })
}

// stapled is the response that a client of name is sent; nil: none.
func stapled(t *testing.T, s *Store, ca testCA, name string) []byte {
	t.Helper()
	return meet(t, s.Config(), &tls.Config{ServerName: name, RootCAs: ca.pool()}).ok(t).client.OCSPResponse
}

func TestResponseIsStapled(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	r := newResponder(t, ca)
	own := r.certificate(t, ca, "a.test")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", own, ca), f.pair("b", ca.forNames(t, "b.test"), ca)}})
	until(t, "a staple", func() bool { return !s.Certificates()[0].Stapled.IsZero() })
	got, err := ocsp.ParseResponseForCert(stapled(t, s, ca, "a.test"), own.cert, ca.cert)
	if err != nil || got.Status != ocsp.Good {
		t.Errorf("%+v, %v", got, err)
	}
	if stapled(t, s, ca, "b.test") != nil {
		t.Error("the staple of another certificate is sent")
	}
	// A certificate that takes its place has its own.
	next := r.certificate(t, ca, "a.test")
	f.pair("a", next, ca)
	s.Refresh()
	until(t, "its staple", func() bool { return !s.Certificates()[0].Stapled.IsZero() })
	if _, err := ocsp.ParseResponseForCert(stapled(t, s, ca, "a.test"), next.cert, ca.cert); err != nil {
		t.Error(err)
	}
}

func TestNoStapleOfWhatProvesNothing(t *testing.T) {
	ca, stranger := newCA(t, "root"), newCA(t, "stranger")
	for name, c := range map[string]struct {
		set  func(*responder)
		want string
	}{
		"revoked":     {func(r *responder) { r.answers(ca, ocsp.Revoked, 0, time.Hour) }, "was revoked at"},
		"unknown":     {func(r *responder) { r.answers(ca, ocsp.Unknown, 0, time.Hour) }, "does not know"},
		"over":        {func(r *responder) { r.answers(ca, ocsp.Good, -2*time.Hour, -time.Hour) }, "is over since"},
		"early":       {func(r *responder) { r.answers(ca, ocsp.Good, time.Hour, 2*time.Hour) }, "is not good before"},
		"stranger's":  {func(r *responder) { r.answers(stranger, ocsp.Good, 0, time.Hour) }, "OCSP response not renewed"},
		"no response": {func(r *responder) { r.fails() }, "status 500"},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newFolder(t), newResponder(t, ca)
			c.set(r)
			s, log := newStore(t, Config{Certificates: []Certificate{f.pair("a", r.certificate(t, ca, "a.test"), ca)}})
			until(t, "its refusal", func() bool { return log.has(c.want) })
			if stapled(t, s, ca, "a.test") != nil || !s.Certificates()[0].Stapled.IsZero() {
				t.Error("it is sent")
			}
		})
	}
}

func TestStapleIsRenewedAtHalfItsLife(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	r := newResponder(t, ca)
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", r.certificate(t, ca, "a.test"), ca)}})
	until(t, "a staple", func() bool { return !s.Certificates()[0].Stapled.IsZero() })
	first := stapled(t, s, ca, "a.test")
	at := func(d time.Duration) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refreshStaples(time.Now().Add(d)) {
			s.rebuild()
		}
	}
	idle := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.staples[s.pairs[0].print].busy
	}
	at(25 * time.Minute)
	until(t, "the end of an asking that should not be", idle)
	if n := r.asked.Load(); n != 1 {
		t.Errorf("asked %d times before half its life", n)
	}
	// A responder that fails leaves the staple while it is good.
	r.fails()
	at(35 * time.Minute)
	until(t, "the second asking", func() bool { return r.asked.Load() == 2 && s.Certificates()[0].Stapled != time.Time{} })
	until(t, "its end", idle)
	if string(stapled(t, s, ca, "a.test")) != string(first) {
		t.Error("the staple is gone with its responder")
	}
	at(30 * time.Second) // it is not asked again at once
	until(t, "the end of an asking that should not be", idle)
	if n := r.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	r.answers(ca, ocsp.Good, 0, 2*time.Hour)
	at(2 * time.Minute)
	until(t, "another staple", func() bool { return string(stapled(t, s, ca, "a.test")) != string(first) })
	r.fails()
	at(3 * time.Hour)
	if stapled(t, s, ca, "a.test") != nil {
		t.Error("it is sent when it is over")
	}
}

func TestNobodyIsAskedWhenOff(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	r := newResponder(t, ca)
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", r.certificate(t, ca, "a.test"), ca)}, OCSP: OCSP{Mode: OCSPOff}})
	s.Refresh()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.staples) != 0 || r.asked.Load() != 0 {
		t.Error("asked nevertheless")
	}
}

func TestStapleFromFile(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	own := ca.forNames(t, "b.test")
	made := func(to time.Duration) []byte {
		der, err := ocsp.CreateResponse(ca.cert, ca.cert, ocsp.Response{Status: ocsp.Good, SerialNumber: own.cert.SerialNumber,
			ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(to)}, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	first := made(time.Hour)
	s, log := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"), ca), f.pair("b", own, ca)},
		OCSP: OCSP{File: f.write("resp.der", first)}})
	if string(stapled(t, s, ca, "b.test")) != string(first) || stapled(t, s, ca, "a.test") != nil {
		t.Error("the file's response is not sent, or for another certificate")
	}
	f.write("resp.der", made(-time.Hour))
	s.Refresh()
	if !log.has("is over since") || string(stapled(t, s, ca, "b.test")) != string(first) {
		t.Error("a response that is over takes the place of one that is good")
	}
	second := made(2 * time.Hour)
	f.write("resp.der", second)
	s.Refresh()
	if string(stapled(t, s, ca, "b.test")) != string(second) {
		t.Error("the file is not read again")
	}
}
