package lb

// Held is something that goes on with an endpoint, and has to end when the endpoint is taken out of use: a session, an
// exchange, a tunnel, in which it is meant to be embedded. Owned by the loop.
type Held struct {
	// Abort is called on the loop when the endpoint is to be left, at once: Held is detached by then.
	Abort      func()
	session    *session // is aborted instead: a method value would be an allocation for each
	prev, next *Held    // of the same endpoint and loop
}

func (h *Held) abort() {
	if h.session != nil {
		h.session.abort()
	} else {
		h.Abort()
	}
}

// Attach files h under the endpoint, on the endpoint's loop. It must not be attached anywhere.
func (n *Local) Attach(h *Held) {
	if h.next = n.held; h.next != nil {
		h.next.prev = h
	}
	n.held = h
}

// Detach takes back Attach. Of one that is not attached it does nothing.
func (n *Local) Detach(h *Held) {
	switch {
	case h.prev != nil:
		h.prev.next = h.next
	case n.held == h:
		n.held = h.next
	default:
		return
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.prev, h.next = nil, nil
}

// evict aborts what goes on with the endpoint, on every loop.
func (ep *Endpoint) evict() {
	for _, l := range ep.shared.engine {
		l.Post(ep.Local(l).evict)
	}
}

func (n *Local) evict() {
	// What is attached meanwhile stays, and whom an abort takes with it can still be detached: all have something before them.
	var list Held
	if list.next = n.held; list.next != nil {
		list.next.prev = &list
	}
	n.held = nil
	for list.next != nil {
		h := list.next
		n.Detach(h)
		h.abort()
	}
}
