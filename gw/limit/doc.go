// Package limit is rate limiting without locks: the generic cell rate algorithm (ITU-T I.371, annex A), whose state is one
// instant per key, in a table of bounded size. It knows nothing of HTTP, and of no clock: the caller says what time it is.
package limit
