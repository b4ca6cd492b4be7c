package views

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/maxviazov/audittrail/internal/termindex"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// A walk by bundles opens those that may hold something, the one with the greatest id first, each once, and sorts what they hold: a record that is
// accepted waits until no bundle that is not open yet can hold a greater one. Late events are why it waits: their bundles are opened long
// before their turn. Between two calls the cursor keeps where the opening has come to (its front) and what waits; without these a
// walk begins again below `at`, by rows of `events` when too many bundles above hold something below.

// front is the part of a cursor that a walk by bundles adds.
type front struct {
	opened  event.ID // bundles whose greatest id is this or greater are open, and what the tail held
	waiting []place  // accepted, with ids below `at`
}

// Bounds of what waits: of one call, and between two. Above them the walk goes on by rows.
const (
	maxWaitingBytes = 16 << 20
	maxWaiting      = 256
)

// backlog is how many bundles above the place where a walk begins may hold something below it, for a walk by bundles to begin there.
const backlog = 96

// candidate is a bundle that may hold something.
type candidate struct {
	address
	max event.ID // greatest id
}

// bundlesOf returns the bundles to open, in this order; false when rows of `events` are the better way.
func (w *walker) bundlesOf(ctx context.Context) ([]candidate, bool, error) {
	s, c := w.server, w.query.filter
	if w.query.oldestFirst || c.byRows() || w.at.begun && w.at.front == nil && w.at.rows {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	logs, ok, err := s.directory.upTo(ctx, w.at.sizes)
	if err != nil || !ok {
		return nil, false, err
	}
	low, high := w.bounds()
	var list []candidate
	above := 0
	for log, l := range logs {
		for _, b := range l.bundles {
			if b.max == (event.ID{}) || b.max.Compare(low) < 0 || b.min.Compare(high) >= 0 {
				continue
			}
			if w.at.front != nil && b.max.Compare(w.at.front.opened) >= 0 {
				continue
			}
			list = append(list, candidate{address{bundleKey{int16(log), b.bundle}, b.day}, b.max})
		}
	}
	w.query.explain.considered += int64(len(list))
	if list, err = w.holding(ctx, list, low, high); err != nil {
		return nil, false, err
	}
	if w.at.front == nil {
		for _, b := range list {
			if b.max.Compare(high) >= 0 {
				above++
			}
		}
		if above > backlog {
			return nil, false, nil
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return b.max.Compare(a.max) })
	return list, true, nil
}

// manyBundles is from how many on term runs are asked: fewer filters are read, or in memory, as fast.
const manyBundles = 512

// holding drops the bundles that cannot hold what the terms of the filter ask for: term runs say so of most, of the newest their filters.
func (w *walker) holding(ctx context.Context, list []candidate, low, high event.ID) ([]candidate, error) {
	t := w.query.filter.narrowing.terms
	if len(t) == 0 {
		return list, nil
	}
	if len(list) > w.server.manyBundles {
		found, err := w.server.runs.Lookup(ctx, w.server.db, t.clauses(), termindex.Range{From: low, To: high})
		if err != nil {
			return nil, err
		}
		w.query.explain.step("term runs")
		holders := make(map[bundleKey]bool, len(found.Segments))
		for _, s := range found.Segments {
			holders[bundleKey{s.Log, s.Bundle}] = true
		}
		list = slices.DeleteFunc(list, func(b candidate) bool { return b.bundle < found.Covered[b.log] && !holders[b.bundleKey] })
	}
	w.query.explain.step("filters of segments")
	want := make([]address, len(list))
	for i, b := range list {
		want[i] = b.address
	}
	const together = 2000 // filters of 2 KiB
	for part := range slices.Chunk(want, together) {
		excluded, err := w.server.excluded(ctx, part, t)
		if err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(list, func(b candidate) bool { return excluded[b.bundleKey] })
	}
	return list, nil
}

// bounds are the ids that are possible from here on: low inclusive, high exclusive.
func (w *walker) bounds() (low, high event.ID) {
	low, top := w.query.filter.narrowing.bounds()
	high = greatestID
	if top != nil {
		high = *top
	}
	switch {
	case !w.at.begun:
	case w.query.oldestFirst:
		if w.at.at.Compare(low) > 0 {
			low = w.at.at
		}
	case w.at.at.Compare(high) < 0:
		high = w.at.at
	}
	return low, high
}

// merge is one call of a walk by bundles.
type merge struct {
	*walker
	low, high event.ID
	bundles   []candidate // not open yet, the one with the greatest id first
	waiting   waiting
	opened    event.ID
	bytes     int
	group     int // bundles that are opened together
}

// byBundles walks by bundles; false when it cannot go on so, at what the cursor says.
func (w *walker) byBundles(ctx context.Context, list []candidate) (next *cursor, ok bool, err error) {
	low, high := w.bounds()
	m := merge{walker: w, low: low, high: high, bundles: list, opened: greatestID, group: firstGroup}
	w.query.explain.step("bundles")
	if w.at.front != nil {
		m.opened = w.at.front.opened
		err = m.resume(ctx)
	} else {
		err = m.openTail(ctx)
	}
	if err != nil {
		return nil, false, err
	}
	for {
		stopped, at, err := m.release()
		if err != nil {
			return nil, false, err
		}
		if stopped {
			return m.cursor(at), true, nil
		}
		switch {
		case len(m.bundles) == 0:
			return nil, true, nil
		case m.bytes > maxWaitingBytes:
			return &cursor{now: w.at.now, sizes: w.at.sizes, begun: true, at: m.high, rows: true}, false, nil
		case w.rows <= 0 || !time.Now().Before(w.until):
			w.server.metrics.unfinished.Inc()
			return m.cursor(m.high), true, nil
		case ctx.Err() != nil:
			return nil, false, ctx.Err()
		}
		if err := m.open(ctx); err != nil {
			return nil, false, err
		}
	}
}

// release shows the visitor what no longer has to wait. It returns where it was stopped.
func (m *merge) release() (stopped bool, at event.ID, err error) {
	for len(m.waiting) > 0 {
		f := m.waiting[0]
		if len(m.bundles) > 0 && f.id.Compare(m.bundles[0].max) <= 0 {
			break
		}
		verdict, err := m.visit(f)
		if err != nil {
			return false, at, err
		}
		if verdict == stopBefore {
			return true, successor(f.id), nil
		}
		heap.Pop(&m.waiting)
		m.bytes -= len(f.payload)
		m.high = f.id
		m.taken++
		if verdict == stopAfter {
			return true, f.id, nil
		}
	}
	if len(m.bundles) > 0 { // nothing above is left
		if below := successor(m.bundles[0].max); below.Compare(m.high) < 0 {
			m.high = below
		}
	}
	return false, m.high, nil
}

// cursor is where the next call goes on; nil after the last.
func (m *merge) cursor(at event.ID) *cursor {
	if len(m.bundles) == 0 && len(m.waiting) == 0 {
		return nil
	}
	c := &cursor{now: m.at.now, sizes: m.at.sizes, begun: true, at: at}
	if len(m.waiting) > maxWaiting {
		c.rows = true
		return c
	}
	c.front = &front{opened: m.opened}
	for _, f := range m.waiting {
		c.front.waiting = append(c.front.waiting, f.place())
	}
	return c
}

// open reads the next bundles and keeps what is accepted.
func (m *merge) open(ctx context.Context) error {
	n := min(m.group, len(m.bundles))
	want := make([]address, n)
	for i, b := range m.bundles[:n] {
		want[i] = b.address
	}
	bundles, err := m.read(ctx, want)
	if err != nil {
		return err
	}
	var size int64
	for _, a := range want {
		b := bundles[a.bundleKey]
		if b == nil {
			if err := m.gone(ctx, a); err != nil {
				return err
			}
			continue
		}
		size += b.bytes()
		if err := m.keep(a.log, a.bundle*segment.BundleSize, b.entries); err != nil {
			return err
		}
	}
	m.opened = m.bundles[n-1].max
	m.bundles = m.bundles[n:]
	m.group = max(1, min(2*n, lastGroup, groupBytes*n/int(max(size, 1))))
	return nil
}

// openTail reads the open bundles, as far as they had come when the walk began.
func (m *merge) openTail(ctx context.Context) error {
	var ranges []entryRange
	for log, size := range m.at.sizes {
		if size%segment.BundleSize != 0 {
			ranges = append(ranges, entryRange{int16(log), size / segment.BundleSize * segment.BundleSize, size})
		}
	}
	for part := range slices.Chunk(ranges, tailBundles) {
		entries, err := m.server.readRanges(ctx, part)
		if err != nil {
			return err
		}
		m.query.explain.read += int64(len(part))
		for i, r := range part {
			if err := m.keep(r.log, r.from, entries[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep evaluates entries and lets wait what is accepted.
func (m *merge) keep(log int16, first int64, entries []segment.Entry) error {
	hit := false
	ids := m.query.filter.ids
	for i, e := range entries {
		if e.Kind != segment.KindRecord {
			continue
		}
		m.rows--
		m.query.explain.examined++
		at := place{log, first + int64(i)}
		if ok, err := m.query.filter.match(at, e.Payload); err != nil || !ok {
			if err != nil {
				return err
			}
			continue
		}
		id, err := ids.of(e.Payload)
		if err != nil {
			return damaged(err, "entry %d of log %d", at.index, at.log)
		}
		if id.Compare(m.low) < 0 || id.Compare(m.high) >= 0 {
			continue
		}
		hit = true
		m.query.explain.accepted++
		// A copy: what waits must not keep its whole bundle in memory.
		heap.Push(&m.waiting, found{location{id: id, index: at.index, log: log}, bytes.Clone(e.Payload)})
		m.bytes += len(e.Payload)
	}
	if hit {
		m.query.explain.hits++
	}
	return nil
}

// resume reads again what waited when the last call ended.
func (m *merge) resume(ctx context.Context) error {
	places := slices.Clone(m.at.front.waiting)
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.log, b.log), cmp.Compare(a.index, b.index)) })
	var ranges []entryRange
	for _, p := range places {
		if p.index >= m.at.sizes.of(p.log) {
			return unavailable("log %d has gone back and is being filled again; try again", p.log)
		}
		ranges = append(ranges, entryRange{p.log, p.index, p.index + 1})
	}
	for part := range slices.Chunk(ranges, tailBundles) {
		entries, err := m.server.readRanges(ctx, part)
		if err != nil {
			return err
		}
		for i, r := range part {
			if err := m.keep(r.log, r.from, entries[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// waiting is a heap, the greatest id on top.
type waiting []found

func (h waiting) Len() int           { return len(h) }
func (h waiting) Less(i, j int) bool { return h[i].id.Compare(h[j].id) > 0 }
func (h waiting) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *waiting) Push(x any)        { *h = append(*h, x.(found)) }
func (h *waiting) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = found{}
	*h = old[:len(old)-1]
	return last
}

// idReader derives the ids of encoded records.
type idReader struct {
	program *program
	slots   slots
	scratch *scratch
}

func newIDReader() *idReader {
	r := &idReader{program: newProgram(nil)}
	r.slots = r.program.keep(byName("id"))
	r.scratch = r.program.newScratch()
	return r
}

func (r *idReader) of(record []byte) (event.ID, error) {
	r.scratch.reset()
	if err := r.program.plan.scan(record, r.scratch); err != nil {
		return event.ID{}, err
	}
	source, key := r.scratch.bytes[r.slots.bytes], r.scratch.bytes[r.slots.list]
	if len(source) > event.MaxSource || len(key) > event.MaxIdempotencyKey {
		return event.ID{}, errMalformed
	}
	at := time.Unix(int64(r.scratch.numbers[r.slots.number]), int64(int32(r.scratch.numbers[r.slots.nanos])))
	return event.NewID(view(source), view(key), at), nil
}
