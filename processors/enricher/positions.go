package enricher

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// positions runs before goka's own setup in each session: it finds where every claim starts and makes its store ready. It
// writes nothing but positions, so it may die anywhere.
func (e *Enricher) positions(ctx context.Context, s *group.Session) error {
	if err := e.stores.refused(); err != nil {
		return err
	}
	ids, partitions, err := e.topicIDs(ctx)
	if err != nil {
		return err
	}
	if err := e.samePartitions(ctx, ids, partitions); err != nil {
		return err
	}
	asked, err := e.readRequests(ctx)
	if err != nil {
		// The coordinator of another group may be away: attend looks again.
		e.log.Warn().Err(err).Msg("cannot look for requests for a refill")
	}
	g := &generation{session: s, topics: ids, partitions: partitions, lanes: make(map[int32]*lane)}
	for _, c := range s.Claims() {
		start, mark, err := e.startOf(s, c, ids.events)
		if err != nil {
			return err
		}
		mark.Partitions = partitions
		l := e.newLane(s, c, ids, partitions)
		if l.next, err = e.refill(s, c, l, start, mark, asked); err != nil {
			return fmt.Errorf("refill %s/%d: %w", c.Topic, c.Partition, err)
		}
		l.at.Store(l.next)
		g.lanes[c.Partition] = l
	}
	loading, ctx := errgroup.WithContext(ctx)
	for p, l := range g.lanes {
		loading.Go(func() error {
			changelog, err := s.LogRange(stream.Table, p)
			if err != nil {
				return err
			}
			l.store = e.stores.prepare(p, ids, changelog)
			return context.Cause(ctx)
		})
	}
	if err := loading.Wait(); err != nil {
		return err
	}
	e.metrics.lag.Reset() // of partitions that went elsewhere
	e.metrics.windowIDs.Reset()
	e.generation.Store(g)
	e.attending.Go(func() { e.attend(s, g) })
	return nil
}

// topicIDs asks Kafka for the topics as they are now, and for the number of partitions of audit-events.
func (e *Enricher) topicIDs(ctx context.Context) (ids topicIDs, partitions int32, err error) {
	err = e.ask(ctx, func(admin *stream.Admin) (err error) {
		if ids.events, partitions, err = admin.TopicID(ctx, stream.Events); err == nil {
			ids.table, _, err = admin.TopicID(ctx, stream.Table)
		}
		return err
	})
	return ids, partitions, err
}

// startOf is where a claim starts (R2): at the group's commit, or at the start of the log when there is no commit, or when
// retention has taken what is at it, or when the commit is a position in an audit-events that was replaced (R18). A commit beyond the
// end of the log it belongs to means that the log is not the one it was; to start anywhere in it would skip what was acknowledged.
func (e *Enricher) startOf(s *group.Session, c group.Claim, topic [16]byte) (int64, stream.RefillMark, error) {
	fresh := stream.RefillMark{Topic: topic}
	commit, ok, err := s.Committed(c.Topic, c.Partition)
	if err != nil {
		return 0, fresh, err
	}
	metadata, err := s.CommittedMetadata(c.Topic, c.Partition)
	if err != nil {
		return 0, fresh, err
	}
	log, err := s.LogRange(c.Topic, c.Partition)
	if err != nil {
		return 0, fresh, err
	}
	mark := stream.ParseRefillMark(metadata)
	if replaced := ok && mark.Topic != topic && mark.Topic != ([16]byte{}); replaced {
		e.log.Warn().Int32("partition", c.Partition).Int64("commit", commit).Msg("audit-events was replaced since the group's commit: starts where it starts")
		at, err := seek(s, c, log.Start)
		return at, fresh, err
	}
	mark.Topic = topic
	switch {
	case ok && commit > log.End:
		return 0, mark, group.Refusef("the log of %s/%d went backwards: the group's commit is %d, its end is %d", c.Topic, c.Partition, commit, log.End)
	case ok && commit >= log.Start:
		return commit, mark, nil
	case newestOffset && !ok:
		at, err := seek(s, c, log.End)
		return at, mark, err
	}
	at, err := seek(s, c, log.Start)
	return at, mark, err
}
