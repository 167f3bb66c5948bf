package filter

import "sync"

// shared keeps what must outlive a configuration, by what it is made of: a reload that changes nothing of it goes on with the
// same one. The new configuration takes it before the old one gives it back.
type shared[K comparable, V any] struct {
	mu  sync.Mutex
	all map[K]*sharedValue[V]
}

type sharedValue[V any] struct {
	value V
	users int
}

// take makes it if nobody has it.
func (s *shared[K, V]) take(k K, make func() V) V {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[k]
	if e == nil {
		e = &sharedValue[V]{value: make()}
		if s.all == nil {
			s.all = map[K]*sharedValue[V]{}
		}
		s.all[k] = e
	}
	e.users++
	return e.value
}

// give gives it back; true: nobody has it any more, and it is the caller's to close.
func (s *shared[K, V]) give(k K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[k]
	if e.users--; e.users > 0 {
		return false
	}
	delete(s.all, k)
	return true
}
