package lb

import (
	"errors"
	"sluice/engine"
	"time"
)

type Sticky struct{}

func (*Sticky) AppendSetCookie(dst []byte, ep *Endpoint, now time.Time) []byte { return dst }

var ErrShed = errors.New("shed")

func (c *Cluster) Sticky() *Sticky                                                    { return nil }
func (c *Cluster) TakeEndpoint(l *engine.Loop, ep *Endpoint, tried []*Endpoint) error { return nil }

func (*Sticky) Endpoint(v []byte, now time.Time) *Endpoint { return nil }
func (*Sticky) Find(v []byte) []byte                       { return nil }
