package filter

import "github.com/valyala/fasthttp"

// Identity is who a request comes from, as a filter that authenticates has found: for limits, logs, expressions and headers.
// Immutable once it is set.
type Identity struct {
	// Subject names who it is: a JWT's sub, the name of an API key, a user.
	Subject string
	// By is the filter that found it: jwt, api_key, basic, hmac, ext_auth; or client_cert, which is there before them.
	By string
	// Claims are what else it says: a JWT's claims, the attributes of a key. May be nil.
	Claims map[string]any
}

// Namer is implemented by filters that say themselves what stands under some names in a request: RequestNames. They change the head;
// who runs them keeps out what a client sends under these names behind its body (RFC 9110, section 6.5).
type Namer interface{ RequestNames() []string }

type identityKey struct{}

// SetIdentity has the filters that follow, and the response phase, see who it is.
func SetIdentity(ctx *fasthttp.RequestCtx, id *Identity) { ctx.SetUserValue(identityKey{}, id) }

// IdentityOf is who it is; nil: nobody has found out.
func IdentityOf(ctx *fasthttp.RequestCtx) *Identity {
	id, _ := ctx.UserValue(identityKey{}).(*Identity)
	return id
}
