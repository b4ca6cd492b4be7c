package sink

import (
	"github.com/maxviazov/audittrail/proto/stream"
)

// wedgeDetector is R21 for one log: it remembers what the enricher had finished at one look, and where audit-records ended after that. When the sink
// has read up to there, however long that takes, a slot below that commit that is still open has lost its output; no time will bring it. (Open slots
// inside declared gaps are known and not meant.) To compare with the end of now alone would find nothing while outputs keep coming.
type wedgeDetector struct {
	commit, end int64
	pending     bool
	wedged      bool
	next        slot // at the last look
}

// observe says whether the log is wedged as far as is known. commit was read before end, and end before at.
func (w *wedgeDetector) observe(at seen, commit, end int64) bool {
	if commit < w.commit || at.next != w.next {
		// The enricher starts again further back, or the log goes on: what was seen before says nothing of what is to come.
		*w = wedgeDetector{next: at.next}
	}
	w.judge(at)
	if !w.pending {
		w.commit, w.end, w.pending = commit, end, true
		w.judge(at)
	}
	return w.wedged
}

func (w *wedgeDetector) judge(at seen) {
	if w.pending && at.position >= w.end {
		w.wedged, w.pending = w.commit != stream.NoCommit && at.next.before(slot{w.commit, 0}), false
	}
}

// missing says what a sink asks enrichers for: to start again at Refill, when that brings back something that is missing. inputStart is where
// audit-events begins; nothing before it can be made again, and what lies there becomes a gap with the next output (R13). gaps are the open parts of
// the ledger, in order: their slots are only asked for when they can be filled, which is so for drops that could not be believed (R14).
func missing(at seen, wedged bool, gaps []span, inputStart, commit int64) stream.SinkNote {
	note := stream.SinkNote{Refill: stream.NoCommit}
	for _, g := range gaps {
		end := g.end.offset
		if g.end.index > 0 {
			end++
		}
		note.Unsure = max(note.Unsure, end)
	}
	if wedged {
		if inputStart < commit {
			note.Refill = at.next.offset
		}
		return note
	}
	for _, g := range gaps {
		first := g.from
		if start := (slot{inputStart, 0}); first.before(start) {
			first = start
		}
		if first.before(g.end) && first.offset < commit {
			note.Refill = first.offset
			return note
		}
	}
	return note
}

// spans are the open gaps, apart from the ledger.
func (l ledger) spans() []span {
	var open []span
	for _, p := range l {
		open = append(open, p.span)
	}
	return open
}
