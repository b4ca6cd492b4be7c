package sink

import (
	"cmp"
	"slices"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	"github.com/maxviazov/audittrail/proto/segment"
)

// decisionKind says what becomes of a slot, or of a span of them.
type decisionKind uint8

const (
	takeRecord decisionKind = iota
	takeDead
	takeGap
)

// decision is one entry for the log, unless the record turns out to be stored already (see settle). Decisions are in the order in which
// the entries are appended.
type decision struct {
	kind    decisionKind
	verdict verdict
	slot    slot
	item    *item         // the message that brought it
	at      int32         // takeRecord: place among the item's records
	dead    *deadDecision // takeDead, and a takeRecord whose verdict is dead
	gap     *gapDecision  // takeGap
}

// gapDecision declares slots lost.
type gapDecision struct {
	span
	reason segment.GapReason
	row    *gapRow
	index  int64 // in the log; set by encode
}

// fill takes slots out of the ledger again.
type fill struct {
	span
	row *gapRow
}

// folded is what fold decided, collected over a batch.
type folded struct {
	decisions []decision
	fills     []fill
	drops     int64 // duplicates that the enricher dropped, believed
	discarded int64 // outputs that left slots before them open
	skipped   int64 // outputs that covered nothing new
	special   bool  // not all outputs simply went on where the one before ended
}

// fold takes one output of the enricher into the state of its log: rules R12 to R14, as `fold` of the model (probes/model), Gap "late", Ref. It
// is a function of the log's next slot, its ledger, the output, and the start L of the input log, which counts only when the output begins beyond
// the next slot; it must have been read after the output was delivered.
func (h *head) fold(it *item, inputStart int64, f *folded) {
	o := it.output
	covers := span{slot{o.FromOffset, o.FromIndex}, slot{o.EndOffset, o.EndIndex}}
	h.position, it.drops = it.offset+1, 0

	if !h.next.before(covers.end) { // end ≤ next: known, but slots that were declared lost are filled late
		f.special = true
		parts := h.gaps.overlap(covers)
		if len(parts) == 0 {
			f.skipped++
			return
		}
		h.take(it, parts, f)
		return
	}
	if h.next.before(covers.from) { // from > next: something is missing
		f.special = true
		start := slot{inputStart, 0}
		if gapToFrom {
			start = covers.from
		}
		if h.next.before(start) {
			// What lies before the start of the input log will never come. Never up to `from` blindly.
			lost := span{h.next, covers.from}.intersect(span{h.next, start})
			h.declare(lost, segment.GapExpiredInput, it, f)
			h.next = lost.end
		}
		if h.next.before(covers.from) {
			// The enricher commits in order, so what is missing was not committed: it sends it again, and this as well.
			f.discarded++
			return
		}
	}
	parts := h.gaps.overlap(covers)
	f.special = f.special || len(parts) > 0
	parts = append(parts, openPart{span: span{h.next, covers.end}})
	h.next = covers.end
	h.take(it, parts, f)
}

// take takes the slots of the parts, which are in order and inside what the output covers. Parts with a row were declared lost; they are filled,
// but for drops that cannot be believed. Such drops outside of a row are declared lost.
func (h *head) take(it *item, parts []openPart, f *folded) {
	for _, p := range parts {
		var open []span // drops that cannot be believed; neighbours are joined
		declared := 0
		declare := func() { // at its place among the entries, once it has ended
			for ; p.row == nil && declared < len(open); declared++ {
				h.declare(open[declared], segment.GapDropWithoutFirstCopy, it, f)
			}
		}
		for e := range events(it, p.span) {
			believed := e.drop != nil && h.covered(slot{e.drop.FirstOffset, e.drop.FirstIndex}, e.slot, p, open)
			if e.drop != nil && !believed && len(open) > 0 && open[len(open)-1].end == e.slot {
				open[len(open)-1].end = e.slot.following()
				continue
			}
			declare()
			switch {
			case e.drop == nil:
				f.decisions = append(f.decisions, e.decision(it))
			case believed:
				f.drops++
				it.drops++
			default:
				open = append(open, span{e.slot, e.slot.following()})
			}
		}
		declare()
		if p.row == nil {
			continue
		}
		from := p.from
		for _, o := range append(open, span{p.end, p.end}) { // what lies between the open ones
			if s := (span{from, o.from}); !s.empty() {
				f.fills = append(f.fills, fill{s, h.gaps.fill(s)})
			}
			from = o.end
		}
	}
}

// covered says whether a drop may be believed (R14): the slot of the first copy lies before it, was taken, and is not lost. filling is the part
// that is being taken; its slots up to here count, but for the open ones.
func (h *head) covered(first, own slot, filling openPart, open []span) bool {
	if dropsBelieved {
		return true
	}
	if !first.before(own) || !first.before(h.next) {
		return false
	}
	for _, o := range open {
		if o.contains(first) {
			return false
		}
	}
	return filling.contains(first) || !h.gaps.has(first)
}

func (h *head) declare(s span, reason segment.GapReason, it *item, f *folded) {
	g := &gapDecision{span: s, reason: reason, row: new(gapRow)}
	f.special = true
	h.gaps.declare(s, g.row)
	f.decisions = append(f.decisions, decision{kind: takeGap, slot: s.from, item: it, gap: g})
}

// inputEvent is one event of an output: kept, dropped, or dead.
type inputEvent struct {
	slot slot
	at   int32
	drop *pipelinev1.Drop
	dead *pipelinev1.DeadLetter
}

func (e inputEvent) decision(it *item) decision {
	if e.dead != nil {
		return decision{kind: takeDead, slot: e.slot, item: it, dead: &deadDecision{letter: e.dead}}
	}
	return decision{kind: takeRecord, slot: e.slot, item: it, at: e.at}
}

// events yields the events of an output that lie in s, by ascending index. The three lists are ascending each.
func events(it *item, s span) func(yield func(inputEvent) bool) {
	return func(yield func(inputEvent) bool) {
		o := it.output
		low, high := indexRange(s, o.Offset)
		r, _ := slices.BinarySearchFunc(o.Records, low, func(x *pipelinev1.Record, i uint32) int { return cmp.Compare(x.Index, i) })
		d, _ := slices.BinarySearchFunc(o.Drops, low, func(x *pipelinev1.Drop, i uint32) int { return cmp.Compare(x.Index, i) })
		x, _ := slices.BinarySearchFunc(o.DeadLetters, low, func(x *pipelinev1.DeadLetter, i uint32) int { return cmp.Compare(x.Index, i) })
		for {
			var e inputEvent
			index := high // as 64 bits: an index may be the greatest uint32
			if r < len(o.Records) && uint64(o.Records[r].Index) < index {
				index, e = uint64(o.Records[r].Index), inputEvent{at: int32(r)}
			}
			if d < len(o.Drops) && uint64(o.Drops[d].Index) < index {
				index, e = uint64(o.Drops[d].Index), inputEvent{drop: o.Drops[d]}
			}
			if x < len(o.DeadLetters) && uint64(o.DeadLetters[x].Index) < index {
				index, e = uint64(o.DeadLetters[x].Index), inputEvent{dead: o.DeadLetters[x]}
			}
			if index == high {
				return
			}
			switch {
			case e.drop != nil:
				d++
			case e.dead != nil:
				x++
			default:
				r++
			}
			e.slot = slot{o.Offset, uint32(index)}
			if !yield(e) {
				return
			}
		}
	}
}

// indexRange is the indexes [low, high) of the message at offset that lie in s.
func indexRange(s span, offset int64) (low uint32, high uint64) {
	switch {
	case s.from.offset > offset || s.end.offset < offset:
		return 0, 0
	case s.from.offset == offset:
		low = s.from.index
	}
	high = 1 << 32
	if s.end.offset == offset {
		high = uint64(s.end.index)
	}
	return low, high
}
