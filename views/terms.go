package views

import (
	"slices"

	"github.com/maxviazov/audittrail/proto/segment"
)

// term is the hash of one term, and the field it is of.
type term struct {
	hash  uint64
	field *field
}

// terms is what a segment must hold for a filter to accept one of its events, in conjunctive form: of each element at least one
// term. Nil when it may hold anything. Segments answer by their Bloom filters, which never deny a term that is there.
type terms [][]term

func (a terms) and(b terms) terms { return append(slices.Clip(a), b...) }

// or distributes: (a1 AND a2) OR b1 is (a1 OR b1) AND (a2 OR b1). It stops narrowing where that grows out of hand.
func (a terms) or(b terms) terms {
	const most = 64 // elements, and terms in one of them
	if len(a)*len(b) > most {
		return nil
	}
	var out terms
	for _, x := range a {
		for _, y := range b {
			if len(x)+len(y) <= most {
				out = append(out, append(slices.Clip(x), y...))
			}
		}
	}
	return out
}

// beyondSQL leaves out the elements that the columns of `events` answer exactly: reading filters for them would be for nothing.
func (a terms) beyondSQL() terms {
	return slices.DeleteFunc(slices.Clone(a), func(alternatives []term) bool {
		first := alternatives[0].field
		return first.column != "" && !slices.ContainsFunc(alternatives, func(t term) bool { return t.field != first })
	})
}

// clauses are the hashes alone.
func (a terms) clauses() [][]uint64 {
	out := make([][]uint64, len(a))
	for i, alternatives := range a {
		for _, t := range alternatives {
			out[i] = append(out[i], t.hash)
		}
	}
	return out
}

// admits says whether a segment with this filter can hold an event that is accepted.
func (a terms) admits(filter segment.Filter) bool {
	for _, alternatives := range a {
		if !slices.ContainsFunc(alternatives, func(t term) bool { return filter.MayContain(t.hash) }) {
			return false
		}
	}
	return true
}
