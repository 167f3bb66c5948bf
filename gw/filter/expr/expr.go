// Package expr compiles and evaluates expressions of CEL (the Common Expression Language) over a request, who it is from, and where
// it comes from:
//
//	request.method                    string, as sent: methods have case
//	request.path                      string, as routes match it: without the parameters (;v=1) of its segments
//	request.host                      string, lower-case, without the port
//	request.headers                   map of strings: names in any case; the values of one that is there twice joined by ", "
//	request.query                     map of strings, decoded; one that is there twice is an error, as who reads it next may take the other
//	identity.subject, identity.by     string, empty if nobody has found out who it is
//	identity.claims                   map of anything, empty then
//	source.ip                         string; empty for a Unix socket
//	cidr(address, prefix or list)     bool; an address that is none is an error
//
// and the functions of CEL's strings extension. What is wrong with an expression that can be known without a request is an error of
// Compile: types, names, regexps and prefixes that are literals. The rest is an error of evaluation: a header that is not there, a
// claim of another type, a cost above the limit. Who decides by an expression takes an error for no.
package expr

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
)

// DefaultCost bounds an evaluation: CEL's unit is about an operation, or ten bytes that one looks at. It is some milliseconds at
// worst, and a hundred times what an expression over a few headers takes.
const DefaultCost = 10_000

// maxSource bounds an expression, in bytes.
const maxSource = 16 << 10

// Result is what an expression has to be.
type Result int

// The results.
const (
	Bool Result = iota
	String
	// Int is a whole number; Key a string, a number or yes and no, of which only the difference counts.
	Int
	Key
)

// kinds are the types that each may have, besides one that is known only when it is evaluated.
var kinds = [...][]*cel.Type{
	Bool: {cel.BoolType}, String: {cel.StringType}, Int: {cel.IntType, cel.UintType},
	Key: {cel.StringType, cel.IntType, cel.UintType, cel.DoubleType, cel.BoolType},
}

// of says what r is, for an error.
func (r Result) of() string {
	names := make([]string, len(kinds[r]))
	for i, k := range kinds[r] {
		names[i] = k.String()
	}
	return strings.Join(names, " or ")
}

// Program is a compiled expression. It is immutable, and safe for all loops.
type Program struct {
	program cel.Program
	uses    uses
}

// Compile compiles source; cost is the limit of an evaluation, in CEL's units, 0: DefaultCost. An error begins with
// line:column, from 1.
func Compile(source string, want Result, cost uint64) (*Program, error) {
	if strings.TrimSpace(source) == "" {
		return nil, errors.New("the expression is empty")
	}
	if len(source) > maxSource {
		return nil, fmt.Errorf("the expression has %d bytes, of at most %d", len(source), maxSource)
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(source)
	if issues != nil && len(issues.Errors()) > 0 {
		e := issues.Errors()[0]
		return nil, fmt.Errorf("%d:%d: %s", e.Location.Line(), e.Location.Column()+1, e.Message)
	}
	if got := checked.OutputType(); !got.IsExactType(cel.DynType) && !slices.ContainsFunc(kinds[want], got.IsExactType) {
		return nil, fmt.Errorf("1:1: the expression is of type %s, not %s", got, want.of())
	}
	if cost == 0 {
		cost = DefaultCost
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	// To count what it costs is most of what a small expression costs (BenchmarkBool), and not needed where it cannot be too much.
	if most, err := env.EstimateCost(checked, sizes{}); err != nil || most.Max > cost {
		options = append(options, cel.CostLimit(cost))
	}
	p, err := env.Program(checked, options...)
	if err != nil {
		return nil, fmt.Errorf("1:1: %w", err)
	}
	return &Program{program: p, uses: usesOf(checked.NativeRep())}, nil
}

var errKind = errors.New("the result is of another type")

// Bool evaluates an expression that is a Bool. The error may have something of the request in it, and is not for clients or logs.
func (p *Program) Bool(in *Input) (bool, error) {
	v, err := p.eval(in)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, errKind
	}
	return bool(b), nil
}

// String evaluates an expression that is a String, with the same errors. The string is the caller's to keep.
func (p *Program) String(in *Input) (string, error) {
	v, err := p.eval(in)
	if err != nil {
		return "", err
	}
	s, ok := v.(types.String)
	if !ok {
		return "", errKind
	}
	return string(s), nil
}

// Int evaluates an expression that is an Int, with the same errors. A number of a token's claims has no type of its own: it is
// taken if it is whole.
func (p *Program) Int(in *Input) (int64, error) {
	v, err := p.eval(in)
	if err != nil {
		return 0, err
	}
	switch n := v.(type) {
	case types.Int:
		return int64(n), nil
	case types.Uint:
		if n <= math.MaxInt64 {
			return int64(n), nil
		}
	case types.Double:
		if f := float64(n); f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
			return int64(f), nil
		}
	}
	return 0, errKind
}

// AppendKey evaluates an expression that is a Key, with the same errors, and appends it as text. A string and a number of the same
// text are the same.
func (p *Program) AppendKey(dst []byte, in *Input) ([]byte, error) {
	v, err := p.eval(in)
	if err != nil {
		return dst, err
	}
	switch k := v.(type) {
	case types.String:
		return append(dst, k...), nil
	case types.Int:
		return strconv.AppendInt(dst, int64(k), 10), nil
	case types.Uint:
		return strconv.AppendUint(dst, uint64(k), 10), nil
	case types.Double:
		return strconv.AppendFloat(dst, float64(k), 'f', -1, 64), nil
	case types.Bool:
		return strconv.AppendBool(dst, bool(k)), nil
	}
	return dst, errKind
}

func (p *Program) eval(in *Input) (ref.Val, error) {
	b := bindings.Get().(*binding)
	b.reset(in, p.uses)
	v, _, err := p.program.Eval(b)
	*b = binding{room: b.room}
	bindings.Put(b)
	return v, err
}

// maxInput bounds, in bytes or elements, what a variable can hold: all comes out of a request's head, or out of a token or a key's
// entry that is no longer.
const maxInput = 128 << 10

// sizes estimates what CEL does not know.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(e checker.AstNode) *checker.SizeEstimate {
	if len(e.Path()) == 0 {
		return nil // put together by the expression: without bound
	}
	return &checker.SizeEstimate{Max: maxInput}
}

// EstimateCallCost implements checker.CostEstimator. The strings extension's functions are not known to CEL's own estimate, and a
// cost without bound has them counted.
func (sizes) EstimateCallCost(function, _ string, _ *checker.AstNode, _ []checker.AstNode) *checker.CallEstimate {
	if slices.Contains(stringFunctions, function) {
		return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Max: math.MaxUint64}}
	}
	return nil
}

var stringFunctions = []string{"charAt", "format", "indexOf", "join", "lastIndexOf", "lowerAscii", "replace", "reverse", "split",
	"strings.quote", "substring", "trim", "upperAscii"}

// environment is what expressions can name. It is made once, and immutable.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	ofStrings := cel.MapType(cel.StringType, cel.StringType)
	return cel.NewEnv(
		cel.Variable(method, cel.StringType), cel.Variable(path, cel.StringType), cel.Variable(host, cel.StringType),
		cel.Variable(headers, ofStrings), cel.Variable(query, ofStrings),
		cel.Variable(subject, cel.StringType), cel.Variable(by, cel.StringType),
		cel.Variable(claims, cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable(sourceIP, cel.StringType),
		cel.Function("cidr",
			cel.Overload("cidr_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(cidr)),
			cel.Overload("cidr_string_list", []*cel.Type{cel.StringType, cel.ListType(cel.StringType)}, cel.BoolType, cel.BinaryBinding(cidr))),
		ext.Strings(),
		cel.ParserExpressionSizeLimit(maxSource),
		cel.ASTValidators(cel.ValidateRegexLiterals(), prefixLiterals{}),
	)
})

// cidr says whether an address is in a prefix, or in one of a list.
func cidr(address, in ref.Val) ref.Val {
	s, ok := address.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(address)
	}
	a, err := netip.ParseAddr(string(s))
	if err != nil {
		return types.NewErr("cidr: not an address")
	}
	a = a.Unmap().WithZone("")
	list, ok := in.(traits.Lister)
	if !ok {
		return contains(a, in)
	}
	n, _ := list.Size().(types.Int)
	found := types.False
	for i := types.Int(0); i < n; i++ { // to the end: one that is no prefix is found whoever asks
		v := contains(a, list.Get(i))
		if types.IsError(v) {
			return v
		}
		if v == types.True {
			found = types.True
		}
	}
	return found
}

func contains(a netip.Addr, prefix ref.Val) ref.Val {
	s, ok := prefix.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(prefix)
	}
	p, err := parsePrefix(string(s))
	if err != nil {
		return types.NewErr("cidr: not a prefix")
	}
	return types.Bool(p.Contains(a))
}

// parsePrefix takes an address alone, too.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is neither an address nor a prefix like 192.0.2.0/24 or 2001:db8::/32", s)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits set beyond its length: is it %s, or the address alone?", s, p.Masked())
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is IPv4 in IPv6: write it as IPv4", s)
	}
	return p, nil
}

// prefixLiterals finds prefixes of cidr that are none.
type prefixLiterals struct{}

// Name implements cel.ASTValidator.
func (prefixLiterals) Name() string { return "sluice.prefixes" }

// Validate implements cel.ASTValidator.
func (prefixLiterals) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	check := func(e ast.Expr) {
		if e.Kind() != ast.LiteralKind {
			return
		}
		if s, ok := e.AsLiteral().(types.String); ok {
			if _, err := parsePrefix(string(s)); err != nil {
				issues.ReportErrorAtID(e.ID(), "%s", err)
			}
		}
	}
	for _, call := range ast.MatchDescendants(ast.NavigateAST(a), ast.FunctionMatcher("cidr")) {
		args := call.AsCall().Args()
		if len(args) != 2 {
			continue
		}
		if args[1].Kind() != ast.ListKind {
			check(args[1])
			continue
		}
		for _, e := range args[1].AsList().Elements() {
			check(e)
		}
	}
}
