// Package route finds the route of a request: match → route. A Table is immutable and safe for all loops, and a lookup
// allocates nothing.
//
// Everything that a Match gives must hold. Of the routes that hold, the first in this order is the request's (Gateway
// API, HTTPRouteRule, and beyond it where it leaves the order open). Each line decides among those that are alike in the
// lines above it:
//
//	1  host      exact, then the longest wildcard, then host_regexp in the order of the file, then any host
//	2  path      path, then path_template, then the longest path_prefix, then path_regexp in the order of the file,
//	             then any path, which is also path_prefix: /
//	   template  more literal segments first, then one that ends before one with {rest...}, then the one that is
//	             literal where the other is variable, from the left
//	3  methods   fewer first, none at all last
//	4  headers   more first
//	5  query     more first
//	6  cookies   more first
//	7  sources   the one whose widest prefix is narrower first, none at all last
//	8  file      earlier first
//
// A route whose finer conditions fail is passed over: the search goes on in the same order, to less specific paths and
// then to less specific hosts. A regexp comes after prefixes, so that a new one takes no request from a prefix that
// somebody wrote out, and so that requests of a prefix do not pay for it. Its place in the order of the file is that of
// its pattern's first appearance.
//
// Cost, of h bytes of host and n bytes of path: O(h + n) for exact and prefix. Wildcards cost a hash of the rest of the
// host for each of its labels, which a name's 255 bytes bound. Templates cost no more than the nodes of the host's
// templates, each at most once, and no more than 2 to the number of segments; what cannot win any more is cut off. Regexps
// are tried one after another, each in time linear in n (RE2). Routes that differ in nothing but conditions are tried
// one after another too: a thousand routes on one path told apart by a header are a thousand comparisons with every field.
package route
