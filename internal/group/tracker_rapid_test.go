package group

import (
	"flag"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Properties of pure rules take microseconds a case, so more of them are looked at than rapid does by itself; -rapid.checks changes it.
var _ = flag.Set("rapid.checks", "5000")

// trackerOp is one call of the tracker. Offsets are few, so that messages come twice, finish twice, and are finished without having been begun.
type trackerOp struct {
	complete bool
	offset   int64
	over     bool
}

// positionOf is R3 by definition: from all that was called so far, how far everything is finished. -1: nothing is.
func positionOf(calls []trackerOp) int64 {
	limit, last := int64(1<<62), int64(-1)
	done := map[int64]bool{}
	for _, c := range calls {
		if c.over && limit == 1<<62 {
			limit = last // what was begun last may have been cut off in the middle
		}
		begun := func() {
			if c.offset > last {
				last = c.offset
				done[c.offset] = false
			}
		}
		if !c.complete {
			begun()
		} else if c.offset < limit {
			begun() // a nil value has no callback
			if _, ok := done[c.offset]; ok {
				done[c.offset] = true
			}
		}
	}
	position := int64(-1)
	for at := int64(0); at <= last; at++ {
		finished, begun := done[at]
		if begun && !finished {
			break
		}
		if begun {
			position = at + 1
		}
	}
	return position
}

// TestTrackerIsTheDefinition (R3): in any order of calls, with holes, redeliveries, values without a callback and an end of the session, what is marked
// is the end of the finished prefix, marked once each time it grows.
func TestTrackerIsTheDefinition(t *testing.T) {
	op := rapid.Custom(func(t *rapid.T) trackerOp {
		return trackerOp{rapid.Bool().Draw(t, "complete"), rapid.Int64Range(0, 12).Draw(t, "offset"), rapid.IntRange(0, 15).Draw(t, "over") == 15}
	})
	rapid.Check(t, func(t *rapid.T) {
		calls := rapid.SliceOfN(op, 0, 60).Draw(t, "calls")
		tr := newTracker()
		var marked, want []int64
		before := int64(-1)
		for i, c := range calls {
			if c.complete {
				n := len(marked)
				grew := tr.complete(c.offset, c.over, func(next int64, _ string) { marked = append(marked, next) })
				if grew != (len(marked) > n) {
					t.Fatalf("call %d: says grew=%v after %d marks", i, grew, len(marked)-n)
				}
			} else {
				tr.register(c.offset, c.over)
			}
			if at := positionOf(calls[:i+1]); at > before {
				want = append(want, at)
				before = at
			}
			if !slices.Equal(marked, want) {
				t.Fatalf("call %d: marked %v, want %v", i, marked, want)
			}
		}
	})
}
