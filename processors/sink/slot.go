package sink

import "fmt"

// slot is a place in the input: the event `index` of the message at `offset` of audit-events. (offset+1, 0) comes after the last
// event of a message, whatever their number. Slots are ordered; a span is [from, end).
type slot struct {
	offset int64
	index  uint32
}

func (s slot) before(t slot) bool {
	return s.offset < t.offset || s.offset == t.offset && s.index < t.index
}

func (s slot) String() string { return fmt.Sprintf("%d.%d", s.offset, s.index) }

// following is the end of the span that holds s alone.
func (s slot) following() slot { return slot{s.offset, s.index + 1} }

type span struct{ from, end slot }

func (s span) empty() bool { return !s.from.before(s.end) }

func (s span) contains(t slot) bool { return !t.before(s.from) && t.before(s.end) }

func (s span) intersect(t span) span {
	if s.from.before(t.from) {
		s.from = t.from
	}
	if t.end.before(s.end) {
		s.end = t.end
	}
	return s
}
