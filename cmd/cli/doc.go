// Package cli is what the command line does.
//
//	main.go    the commands, exit statuses and signals
//	file.go    the configuration file, and what makes a whole of it valid; listener.go: one of its listeners
//	server.go  a configuration built into a snapshot, swapped in, drained; termination.go: what TLS needs in it
//	bench.go   measuring: this proxy, its peers, its past
//	tune.go    looking at the host; tune_apply.go: setting it; tune_prove.go: what that is worth
//	admin.go   /metrics, /healthz, /readyz; metrics.go: what the first of them says
//	demo.go    the usual deployment in one process, with the services behind it
//
// It is the only package that sees all others.
package cli
