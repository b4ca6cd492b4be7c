package emitters

import "sync/atomic"

// EventOverhead is what an event costs in the budget besides its encoded bytes: the share of a call, a message and the producer's own
// structures. It also bounds the number of sources that are busy at once (MaxInFlightBytes / EventOverhead).
const EventOverhead = 512

// budget counts the bytes of events that are accepted but not resolved. It never waits: waiting callers would be memory, too.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes, or nothing.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= b.limit {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *budget) give(n int64) { b.used.Add(-n) }
