package gw

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// expectation is what must come of a case; the files' "schema" says what the keys mean.
type expectation struct {
	Status               []int
	PreferredStatus      int   `json:"preferred_status"`
	SecondStatus         []int `json:"second_status"`
	OrClose              bool  `json:"or_close"`
	Close                bool
	CloseOptional        bool   `json:"close_optional"`
	CloseIf200           bool   `json:"close_if_200"`
	MustNotReachUpstream bool   `json:"must_not_reach_upstream"`
	SoftUpstream         bool   `json:"soft_upstream"`
	NoComplete           bool   `json:"no_complete"`
	UpstreamIncomplete   bool   `json:"upstream_incomplete"`
	UpstreamRawAbsent    string `json:"upstream_raw_absent"`
	UpstreamRequests     []int  `json:"upstream_requests"`
	Responses            []int
	UpstreamSees         upstreamSees `json:"upstream_sees"`
	ClientSees           clientSees   `json:"client_sees"`
}

type upstreamSees struct {
	Body              *string
	ContainsAll       []string          `json:"contains_all"`
	HeadNotContains   string            `json:"head_not_contains"`
	HeaderCount       map[string]int    `json:"header_count"`
	HeaderValueAbsent string            `json:"header_value_absent"`
	HeadersAbsent     []string          `json:"headers_absent"`
	HeadersExact      map[string]latin1 `json:"headers_exact"`
	HeadersPresent    []string          `json:"headers_present"`
	Host              string
	Target            string
	XFFLastIsPeer     bool `json:"xff_last_is_peer"`
}

type clientSees struct {
	NotContains         latin1   `json:"not_contains"`
	ContainsAll         []latin1 `json:"contains_all"`
	ContainsNone        []latin1 `json:"contains_none"`
	HeadersAbsent       []string `json:"headers_absent"`
	NotBothCLTE         bool     `json:"not_both_cl_te"`
	BodyIf200           *string  `json:"body_if_200"`
	BodyIncompleteIf200 bool     `json:"body_incomplete_if_200"`
}

// judge says what is wrong with an outcome.
func (x *expectation) judge(o *outcome) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if len(o.responses) == 0 {
		if !x.OrClose {
			bad("no response")
		}
	} else {
		first := o.responses[0]
		if !slices.Contains(x.Status, first.status) {
			bad("status %d, not one of %v", first.status, x.Status)
		}
		if x.PreferredStatus != 0 && first.status != x.PreferredStatus {
			bad("status %d, rather than %d", first.status, x.PreferredStatus)
		}
		x.ClientSees.judge(o, &first, bad)
	}
	if len(o.responses) > 1 && x.SecondStatus != nil && !slices.Contains(x.SecondStatus, o.responses[1].status) {
		bad("second status %d, not one of %v", o.responses[1].status, x.SecondStatus)
	}
	if x.Close && !x.CloseOptional && !o.closed {
		bad("the connection was not closed")
	}
	if x.CloseIf200 && len(o.responses) > 0 && o.responses[0].status == 200 && !o.closed {
		bad("the connection was not closed after the beginning of a 200")
	}
	complete := 0
	for _, r := range o.reqs {
		if r.err == nil {
			complete++
		}
	}
	switch {
	case x.MustNotReachUpstream && !x.SoftUpstream && o.raw != "":
		bad("the upstream got %.200q", o.raw)
	case (x.NoComplete || x.UpstreamIncomplete) && complete > 0:
		bad("the upstream saw a complete request: %.200q", o.raw)
	}
	if r := x.UpstreamRequests; r != nil && (len(o.reqs) < r[0] || len(o.reqs) > r[1]) {
		bad("the upstream saw %d requests, not %v: %.300q", len(o.reqs), r, o.raw)
	}
	if r := x.Responses; r != nil && (len(o.responses) < r[0] || len(o.responses) > r[1]) {
		bad("the client saw %d responses, not %v", len(o.responses), r)
	}
	if x.UpstreamRawAbsent != "" && strings.Contains(o.raw, x.UpstreamRawAbsent) {
		bad("the upstream saw %q", x.UpstreamRawAbsent)
	}
	if len(o.reqs) > 0 {
		x.UpstreamSees.judge(o, bad)
	}
	return problems
}

func (x *upstreamSees) judge(o *outcome, bad func(string, ...any)) {
	r := &o.reqs[0]
	head, _, _ := strings.Cut(o.raw, "\r\n\r\n")
	if x.Body != nil && r.body != *x.Body {
		bad("the upstream saw body %q, not %q", r.body, *x.Body)
	}
	for _, s := range x.ContainsAll {
		if !strings.Contains(o.raw, s) {
			bad("the upstream did not see %q", s)
		}
	}
	if x.HeadNotContains != "" && strings.Contains(head, x.HeadNotContains) {
		bad("the upstream saw %q", x.HeadNotContains)
	}
	for name, n := range x.HeaderCount {
		if got := strings.Count(strings.ToLower(head), "\r\n"+strings.ToLower(name)+":"); got != n {
			bad("the upstream saw %s %d times, not %d", name, got, n)
		}
	}
	if x.HeaderValueAbsent != "" && strings.Contains(head, x.HeaderValueAbsent) {
		bad("the upstream saw the value %q", x.HeaderValueAbsent)
	}
	for _, name := range x.HeadersAbsent {
		if strings.Contains(strings.ToLower(head), "\r\n"+strings.ToLower(name)+":") {
			bad("the upstream saw %s", name)
		}
	}
	for name, v := range x.HeadersExact {
		if got := r.Header.Get(name); got != string(v) {
			bad("the upstream saw %s: %q, not %q", name, got, v)
		}
	}
	for _, name := range x.HeadersPresent {
		if r.Header.Get(name) == "" {
			bad("the upstream saw no %s", name)
		}
	}
	if x.Host != "" && r.Host != x.Host {
		bad("the upstream saw Host %q, not %q", r.Host, x.Host)
	}
	if x.Target != "" && r.RequestURI != x.Target {
		bad("the upstream saw target %q, not %q", r.RequestURI, x.Target)
	}
	if x.XFFLastIsPeer {
		list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if ip := net.ParseIP(strings.TrimSpace(list[len(list)-1])); ip == nil || !ip.IsLoopback() {
			bad("the last of X-Forwarded-For is not the client: %q", list)
		}
	}
}

func (x *clientSees) judge(o *outcome, first *answered, bad func(string, ...any)) {
	if x.NotContains != "" && strings.Contains(o.client, string(x.NotContains)) {
		bad("the client saw %q", x.NotContains)
	}
	for _, s := range x.ContainsAll {
		if !strings.Contains(o.client, string(s)) {
			bad("the client did not see %q in %.300q", s, o.client)
		}
	}
	for _, s := range x.ContainsNone {
		if strings.Contains(o.client, string(s)) {
			bad("the client saw %q", s)
		}
	}
	head, _, _ := strings.Cut(o.client, "\r\n\r\n")
	for _, name := range x.HeadersAbsent {
		if strings.Contains(strings.ToLower(o.client), "\r\n"+strings.ToLower(name)+":") {
			bad("the client saw %s", name)
		}
	}
	lower := strings.ToLower(head)
	if x.NotBothCLTE && strings.Contains(lower, "\r\ncontent-length:") && strings.Contains(lower, "\r\ntransfer-encoding:") {
		bad("the client saw Content-Length and Transfer-Encoding")
	}
	if first.status != 200 {
		return
	}
	if x.BodyIf200 != nil && first.body != *x.BodyIf200 {
		bad("the client saw body %q, not %q", first.body, *x.BodyIf200)
	}
	if x.BodyIncompleteIf200 && first.whole {
		bad("the client took a truncated body for a whole one: %q", first.body)
	}
}
