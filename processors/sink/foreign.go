package sink

import (
	"fmt"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// foreign takes an output for another `audit-events` than the head's. If Kafka has another one by now, this session's premise is gone and the sink
// refuses (R18). If not, the output is older than a replacement that was accepted: its slots count in a topic that is no more, so nothing of it can
// be placed, and what it kept becomes dead letters, to be re-driven.
func (b *batcher) foreign(h *head, it *item, f *folded) error {
	now, err := b.sink.topics(b.session.Context())
	if err != nil {
		return err
	}
	if now.events != b.topics.events {
		return group.Refusal{Err: fmt.Errorf("%s was replaced while the sink ran: stored %x, Kafka has %x; see `audittrail topics accept-new`",
			stream.Events, b.topics.events, now.events)}
	}
	h.position, f.special = it.offset+1, true
	for e := range events(it, span{slot{it.output.Offset, 0}, slot{it.output.Offset + 1, 0}}) {
		if e.drop != nil {
			continue // of something that is stored, or another of these
		}
		d := e.decision(it)
		if d.kind == takeRecord {
			d.kill(ReasonOtherTopic, "from an audit-events that was replaced before this was stored")
		}
		f.decisions = append(f.decisions, d)
	}
	return nil
}
