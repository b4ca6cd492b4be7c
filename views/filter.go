package views

import (
	"fmt"
	"net/netip"
	"time"
)

// Bounds of a filter. They bound what one record costs the evaluator, too.
const (
	// MaxFilter is the length of a filter in bytes.
	MaxFilter = 8 << 10
	// maxFilterDepth is how deep parentheses and NOT may nest.
	maxFilterDepth = 32
	// maxTests is how many restrictions a filter may have.
	maxTests = 1000
	// maxWords is how many words of free text: each is looked for in many fields.
	maxWords = 16
)

// Filter is a parsed filter. The nil Filter accepts every event.
//
// The language is AIP-160: restrictions joined by AND, OR, NOT (or -) and parentheses, where OR binds closer than AND; docs/filters.md has it
// in full. A missing field is the empty text. `=` compares whole values byte for byte; `:` does too, unless its value begins or ends
// in `*`: then it asks for a suffix, a prefix or a part, and `:*` for any value but the empty one. `!=` is NOT `=`. A restriction of a
// repeated field holds when it holds for one element.
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
	if len(kids) == 1 && kind != nodeNot {
		return kids[0]
	}
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

// compare is how a restriction compares.
type compare uint8

const (
	compareEqual compare = iota
	comparePrefix
	compareSuffix
	comparePart
	comparePresent // any value but the empty one
	compareWords   // a part, capital and small letters being the same
	compareLess
	compareLessEqual
	compareGreater
	compareGreaterEqual
)

// test is one restriction. Which of the values counts depends on the kind of the field.
type test struct {
	field   *field
	compare compare
	key     string // of an attribute; empty with kindValue: any
	text    string // of text, attributes, enumerations (the name), ids; folded for compareWords
	number  int64  // of enumerations, numbers, booleans, durations (in nanoseconds), positions
	time    time.Time
	network netip.Prefix // of addresses
	slots   slots        // where the program keeps what the test looks at
}
