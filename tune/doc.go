// Package tune knows what an edge needs of its host: a table of knobs, each of which looks at the facts of the host and the
// purpose of the edge, and says what is set, what is wanted, why, what it costs and how sure that is.
//
//	edge.go       what the edge is for, and what follows from it
//	knob.go       a knob, and what it says of a host
//	check.go      the ways of looking that many knobs share
//	limits.go …   the knobs, a file for each family
//	audit.go      all knobs at once: findings by weight
//	table.go      the audit as text; html.go: as a page
//	placement.go  which processors the loops belong to
//	topology.go   the host drawn: packages, caches, nodes, queues, loops
//	host          the facts, of the running machine or of a recorded one
//	change        what is set: plan, apply, confirm, verify, revert
//
// This package changes nothing; change does. A wanted value is a range or a minimum where more than one value is good, so that a host that
// follows the advice is clean; what cannot be seen is no finding, and what the edge does not use is not asked for.
//
//	facts := host.Read(host.Live())
//	for _, finding := range tune.Run(facts, tune.Edge{}).Findings {
//		fmt.Println(finding.Knob.Name, finding.Set, finding.Wanted)
//	}
package tune
