package enricher

import (
	"context"
	"fmt"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// The number of partitions says where a source belongs, and in which log and table its past is. Kafka lets anyone raise it. What was
// placed by the old number would then be called wrongly placed, and become a dead letter: so the enricher knows the number that its
// commits were made with (R18), and refuses any other before it decides about a message.

// unevenPartitions lists the topics that have another number of partitions than audit-events; an output cannot go to the partition of its input then.
// Another number of its own is told first: what to do about that is something else.
func unevenPartitions(ctx context.Context, admin *stream.Admin) (problems []error, err error) {
	id, events, err := admin.TopicID(ctx, stream.Events)
	if err != nil {
		return nil, err
	}
	if err := sameAsCommitted(ctx, admin, id, events); err != nil {
		return nil, err
	}
	for _, topic := range []string{stream.Records, stream.Table} {
		_, n, err := admin.TopicID(ctx, topic)
		if err != nil {
			return nil, err
		}
		if n != events {
			problems = append(problems, fmt.Errorf("topic %s has %d partitions, must have the %d of %s: delete the topic that is wrong, make it again with "+
				"`audittrail topics apply`, and run `audittrail topics accept-new`", topic, n, events, stream.Events))
		}
	}
	return problems, nil
}

// samePartitions refuses when audit-events has other partitions than before: in an earlier session, or at a commit of the group on any of them. A
// replica that has only new partitions would see no commit of its own.
func (e *Enricher) samePartitions(ctx context.Context, ids topicIDs, partitions int32) error {
	if g := e.generation.Load(); g != nil && g.topics.events == ids.events && g.partitions != partitions {
		return group.Refusal{Err: stream.CountChanged(stream.Events, g.partitions, partitions)}
	}
	return e.ask(ctx, func(admin *stream.Admin) error { return sameAsCommitted(ctx, admin, ids.events, partitions) })
}

// sameAsCommitted compares with what stands beside the commits.
func sameAsCommitted(ctx context.Context, admin *stream.Admin, events [16]byte, partitions int32) error {
	notes, err := admin.GroupNotes(ctx, string(stream.EnricherGroup), stream.Events)
	if err != nil {
		return err
	}
	for _, note := range notes {
		mark := stream.ParseRefillMark(note.Metadata)
		if mark.Topic == events && mark.Partitions != 0 && mark.Partitions != partitions {
			return group.Refusal{Err: stream.CountChanged(stream.Events, mark.Partitions, partitions)}
		}
	}
	return nil
}

// placement returns nil when audit-events is the one it was, with the partitions it had.
func (e *Enricher) placement(ctx context.Context, ids topicIDs, partitions int32) error {
	now, n, err := e.topicIDs(ctx)
	switch {
	case err != nil:
		return err
	case now != ids:
		return errReplaced
	case n != partitions:
		return group.Refusal{Err: stream.CountChanged(stream.Events, partitions, n)}
	}
	return nil
}

// misplaced is asked before a message becomes a dead letter because it stands in the wrong partition: a producer may have learned of another
// number of partitions before we do. The answer counts for all that was in the log when the question was asked, so that a flood of such messages
// asks seldom.
func (l *lane) misplaced(ctx context.Context, offset int64) error {
	if l.placement == nil || offset < l.placed { // nil under goka's tester
		return nil
	}
	until, err := l.placement(ctx)
	if err != nil {
		return err
	}
	l.placed = max(until, offset+1) // the message was there, too
	return nil
}
