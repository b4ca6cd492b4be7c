package sink

import (
	"github.com/maxviazov/audittrail/internal/rollup"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// topics is the identity of what a head's numbers count in (R18).
type topics struct {
	events, records [16]byte
	partitions      int32
}

// head is a log's row in `heads` as this session knows it, with what belongs to it: the open gaps and the open bundle. The batcher's goroutine
// owns it. It is right as long as the transactions succeed; after any doubt it is thrown away with the session and read again (R11).
type head struct {
	log      int16
	next     slot  // first slot of audit-events that is not covered
	position int64 // first message of audit-records that is not taken
	gaps     ledger
	state    logState
	// bound: events with a smaller id were removed by retention.
	bound event.ID
	// inputEnd is the end of the input log when last asked; it only grows (R15).
	inputEnd int64
	// work is the log's part of the running batch.
	work logBatch
}

// logState is the end of the log: what an entry more is appended to.
type logState struct {
	size     int64
	frontier []byte // RFC 6962: roots of the full subtrees of `size` leaves, largest first
	open     bundle
}

// bundle is the open bundle, entries size/256*256 to size-1.
type bundle struct {
	day     int16 // when its first entry was appended
	n       int   // entries
	stored  int   // how many of them are in the tail
	tailed  int   // bytes of framed that are in the tail
	framed  []byte
	hashes  []byte
	terms   []uint64
	cells   []rollup.Cell // one a record, see rollup.go
	unnamed []unnamedCell // of cells that were restored: their numbers are still to be looked up
	records int           // entries that are records
	minID   event.ID
	maxID   event.ID
}

func (b *bundle) reset(day int16) {
	*b = bundle{day: day, framed: b.framed[:0], hashes: b.hashes[:0], terms: b.terms[:0], cells: b.cells[:0]}
}

// copyFrom makes b a copy of src that shares nothing with it, reusing b's memory.
func (b *bundle) copyFrom(src *bundle) {
	framed, hashes, terms := append(b.framed[:0], src.framed...), append(b.hashes[:0], src.hashes...), append(b.terms[:0], src.terms...)
	cells := append(b.cells[:0], src.cells...)
	*b = *src
	b.framed, b.hashes, b.terms, b.cells = framed, hashes, terms, cells
}

func (s *logState) copyFrom(src *logState) {
	s.size = src.size
	if s.frontier == nil {
		s.frontier = []byte{} // of an empty log; nil would be NULL
	}
	s.frontier = append(s.frontier[:0], src.frontier...)
	s.open.copyFrom(&src.open)
}

// seen is where a session left a log: what R11 compares, besides the owner.
type seen struct {
	next     slot
	position int64
}

func (h *head) seen() seen { return seen{h.next, h.position} }

// addID widens the range of ids of the bundle's records, and counts one more.
func (b *bundle) addID(id event.ID) {
	if b.records == 0 || id.Compare(b.minID) < 0 {
		b.minID = id
	}
	if b.records == 0 || id.Compare(b.maxID) > 0 {
		b.maxID = id
	}
	b.records++
}

// subtrees is the number of full subtrees of a tree of n leaves.
func subtrees(n int64) (count int) {
	for ; n > 0; n &= n - 1 {
		count++
	}
	return count
}

const bundleSize = int64(segment.BundleSize)
