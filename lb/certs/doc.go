// Package certs makes the tls.Config of listeners and of connections towards endpoints: certificates by name, reloaded when
// their files change; OCSP staples; session ticket keys that nodes share; client certificates and their revocation; ACME.
//
// It opens no listener and dials nobody but OCSP responders and the ACME server. Store is the server's side, Client the other.
// Both read their files once a second for what has changed, and what is wrong then leaves the last good state in force. What a
// handshake looks at is immutable and stands behind an atomic pointer: no handshake waits for a reload, or sees half of one.
package certs
