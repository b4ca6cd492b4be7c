package views

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.einride.tech/aip/filtering"
	"google.golang.org/genproto/googleapis/api/expr/v1alpha1"
)

// ParseFilter reads an AIP-160 filter of at most MaxFilter bytes; its errors are *FilterError. The empty filter is nil
// and accepts everything.
func ParseFilter(text string) (*Filter, error) {
	if len(text) > MaxFilter {
		return nil, &FilterError{Position: utf8.RuneCountInString(text[:MaxFilter]) + 1,
			Message: fmt.Sprintf("the filter has %d bytes; expected at most %d", len(text), MaxFilter)}
	}
	p := filterParser{text: text}
	prepared, err := p.prepare(text)
	if err != nil || prepared == "" {
		return nil, err
	}
	var parser filtering.Parser
	parser.Init(prepared)
	parsed, err := parser.Parse()
	if err != nil {
		offset, message := innermost(err)
		return nil, p.errorAt(p.original(offset), "%s; %s", message, expectedSyntax)
	}
	p.positions = parsed.GetSourceInfo().GetPositions()
	root, err := p.convert(parsed.GetExpr())
	if err != nil {
		return nil, err
	}
	return &Filter{text: text, root: root}, nil
}

// filterParser turns what the library parsed into nodes.
type filterParser struct {
	text      string
	tokens    []tokenStart    // of what the library was given
	positions map[int64]int32 // byte offset of each expression, there
}

// tokenStart is where a token begins, in bytes: in the text, and in what the library was given.
type tokenStart struct{ text, prepared int }

const expectedSyntax = `expected restrictions such as actor.id = "alice" joined by AND, OR, NOT and parentheses, with text and times in quotes`

// prepare reads the tokens once. It finds what is no token and what nests too deep (the library recurses), and writes the filter as the
// library likes it: no white space before ")", which it takes for the start of another restriction, and some between NOT and "(", which it
// takes for a call.
func (p *filterParser) prepare(text string) (string, error) {
	var lexer filtering.Lexer
	lexer.Init(text)
	var out strings.Builder
	var last filtering.TokenType
	depth := 0
	space := false
	for {
		token, err := lexer.Lex()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			offset, message := innermost(err)
			return "", p.errorAt(offset, "%s; %s", message, expectedSyntax)
		}
		if token.Type == filtering.TokenTypeWhitespace {
			space = true
			continue
		}
		switch token.Type {
		case filtering.TokenTypeLeftParen:
			if depth++; depth > maxFilterDepth {
				return "", p.errorAt(int(token.Position.Offset), "parentheses nest too deep; expected at most %d levels", maxFilterDepth)
			}
			space = space || last == filtering.TokenTypeNot
		case filtering.TokenTypeRightParen:
			depth--
			space = false
		}
		if space && out.Len() > 0 {
			out.WriteByte(' ')
		}
		p.tokens = append(p.tokens, tokenStart{int(token.Position.Offset), out.Len()})
		out.WriteString(token.Value)
		last, space = token.Type, false
	}
	if last.IsKeyword() {
		return "", p.errorAt(len(strings.TrimRightFunc(text, unicode.IsSpace)), "the filter ends too early; %s", expectedSyntax)
	}
	return out.String(), nil
}

// original turns a byte offset of what the library was given into one of the text.
func (p *filterParser) original(offset int) int {
	after := sort.Search(len(p.tokens), func(i int) bool { return p.tokens[i].prepared > offset })
	if after == 0 {
		return offset
	}
	start := p.tokens[after-1]
	return start.text + offset - start.prepared
}

// errorAt makes an error at a byte offset of the text.
func (p *filterParser) errorAt(offset int, format string, args ...any) error {
	end := max(0, min(offset, len(p.text)))
	return &FilterError{Position: utf8.RuneCountInString(p.text[:end]) + 1, Message: fmt.Sprintf(format, args...)}
}

func (p *filterParser) errorOf(e *expr.Expr, format string, args ...any) error {
	return p.errorAt(p.original(int(p.positions[e.GetId()])), format, args...)
}

// innermost takes the innermost of the library's errors: the others only say within what it happened.
func innermost(err error) (offset int, message string) {
	type positioned interface {
		Position() filtering.Position
		Message() string
	}
	message = err.Error()
	for next := err; next != nil; next = errors.Unwrap(next) {
		if at, ok := next.(positioned); ok {
			offset, message = int(at.Position().Offset), at.Message()
		}
	}
	if message == "parse token" {
		message = "the filter ends too early"
	}
	return offset, message
}

// convert turns one expression of the library into a node.
func (p *filterParser) convert(e *expr.Expr) (*node, error) {
	call := e.GetCallExpr()
	if call == nil {
		return nil, p.errorOf(e, "expected a restriction such as actor.id = \"alice\", not a value alone")
	}
	switch name := call.GetFunction(); name {
	case filtering.FunctionAnd, filtering.FunctionFuzzyAnd:
		return p.convertAll(nodeAnd, e, call.GetArgs())
	case filtering.FunctionOr:
		return p.convertAll(nodeOr, e, call.GetArgs())
	case filtering.FunctionNot:
		return p.convertAll(nodeNot, e, call.GetArgs())
	case filtering.FunctionEquals, filtering.FunctionNotEquals, filtering.FunctionHas, filtering.FunctionLessThan,
		filtering.FunctionLessEquals, filtering.FunctionGreaterThan, filtering.FunctionGreaterEquals:
		return p.restriction(e, name, call.GetArgs()[0], call.GetArgs()[1])
	default:
		return nil, p.errorOf(e, "unknown function %q; expected a restriction such as actor.id = \"alice\"", clip(name, 64))
	}
}

// convertAll converts the operands of AND, OR or NOT. The library nests chains to the left: they are unrolled here, so
// that a long chain takes no stack.
func (p *filterParser) convertAll(kind nodeKind, e *expr.Expr, args []*expr.Expr) (*node, error) {
	var operands []*expr.Expr // last first
	for {
		if len(args) == 0 {
			return nil, p.errorOf(e, "expected restrictions to join")
		}
		operands = append(operands, args[1:]...)
		first := args[0].GetCallExpr()
		if len(args) != 2 || first == nil || kindOf(first.GetFunction()) != kind {
			operands = append(operands, args[0])
			break
		}
		args = first.GetArgs()
	}
	kids := make([]*node, len(operands))
	for i, operand := range operands {
		kid, err := p.convert(operand)
		if err != nil {
			return nil, err
		}
		kids[len(kids)-1-i] = kid
	}
	return join(kind, kids...), nil
}

// kindOf is the kind of node a function makes; nodeTest for any but AND and OR.
func kindOf(function string) nodeKind {
	switch function {
	case filtering.FunctionAnd, filtering.FunctionFuzzyAnd:
		return nodeAnd
	case filtering.FunctionOr:
		return nodeOr
	default:
		return nodeTest
	}
}

// restriction converts `field comparator value`.
func (p *filterParser) restriction(e *expr.Expr, comparator string, left, right *expr.Expr) (*node, error) {
	name, ok := dotted(left)
	f, known := fields[name]
	if !ok || !known {
		return nil, p.errorOf(left, "unknown field %q; expected one of %s", clip(name, 64), names(fields))
	}
	t := test{field: f, compare: compareEqual}
	negate := comparator == filtering.FunctionNotEquals
	if order, ok := orders[comparator]; ok {
		if f != fieldOccurredAt {
			return nil, p.errorOf(e, "%s cannot be ordered; expected one of =, !=, :", name)
		}
		t.compare = order
	}
	value, ok := valueText(right)
	if !ok {
		return nil, p.errorOf(right, "expected a value in quotes for %s", name)
	}
	has := comparator == filtering.FunctionHas
	switch f {
	case fieldKind, fieldOutcome:
		values, prefix := kinds, "ACTION_KIND_"
		if f == fieldOutcome {
			values, prefix = outcomes, "OUTCOME_"
		}
		if t.number, ok = enumValue(values, prefix, value); !ok {
			return nil, p.errorOf(right, "%q is no %s; expected one of %s", clip(value, 64), name, names(values))
		}
	case fieldOccurredAt:
		at, err := time.Parse(time.RFC3339Nano, value)
		if err != nil || has {
			return nil, p.errorOf(right, "expected =, !=, <, <=, > or >= and a time in quotes for occurred_at, such as \"2026-01-31T12:00:00Z\" (RFC 3339)")
		}
		t.time = at
	default:
		t.text = value
		if prefix, wild := strings.CutSuffix(value, "*"); has && wild {
			t.text, t.compare = prefix, comparePrefix
		}
	}
	n := &node{test: t}
	if negate {
		n = join(nodeNot, n)
	}
	return n, nil
}

var orders = map[string]compare{
	filtering.FunctionLessThan:      compareLess,
	filtering.FunctionLessEquals:    compareLessEqual,
	filtering.FunctionGreaterThan:   compareGreater,
	filtering.FunctionGreaterEquals: compareGreaterEqual,
}

// dotted puts the parts of a name together, as they were written: the library takes user.login for a field of user.
func dotted(e *expr.Expr) (string, bool) {
	var parts []string // last first
	for {
		if selected := e.GetSelectExpr(); selected != nil {
			parts = append(parts, selected.GetField())
			e = selected.GetOperand()
			continue
		}
		ident := e.GetIdentExpr()
		if ident == nil {
			return "", false
		}
		var b strings.Builder
		b.WriteString(ident.GetName())
		for i := len(parts) - 1; i >= 0; i-- {
			b.WriteByte('.')
			b.WriteString(parts[i])
		}
		return b.String(), true
	}
}

// valueText is a value: text in quotes, or bare where it has no characters that AIP-160 keeps for itself. Numbers are
// refused, because the library does not keep how they were written.
func valueText(e *expr.Expr) (string, bool) {
	if constant := e.GetConstExpr(); constant != nil {
		if _, ok := constant.GetConstantKind().(*expr.Constant_StringValue); ok {
			return constant.GetStringValue(), true
		}
		return "", false
	}
	return dotted(e)
}

// clip shortens what a caller sent before it goes into a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
