package sink

import "time"

const (
	// holdFrom is the number of records from which a batch counts as load: more is coming, so the rest of each log may wait for it.
	holdFrom = 1000
	// holdFor is how long a record waits at most.
	holdFor = time.Second
)

// plan decides how much of each log the batch stores. Under load the entries that do not fill a bundle stay in memory for the next batch: else each of
// them would be written twice, to the tail and to its segment. What is held is not covered by the head: its messages stay unfinished, the position is
// that of the first of them, the next slot may lie inside it. If the process dies, they are delivered again.
//
// It must be called again when more was settled.
func (b *batch) plan(now time.Time) {
	hold := b.rows >= holdFrom && !b.copiesAcrossLogs()
	for _, l := range b.logs {
		l.cut, l.after, l.dropped = len(l.decisions), l.head.seen(), l.drops
		if hold && !l.special {
			l.hold(b.items, now)
		}
	}
}

// copiesAcrossLogs: a copy in one log would be a retry of a record of another that is held, and so not stored.
func (b *batch) copiesAcrossLogs() bool {
	for _, c := range b.copies {
		if c.item.partition != b.firsts[c.first].item.partition {
			return true
		}
	}
	return false
}

func (l *logBatch) hold(items []*item, now time.Time) {
	entries := int64(0)
	for i := range l.decisions {
		if l.decisions[i].verdict != retried {
			entries++
		}
	}
	end := l.head.state.size + entries
	rest := end % bundleSize
	if rest == 0 || end/bundleSize == l.head.state.size/bundleSize {
		return
	}
	cut := len(l.decisions)
	for rest > 0 {
		cut--
		if l.decisions[cut].verdict != retried {
			rest--
		}
	}
	first := &l.decisions[cut]
	if now.Sub(first.item.arrived) >= holdFor {
		return
	}
	l.cut, l.after = cut, seen{first.slot, first.item.offset}
	for _, d := range first.item.output.Drops {
		if !(slot{first.item.output.Offset, d.Index}).before(first.slot) {
			l.dropped--
		}
	}
	for _, it := range items {
		if it.partition == first.item.partition && it.offset > first.item.offset {
			l.dropped -= it.drops
		}
	}
}

// stored is the decisions that the batch stores.
func (l *logBatch) stored() []decision { return l.decisions[:l.cut] }
