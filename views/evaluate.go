package views

import (
	"strings"
	"time"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// compare is how a restriction compares.
type compare uint8

const (
	compareEqual  compare = iota
	comparePrefix         // the empty prefix: any value but the empty one
	compareLess
	compareLessEqual
	compareGreater
	compareGreaterEqual
)

// test is one restriction.
type test struct {
	field   field
	compare compare
	text    string    // of text fields
	number  int32     // of kind and outcome
	time    time.Time // of occurred_at
}

// match is the one evaluator: list, tail and tests ask it, and nothing else decides.
func (n *node) match(e *audittrailv1.Event) bool {
	switch n.kind {
	case nodeAnd:
		for _, kid := range n.kids {
			if !kid.match(e) {
				return false
			}
		}
		return true
	case nodeOr:
		for _, kid := range n.kids {
			if kid.match(e) {
				return true
			}
		}
		return false
	case nodeNot:
		return !n.kids[0].match(e)
	default:
		return n.test.match(e)
	}
}

func (t *test) match(e *audittrailv1.Event) bool {
	switch t.field {
	case fieldSource:
		return t.matchText(e.GetSource())
	case fieldActorID:
		return t.matchText(e.GetActor().GetId())
	case fieldActorType:
		return t.matchText(e.GetActor().GetType())
	case fieldActorName:
		return t.matchText(e.GetActor().GetName())
	case fieldAction:
		return t.matchText(e.GetAction())
	case fieldTraceID:
		return t.matchText(e.GetContext().GetTraceId())
	case fieldKind:
		kind := e.GetKind()
		if kind == audittrailv1.ActionKind_ACTION_KIND_UNSPECIFIED {
			kind = audittrailv1.ActionKind_ACTION_KIND_OTHER
		}
		return int32(kind) == t.number
	case fieldOutcome:
		outcome := e.GetOutcome()
		if outcome == audittrailv1.Outcome_OUTCOME_UNSPECIFIED {
			outcome = audittrailv1.Outcome_OUTCOME_UNKNOWN
		}
		return int32(outcome) == t.number
	case fieldResourceType:
		for _, r := range e.GetResources() {
			if t.matchText(r.GetType()) {
				return true
			}
		}
		return false
	case fieldResourceID:
		for _, r := range e.GetResources() {
			if t.matchText(r.GetId()) {
				return true
			}
		}
		return false
	default: // fieldOccurredAt
		return t.matchTime(e.GetOccurredAt().AsTime())
	}
}

func (t *test) matchText(value string) bool {
	if t.compare == comparePrefix {
		return value != "" && strings.HasPrefix(value, t.text)
	}
	return value == t.text
}

func (t *test) matchTime(at time.Time) bool {
	order := at.Compare(t.time)
	switch t.compare {
	case compareLess:
		return order < 0
	case compareLessEqual:
		return order <= 0
	case compareGreater:
		return order > 0
	case compareGreaterEqual:
		return order >= 0
	default:
		return order == 0
	}
}
