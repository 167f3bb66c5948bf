package certs

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// again is the client c with the last session that it has now, whatever comes later.
func again(c *tls.Config) *tls.Config {
	a := c.Clone()
	a.ClientSessionCache = &oneSession{c.ClientSessionCache.(*oneSession).last}
	return a
}

// resumer is a client of a.test that resumes its last session.
func resumer(ca testCA, version uint16) *tls.Config {
	return &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), ClientSessionCache: &oneSession{}, MaxVersion: version}
}

func TestNodesWithOneFileResumeEachOthersSessions(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	pairs := []Certificate{f.pair("a", ca.forNames(t, "a.test"))}
	shared := Tickets{File: f.write("keys", bytes.Repeat([]byte{7}, 80))}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, c := range map[string]struct {
			first, second Tickets
			want          bool
		}{
			"one file":        {shared, shared, true},
			"keys of our own": {Tickets{}, Tickets{}, false},
			"another file":    {shared, Tickets{File: f.write("others", bytes.Repeat([]byte{8}, 80))}, false},
			"off":             {shared, Tickets{Off: true}, false},
		} {
			one, _ := newStore(t, Config{Certificates: pairs, Tickets: c.first})
			two, _ := newStore(t, Config{Certificates: pairs, Tickets: c.second})
			client := resumer(ca, version)
			if meet(t, one.Config(), client).ok(t).server.DidResume {
				t.Fatal("resumed what was not there")
			}
			if got := meet(t, two.Config(), client).ok(t).server.DidResume; got != c.want {
				t.Errorf("%s, %s: resumed %v, want %v", name, tls.VersionName(version), got, c.want)
			}
		}
	}
}

func TestOffMakesNoTickets(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}, Tickets: Tickets{Off: true}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := resumer(ca, version)
		meet(t, s.Config(), client).ok(t)
		if client.ClientSessionCache.(*oneSession).last != nil || meet(t, s.Config(), client).ok(t).server.DidResume {
			t.Errorf("%s: there is a ticket", tls.VersionName(version))
		}
	}
}

func TestOldTicketsAreGoodForTheOverlap(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}, Tickets: Tickets{Rotate: time.Hour, Keep: 2}})
	server := s.Config()
	client := resumer(ca, tls.VersionTLS12)
	meet(t, server, client).ok(t)
	now := time.Now()
	for i, want := range []bool{true, true, true, false} { // its own time, two of old keys, and then no more
		if i > 0 {
			now = now.Add(time.Hour)
			if err := s.tickets.refresh(now); err != nil {
				t.Fatal(err)
			}
			if err := s.tickets.refresh(now.Add(time.Hour - time.Second)); err != nil { // not yet due
				t.Fatal(err)
			}
		}
		if got := meet(t, server, again(client)).ok(t).server.DidResume; got != want {
			t.Errorf("after %d rotations: resumed %v, want %v", i, got, want)
		}
	}
}

func TestTicketFileIsReadAgain(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	line := func(b byte) []byte {
		return append(base64.StdEncoding.AppendEncode(nil, bytes.Repeat([]byte{b}, 48)), '\n')
	}
	s, log := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}, Tickets: Tickets{File: f.write("keys", line(1))}})
	server, client := s.Config(), resumer(ca, tls.VersionTLS12)
	meet(t, server, client).ok(t)

	f.write("keys", line(2), line(1))
	s.Refresh()
	if !meet(t, server, again(client)).ok(t).server.DidResume {
		t.Error("a ticket of the second key is not taken")
	}
	// The first key encrypts: a node that has it alone takes what this one gives.
	fresh := resumer(ca, tls.VersionTLS12)
	meet(t, server, fresh).ok(t)
	other, _ := newStore(t, Config{Certificates: s.cfg.Certificates, Tickets: Tickets{File: f.write("two", line(2))}})
	if !meet(t, other.Config(), fresh).ok(t).server.DidResume {
		t.Error("the first key does not encrypt")
	}
	f.write("keys", []byte("not a key\n"))
	s.Refresh()
	if !log.has("ticket keys not reloaded") || !meet(t, server, again(client)).ok(t).server.DidResume {
		t.Error("a broken file was not refused, or changes something")
	}
	f.write("keys", line(2))
	s.Refresh()
	if meet(t, server, again(client)).ok(t).server.DidResume {
		t.Error("a ticket of a key that is gone is taken")
	}
}

func TestTicketFileFormats(t *testing.T) {
	f := newFolder(t)
	key := func(n int) string { return string(bytes.Repeat([]byte{byte(n)}, n)) }
	text := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, c := range map[string]struct {
		data string
		keys int
		want string
	}{
		"32 bytes":     {key(32), 1, ""},
		"48 bytes":     {key(48), 1, ""},
		"80 bytes":     {key(80), 1, ""},
		"31 bytes":     {key(31), 0, ":1: is neither base64 nor a key"},
		"lines":        {"# the newest\n" + text(key(48)) + "\n" + text(key(80)) + "\r\n\n" + text(key(32)), 3, ""},
		"short line":   {text(key(48)) + "\n" + text(key(16)) + "\n", 0, ":2: 16 bytes: a key has 32, 48 or 80"},
		"empty":        {"", 0, ": no key"},
		"comment only": {"#\n", 0, ": no key"},
		"too many":     {strings.Repeat(text(key(48))+"\n", 101), 0, ": more than 100 keys"},
	} {
		keys, err := readTicketKeys(f.write("keys", []byte(c.data)))
		if len(keys) != c.keys || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), "keys"+c.want) {
			t.Errorf("%s: %d keys, %v; want %d, %q", name, len(keys), err, c.keys, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), text(key(48))) || strings.Contains(err.Error(), key(31))) {
			t.Errorf("%s: the error quotes the keys", name)
		}
	}
	// The two forms are one key.
	a, _ := readTicketKeys(f.write("keys", []byte(key(48))))
	b, _ := readTicketKeys(f.write("keys", []byte(text(key(48)))))
	if a[0] != b[0] {
		t.Error("a key is another one in base64")
	}
}
