package views

import (
	"math"
	"strings"
	"time"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
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
	if f == nil || f.root == nil {
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
	switch t.field {
	case fieldOccurredAt:
		n.from, n.to = t.span(negated)
		return n
	case fieldOutcome:
		n.outcomes = 1 << t.number
		if t.number == outcomes["unknown"] {
			n.outcomes |= 1 // not said
		}
		if negated {
			n.outcomes = everyOutcome &^ n.outcomes
			return n
		}
	}
	if negated {
		return n
	}
	switch t.field {
	case fieldSource:
		n.sources = t.patterns()
	case fieldAction:
		n.actions = t.patterns()
	}
	n.terms = t.terms()
	return n
}

// patterns of a restriction of a dictionary; "any value" does not narrow.
func (t *test) patterns() patterns {
	if t.text == "" && t.compare == comparePrefix {
		return nil
	}
	return patterns{{pattern{t.text, t.compare == comparePrefix}}}
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

// terms of a restriction: those that every event it accepts has (package segment). Prefixes and the empty text have none, but a
// source has a term for each path above it.
func (t *test) terms() terms {
	one := func(hash uint64) terms { return terms{{{hash, t.field}}} }
	switch t.field {
	case fieldKind:
		return one(segment.TermKind(audittrailv1.ActionKind(t.number)))
	case fieldOutcome:
		return one(segment.TermOutcome(audittrailv1.Outcome(t.number)))
	}
	text := t.text
	if t.compare == comparePrefix {
		above := strings.LastIndexByte(text, '/')
		if t.field != fieldSource || above < 0 {
			return nil
		}
		text = text[:above]
	}
	if text == "" {
		return nil
	}
	switch t.field {
	case fieldSource:
		return one(segment.TermSource(text))
	case fieldActorID:
		return one(segment.TermActorID(text))
	case fieldActorType:
		return one(segment.TermActorType(text))
	case fieldAction:
		return one(segment.TermAction(text))
	case fieldResourceType:
		return one(segment.TermResourceType(text))
	case fieldResourceID:
		return one(segment.TermResourceID(text))
	case fieldTraceID:
		return one(segment.TermTrace(text))
	default:
		return nil
	}
}
