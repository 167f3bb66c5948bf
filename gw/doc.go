// Package gw is the L7 gateway: HTTP/1.1 on the engine's loops.
//
//	Accept ──► downstream: head (h1) ──► exchange: route ──► filters ──► pick ──► upstream connection
//	           downstream ◄── response, streamed ◄── filters, in reverse ◄── head (h1) ◄─┘
//
// exchange.go is a request's journey: connect.go finds it an endpoint, upload.go and download.go pass it on and its response
// back, timing.go says what waits how long, failure.go what becomes of it when a side fails; downstream.go and upstream.go
// are its two ends. hedge.go, mirror.go and tunnel.go are what it may come to beside that. pipeline.go has the filters see it,
// pause.go has it stand still for them, call.go sends what they ask. All of it happens on one loop, without locks. An idle
// connection holds no exchange and no buffer.
package gw
