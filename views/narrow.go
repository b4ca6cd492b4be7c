package views

import (
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// narrowing is what a filter implies about where its events can be. Each part admits at least every event the filter
// accepts: a filter may be narrowed too little, never too much. Negated restrictions narrow only in time and outcome.
type narrowing struct {
	from, to int64 // milliseconds of occurred_at, both inclusive
	sources  patterns
	actions  patterns
	outcomes outcomeSet
	terms    terms
}

// outcomeSet has bit n set when events.outcome = n is possible.
type outcomeSet uint8

// everyOutcome admits all numbers that events.outcome can hold.
const everyOutcome outcomeSet = 1<<5 - 1

// narrow derives the narrowing of a filter.
func narrow(f *Filter) narrowing {
	if f == nil {
		return everything()
	}
	return f.root.narrow(false)
}

func everything() narrowing {
	return narrowing{from: math.MinInt64, to: math.MaxInt64, outcomes: everyOutcome}
}

// narrow of a node; negated when an odd number of NOTs stands above it.
func (n *node) narrow(negated bool) narrowing {
	switch {
	case n.kind == nodeNot:
		return n.kids[0].narrow(!negated)
	case n.kind == nodeTest:
		return n.test.narrow(negated)
	case (n.kind == nodeAnd) != negated: // by De Morgan NOT (a OR b) is an AND
		all := everything()
		for _, kid := range n.kids {
			all = all.and(kid.narrow(negated))
		}
		return all
	default:
		one := n.kids[0].narrow(negated)
		for _, kid := range n.kids[1:] {
			one = one.or(kid.narrow(negated))
		}
		return one
	}
}

func (a narrowing) and(b narrowing) narrowing {
	return narrowing{
		from: max(a.from, b.from), to: min(a.to, b.to),
		sources:  a.sources.and(b.sources),
		actions:  a.actions.and(b.actions),
		outcomes: a.outcomes & b.outcomes,
		terms:    a.terms.and(b.terms),
	}
}

func (a narrowing) or(b narrowing) narrowing {
	return narrowing{
		from: min(a.from, b.from), to: max(a.to, b.to),
		sources:  a.sources.or(b.sources),
		actions:  a.actions.or(b.actions),
		outcomes: a.outcomes | b.outcomes,
		terms:    a.terms.or(b.terms),
	}
}

// empty says that no event can be accepted.
func (a narrowing) empty() bool { return a.from > a.to || a.outcomes == 0 }

// bounds are the ids that are possible: low inclusive, high exclusive; high is nil when there is no upper end.
func (a narrowing) bounds() (low event.ID, high *event.ID) {
	const greatest = 1<<48 - 1 // milliseconds an id can hold
	if a.from > 0 {
		low = event.LowerBound(time.UnixMilli(min(a.from, greatest)))
	}
	if a.to < greatest {
		id := event.LowerBound(time.UnixMilli(max(a.to, -1) + 1))
		high = &id
	}
	return low, high
}

// narrow of one restriction.
func (t *test) narrow(negated bool) narrowing {
	n := everything()
	switch {
	case t.field == fieldOccurredAt && t.compare != comparePresent:
		n.from, n.to = t.span(negated)
		return n
	case t.field == fieldOutcome && t.compare == compareEqual:
		n.outcomes = 1 << t.number
		if t.text == fieldOutcome.silent {
			n.outcomes |= 1
		}
		if negated {
			n.outcomes = everyOutcome &^ n.outcomes
			return n
		}
	}
	if negated {
		return n
	}
	switch {
	case t.field.kind == kindID:
		n.from, n.to = t.time.UnixMilli(), t.time.UnixMilli()
	case t.field == fieldSource:
		n.sources = t.patterns()
	case t.field == fieldAction:
		n.actions = t.patterns()
	}
	n.terms = t.terms()
	return n
}

// patterns of a restriction of a dictionary; only whole values and prefixes narrow.
func (t *test) patterns() patterns {
	if t.compare == compareEqual || t.compare == comparePrefix {
		return patterns{{pattern{t.text, t.compare == comparePrefix}}}
	}
	return nil
}

// span is the milliseconds in which an event can lie. An id keeps whole milliseconds: both ends are rounded outwards.
func (t *test) span(negated bool) (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	at := t.time.UnixMilli() // floor
	less := t.compare == compareLess || t.compare == compareLessEqual
	greater := t.compare == compareGreater || t.compare == compareGreaterEqual
	switch {
	case less && !negated, greater && negated:
		to = at
	case greater && !negated, less && negated:
		from = at
	case !negated:
		from, to = at, at
	}
	return from, to
}

// terms of a restriction: those that every event it accepts has (package segment). Parts of values and the empty text have none, but a
// source has a term for each path above it, and an address one for its networks.
func (t *test) terms() terms {
	text := t.text
	switch {
	case t.field == fieldSource && t.compare == comparePrefix:
		text = text[:max(0, strings.LastIndexByte(text, '/'))]
	case t.compare != compareEqual:
		return nil
	}
	one := func(hash uint64) terms { return terms{{{hash, t.field}}} }
	switch {
	case t.field.kind == kindAddress:
		if hash, ok := t.networkTerm(); ok {
			return one(hash)
		}
	case t.field.kind == kindValue && text != "":
		return one(segment.TermAttribute(t.key, text))
	case t.field.term != nil && text != "":
		return one(t.field.term(text))
	}
	return nil
}

// networkTerm is the term of the smallest network with a term that holds the one asked for.
func (t *test) networkTerm() (uint64, bool) {
	if !t.network.IsValid() {
		return 0, false
	}
	lengths := []int{128, 64, 48}
	if t.network.Addr().Is4() {
		lengths = []int{32, 24, 16}
	}
	for _, n := range lengths {
		if t.network.Bits() >= n {
			return segment.TermIP(netip.PrefixFrom(t.network.Addr(), n))
		}
	}
	return 0, false
}
