package views

import "time"

// tally adds up records: how many there are, how many in each bucket of time, and how many have each value of some fields. It reads only the
// fields that it needs from the encoded record.
type tally struct {
	count   int64
	buckets *histogram // nil: none
	facets  []*facet

	program *program // what buckets and facets need; nil: nothing
	scratch *scratch
}

// newTally prepares for buckets and facets.
func newTally(buckets *histogram, facets []*facet) *tally {
	t := &tally{buckets: buckets, facets: facets}
	if buckets == nil && len(facets) == 0 {
		return t
	}
	t.program = newProgram(nil)
	if buckets != nil {
		buckets.slots = t.program.keep(fieldOccurredAt)
	}
	for _, f := range facets {
		f.slots = t.program.keep(f.field)
	}
	t.scratch = t.program.newScratch()
	return t
}

func (t *tally) add(at place, record []byte) error {
	t.count++
	if t.program == nil {
		return nil
	}
	t.scratch.reset()
	if err := t.program.plan.scan(record, t.scratch); err != nil {
		return damaged(err, "entry %d of log %d", at.index, at.log)
	}
	if t.buckets != nil {
		t.buckets.add(t.scratch)
	}
	for _, f := range t.facets {
		f.add(at, t.scratch)
	}
	return nil
}

// maxIDError is how far the time in an id may lie below the time of its event.
const maxIDError = time.Millisecond

// histogram counts by buckets of equal width. The bounds of the request are conditions of the filter: nothing outside reaches it.
type histogram struct {
	first  int64 // start of the first bucket, in seconds since the epoch
	width  int64 // in seconds
	counts []int64
	slots  slots
}

// maxHistogram is how many buckets one histogram has at most.
const maxHistogram = 10_000

// newHistogram makes the buckets from start to end; nil when they are too many.
func newHistogram(start, end time.Time, width time.Duration) *histogram {
	h := &histogram{width: int64(width / time.Second)}
	h.first = floorTo(start.Unix(), h.width)
	last := end.Unix()
	if end.Nanosecond() == 0 {
		last-- // the end is exclusive
	}
	n := (floorTo(last, h.width)-h.first)/h.width + 1
	if n > maxHistogram {
		return nil
	}
	h.counts = make([]int64, max(n, 0))
	return h
}

// floorTo is the greatest multiple of width that is not above t, also before the epoch.
func floorTo(t, width int64) int64 {
	rest := t % width
	if rest < 0 {
		rest += width
	}
	return t - rest
}

func (h *histogram) add(r *scratch) { h.addAt(int64(r.numbers[h.slots.number]), 1) }

func (h *histogram) addAt(seconds, n int64) {
	if i := (floorTo(seconds, h.width) - h.first) / h.width; i >= 0 && i < int64(len(h.counts)) {
		h.counts[i] += n
	}
}

// place is where a record was found.
func (f found) place() place { return place{f.log, f.index} }
