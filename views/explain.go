package views

import "time"

// Explain says how a query was answered. The calls of a walk add to it.
type Explain struct {
	// Narrowed is what the filter implies, for people: times, sources, actions, terms.
	Narrowed string
	// Leaves of `events` that statements may have opened.
	Leaves int64
	// RowsRead is the number of rows of `events` that were looked at.
	RowsRead int64
	// SegmentsConsidered were asked for the terms of the filter, by their Bloom filters or by term runs; SegmentsExcluded cannot hold them.
	SegmentsConsidered, SegmentsExcluded int64
	// SegmentsRead were decoded or found in memory, SegmentsCached in memory; SegmentsHit held a record that was accepted.
	SegmentsRead, SegmentsCached, SegmentsHit int64
	// TermRuns that were asked.
	TermRuns int64
	// EventsDecoded is the number of records that the evaluator looked at, Matched how many it accepted.
	EventsDecoded, Matched int64
	// Time it took, without what the call does with the records.
	Time time.Duration
}
