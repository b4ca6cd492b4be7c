package views

import (
	"fmt"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Limits of a filter.
const (
	// MaxFilter is the length of a filter in bytes.
	MaxFilter = 8 << 10
	// maxFilterDepth is how deep parentheses may nest.
	maxFilterDepth = 32
)

// Filter is a parsed filter. It decides over decoded events only; what it knows of ids, dictionaries and segments
// (narrow.go) merely spares it events that it would refuse anyway. The nil Filter accepts every event.
//
// The language is AIP-160: restrictions joined by AND, OR, NOT (or -) and parentheses, where OR binds closer than AND. A
// missing field is the empty text. `=` compares whole values byte for byte; `:` does too, unless its value ends in `*`: then
// it asks for a prefix, and `:"*"` for any value but the empty one. `!=` is NOT `=`. A restriction of a repeated field holds when it
// holds for one element.
type Filter struct {
	text string
	root *node
}

// String is the filter as it was written.
func (f *Filter) String() string {
	if f == nil {
		return ""
	}
	return f.text
}

// Match says whether the filter accepts the event.
func (f *Filter) Match(e *audittrailv1.Event) bool {
	return f == nil || f.root == nil || f.root.match(e)
}

// FilterError says where a filter is wrong and what was expected there.
type FilterError struct {
	// Position is the character of the filter, counted from 1.
	Position int
	// Message says what is wrong and what was expected.
	Message string
}

func (e *FilterError) Error() string {
	return fmt.Sprintf("at character %d: %s", e.Position, e.Message)
}

// nodeKind tells what a node of a filter is.
type nodeKind uint8

const (
	nodeTest nodeKind = iota // a leaf: one restriction
	nodeAnd                  // all kids
	nodeOr                   // one of the kids
	nodeNot                  // not its only kid
)

// node is one node of a parsed filter.
type node struct {
	kind nodeKind
	kids []*node
	test test
}

// join puts kids under one node. AND takes in the kids of an AND, and OR those of an OR: chains stay flat, so that walking
// them takes no stack.
func join(kind nodeKind, kids ...*node) *node {
	n := &node{kind: kind}
	for _, kid := range kids {
		if kid.kind == kind && kind != nodeNot {
			n.kids = append(n.kids, kid.kids...)
		} else {
			n.kids = append(n.kids, kid)
		}
	}
	return n
}
