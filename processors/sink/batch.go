package sink

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/maxviazov/audittrail/internal/rollup"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// batch is what one transaction stores: messages of any number of logs, folded, settled and laid out. Its memory is used again for the next.
type batch struct {
	items []*item
	logs  []*logBatch // ascending by log
	rows  int         // records among the decisions

	ids    idTable
	firsts []*decision // records with an id that is new in the batch
	copies []copyOf    // the others

	rowsSorted []eventRow
	out        copies
	lay        layout
}

// logBatch is the part of one log.
type logBatch struct {
	head   *head
	before seen // where the head stood in PostgreSQL before the batch
	folded

	// What of it is stored, see plan.
	cut     int   // decisions
	after   seen  // where the head comes to
	dropped int64 // drops

	state   logState // after the batch
	records int64    // counters of this batch
	retries int64
	dead    int64
	gaps    int64
}

// begin makes it empty; its memory is used again.
func (l *logBatch) begin(h *head) {
	clear(l.decisions)
	*l = logBatch{head: h, before: h.seen(), folded: folded{decisions: l.decisions[:0], fills: l.fills[:0]}, state: l.state}
}

// committed makes the end of the log after the batch the end from which the next one goes on.
func (l *logBatch) committed() {
	l.state, l.head.state = l.head.state, l.state
	l.head.next, l.head.position = l.after.next, l.after.position
}

// eventRow is a row of `events` before it is encoded.
type eventRow struct {
	order       uint64 // start of the id, for sorting
	id          event.ID
	index       int64
	fingerprint uint64
	source      int32
	action      int32
	log         int16
	outcome     int16
	day         int16
}

// reset forgets what was decided; the items are the batcher's.
func (b *batch) reset() {
	b.logs, b.rows = b.logs[:0], 0
}

// log returns the part of a log, making it when needed.
func (b *batch) log(h *head) *logBatch {
	at, found := slices.BinarySearchFunc(b.logs, h.log, func(l *logBatch, log int16) int { return int(l.head.log) - int(log) })
	if !found {
		h.work.begin(h)
		b.logs = slices.Insert(b.logs, at, &h.work)
	}
	return b.logs[at]
}

// layout is working memory of encoding.
type layout struct {
	hasher  segment.Hasher
	nodes   nodeHasher
	filter  segment.FilterBuilder
	payload []byte
	data    []byte
	bloom   []byte
	cells   []rollup.Cell
}

// encode lays the entries of the batch out: gives each its index in its log, and encodes the rows of all tables. It is a function of heads and
// verdicts and may be called again after more was settled. today is the day of bundles that begin now.
func (b *batch) encode(dict *dictionary, today int16) {
	b.out.reset()
	b.rowsSorted = b.rowsSorted[:0]
	b.plan(time.Now())
	for _, l := range b.logs {
		l.state.copyFrom(&l.head.state)
		l.records, l.retries, l.dead, l.gaps = 0, 0, 0, 0
		for i := range l.stored() {
			b.append(l, &l.decisions[i], dict, today)
		}
		b.flushTail(l)
	}
	// In the order of ids: rows of one batch go to neighbouring places of the index, also when the events are years old.
	slices.SortFunc(b.rowsSorted, func(x, y eventRow) int {
		if x.order != y.order {
			return cmp.Compare(x.order, y.order)
		}
		return x.id.Compare(y.id)
	})
	for i := range b.rowsSorted {
		b.out.event(&b.rowsSorted[i])
	}
}

// append appends the entry of one decision, if it is one.
func (b *batch) append(l *logBatch, d *decision, dict *dictionary, today int16) {
	s := &l.state
	if s.open.n == 0 {
		s.open.reset(today)
	}
	switch {
	case d.kind == takeRecord && d.verdict == retried:
		l.retries++
		return
	case d.kind == takeRecord && d.verdict == fresh:
		b.appendRecord(l, d, dict)
	case d.kind == takeGap:
		l.gaps++
		b.lay.payload = segment.Gap{FromOffset: d.gap.from.offset, FromIndex: d.gap.from.index, EndOffset: d.gap.end.offset,
			EndIndex: d.gap.end.index, Reason: d.gap.reason}.Append(b.lay.payload[:0])
		d.gap.index = s.size
		b.appendOther(s, segment.KindGap)
	default:
		l.dead++
		b.lay.payload = d.dead.entry(b.lay.payload[:0], d.slot)
		b.out.deadLetter(l.head.log, s.size, d)
		b.appendOther(s, segment.KindDeadLetter)
	}
	leaf := s.open.hashes[len(s.open.hashes)-segment.HashSize:]
	s.frontier = b.lay.nodes.appendLeaf(s.frontier, s.size, leaf)
	s.size++
	if s.open.n++; s.open.n == segment.BundleSize {
		b.closeBundle(l)
	}
}

func (b *batch) appendRecord(l *logBatch, d *decision, dict *dictionary) {
	r, s, o := d.item.output.Records[d.at], &d.item.records[d.at], &l.state.open
	id := d.id()
	o.framed = segment.AppendEntry(o.framed, segment.KindRecord, r.Record)
	o.hashes = append(o.hashes, s.leaf[:]...)
	o.terms = append(o.terms, d.item.terms[s.terms[0]:s.terms[1]]...)
	o.addID(id)
	l.records++
	row := eventRow{order: binary.BigEndian.Uint64(id[:]), id: id, index: l.state.size, fingerprint: r.Fingerprint, source: dict.sources.id(s.Source),
		action: dict.actions.id(s.Action), log: l.head.log, outcome: outcome(s.Outcome), day: o.day}
	o.count(id, row.source, row.action, row.outcome)
	b.rowsSorted = append(b.rowsSorted, row)
}

// outcome is the column: what does not fit reads as "not said". (The enricher lets known outcomes through only.)
func outcome(n int32) int16 {
	if int32(int16(n)) != n {
		return 0
	}
	return int16(n)
}

func (b *batch) appendOther(s *logState, kind segment.Kind) {
	s.open.framed = segment.AppendEntry(s.open.framed, kind, b.lay.payload)
	s.open.hashes = b.lay.hasher.AppendLeaf(s.open.hashes, kind, b.lay.payload)
}

// closeBundle writes the segment, the tile and the rollups of a bundle that is complete, and takes its rows out of the tail.
func (b *batch) closeBundle(l *logBatch) {
	o, number := &l.state.open, (l.state.size-1)/bundleSize
	b.lay.filter.Add(o.terms...)
	b.lay.bloom = b.lay.filter.Append(b.lay.bloom[:0], o.records)
	b.lay.data = segment.Encode(b.lay.data[:0], o.framed)
	b.out.segment(l.head.log, number, o, b.lay.bloom, b.lay.data)
	b.out.tile(l.head.log, number, o.day, o.hashes)
	b.rollup(l.head.log, number, o)
	if o.stored > 0 {
		b.out.completed(l.head.log, number)
	}
	o.n, o.stored, o.tailed = 0, 0, 0
}

// flushTail writes what the open bundle got in this batch as one row.
func (b *batch) flushTail(l *logBatch) {
	o := &l.state.open
	if o.n == o.stored {
		return
	}
	b.lay.data = segment.Encode(b.lay.data[:0], o.framed[o.tailed:])
	first := l.state.size - int64(o.n-o.stored)
	b.out.tailRow(l.head.log, first, o.n-o.stored, b.lay.data)
	o.stored, o.tailed = o.n, len(o.framed)
}
