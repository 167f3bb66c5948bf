// Package gw is the L7 gateway: HTTP/1.1 on the engine's loops.
//
//	Accept ──► downstream: head (h1) ──► exchange: route ──► filters ──► pick ──► upstream connection
//	           downstream ◄── response, streamed ◄── filters, in reverse ◄── head (h1) ◄─┘
//
// exchange.go reads as a request's journey, failure.go as what may befall it; downstream.go and upstream.go are its two
// ends. All of it happens on one loop, without locks. An idle connection holds no exchange and no buffer.
package gw
