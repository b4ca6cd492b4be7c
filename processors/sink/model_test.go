package sink

import (
	"fmt"
	"math/rand/v2"
	"testing"

	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
)

// modelLog is `fold` of the model that checked the rules, over bit masks: slot i of message o is bit 4*o+i.
type modelLog struct {
	next          int
	gap, cov, row uint64 // row: slots whose event was taken
}

func mask(from, end int) uint64 {
	if from >= end {
		return 0
	}
	return (1<<end - 1) &^ (1<<from - 1)
}

func bit(s slot) int { return int(4*s.offset) + int(s.index) }

func (p *modelLog) take(o *pipelinev1.RecordBatch, want uint64) (open uint64) {
	for _, r := range o.Records {
		p.row |= want & (1 << bit(slot{o.Offset, r.Index}))
	}
	for _, d := range o.Drops {
		s, ref := bit(slot{o.Offset, d.Index}), bit(slot{d.FirstOffset, d.FirstIndex})
		if want&(1<<s) != 0 && (ref >= s || (p.cov&^open)&(1<<ref) == 0) {
			open |= 1 << s
		}
	}
	return open
}

func (p *modelLog) fold(o *pipelinev1.RecordBatch, start int64) {
	from, end := bit(slot{o.FromOffset, o.FromIndex}), bit(slot{o.EndOffset, o.EndIndex})
	if end <= p.next {
		if w := mask(from, end) & p.gap; w != 0 {
			p.gap &^= w
			p.cov |= w
			open := p.take(o, w)
			p.gap |= open
			p.cov &^= open
		}
		return
	}
	if from > p.next {
		if first := int(4 * start); first > p.next {
			g := min(from, first)
			p.gap |= mask(p.next, g)
			p.next = g
		}
		if from > p.next {
			return
		}
	}
	want := mask(p.next, end) | mask(from, end)&p.gap
	p.gap &^= mask(from, end)
	p.cov |= want
	open := p.take(o, want)
	p.cov &^= open
	p.gap |= open
	p.next = end
}

// TestFoldIsTheModels runs both over random outputs: overlapping, out of order, with drops of any slot, while the start of the input log moves.
func TestFoldIsTheModels(t *testing.T) {
	for seed := range uint64(20_000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h, m := &head{}, &modelLog{}
		var start, offset int64
		var history []string
		for range 12 {
			if rng.IntN(4) == 0 {
				start = min(start+rng.Int64N(3), 6)
			}
			o := randomOutput(rng)
			line := fmt.Sprintf("\nstart %d: %d.%d-%d.%d:", start, o.FromOffset, o.FromIndex, o.EndOffset, o.EndIndex)
			for _, r := range o.Records {
				line += fmt.Sprintf(" %d.%d", o.Offset, r.Index)
			}
			for _, d := range o.Drops {
				line += fmt.Sprintf(" %d.%d=%d.%d", o.Offset, d.Index, d.FirstOffset, d.FirstIndex)
			}
			it := &item{offset: offset, output: o, records: make([]scanned, len(o.Records))}
			offset++
			var f folded
			taken := m.row
			h.fold(it, start, &f)
			m.fold(o, start)
			history = append(history, fmt.Sprintf("%s -> next %v gaps %v fills %v", line, h.next, h.gaps, f.fills))
			var gap, row uint64
			for _, g := range h.gaps {
				gap |= mask(bit(g.from), bit(g.end))
			}
			for _, d := range f.decisions {
				if d.kind == takeRecord {
					row |= 1 << bit(d.slot)
				}
			}
			// A slot that holds no event counts as filled or not; only events matter.
			if bit(h.next) != m.next || gap&events64 != m.gap&events64 || row != m.row&^taken {
				t.Fatalf("seed %d: next %v, gaps %x, rows %x; the model: %d, %x, %x\n%v", seed, h.next, gap, row, m.next, m.gap, m.row&^taken, history)
			}
		}
	}
}

// events64 are the slots that can hold an event: three of each message, so that (o, 3) and (o+1, 0) differ only in form.
const events64 = 0x7777777777777777

func randomOutput(rng *rand.Rand) *pipelinev1.RecordBatch {
	end := slot{1 + rng.Int64N(8), 0}
	if rng.IntN(3) == 0 {
		end.index = 1 + uint32(rng.IntN(2))
	}
	o := newOutput(slot{}, end)
	from := slot{o.Offset, uint32(rng.IntN(2))}
	if rng.IntN(3) == 0 {
		from = slot{max(0, o.Offset-rng.Int64N(3)), 0}
	}
	if !from.before(end) {
		from = slot{o.Offset, 0}
	}
	o.FromOffset, o.FromIndex = from.offset, from.index
	for i := range uint32(3) {
		s := slot{o.Offset, i}
		switch {
		case !(span{from, end}).contains(s) || rng.IntN(5) == 0:
		case rng.IntN(2) == 0:
			o.Records = append(o.Records, &pipelinev1.Record{Index: i})
		default:
			o.Drops = append(o.Drops, &pipelinev1.Drop{Index: i, FirstOffset: rng.Int64N(o.Offset + 1), FirstIndex: uint32(rng.IntN(3))})
		}
	}
	return o
}
