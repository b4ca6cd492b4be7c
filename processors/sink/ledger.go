package sink

import "slices"

// gapRow is a row of `gaps` with something still open.
type gapRow struct {
	id    int64 // 0 until the transaction that inserts it
	parts int   // how many parts of the ledger belong to it; 0: filled
}

// openPart is a span of slots that is declared lost.
type openPart struct {
	span
	row *gapRow
}

// ledger is the open gaps of one log, in order, not overlapping. Spans of gaps that were filled in part are cut.
type ledger []openPart

// has says whether a slot is declared lost.
func (l ledger) has(s slot) bool {
	for _, p := range l {
		if p.contains(s) {
			return true
		}
	}
	return false
}

// overlap is the parts of s that are declared lost, in order.
func (l ledger) overlap(s span) (parts []openPart) {
	for _, p := range l {
		if cut := p.intersect(s); !cut.empty() {
			parts = append(parts, openPart{cut, p.row})
		}
	}
	return parts
}

// declare adds a gap.
func (l *ledger) declare(s span, row *gapRow) {
	row.parts++
	at, _ := slices.BinarySearchFunc(*l, s.from, func(p openPart, from slot) int {
		if p.from.before(from) {
			return -1
		}
		return 1
	})
	*l = slices.Insert(*l, at, openPart{s, row})
}

// fill takes s, which lies inside one part, out of the ledger.
func (l *ledger) fill(s span) *gapRow {
	for i, p := range *l {
		if !p.contains(s.from) {
			continue
		}
		var rest []openPart
		for _, r := range []span{{p.from, s.from}, {s.end, p.end}} {
			if !r.empty() {
				rest = append(rest, openPart{r, p.row})
			}
		}
		p.row.parts += len(rest) - 1
		*l = slices.Replace(*l, i, i+1, rest...)
		return p.row
	}
	return nil
}
