// Package tlslayer puts TLS between an engine.Conn and its socket.
package tlslayer
