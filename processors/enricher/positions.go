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
	var ids topicIDs
	var partitions int32
	err := e.ask(ctx, func(admin *stream.Admin) (err error) {
		if ids.events, partitions, err = admin.TopicID(ctx, stream.Events); err == nil {
			ids.table, _, err = admin.TopicID(ctx, stream.Table)
		}
		return err
	})
	if err != nil {
		return err
	}
	asked, err := e.readRequests(ctx)
	if err != nil {
		// The coordinator of another group may be away: attend looks again.
		e.log.Warn().Err(err).Msg("cannot look for requests for a refill")
	}
	g := &generation{session: s, lanes: make(map[int32]*lane)}
	for _, c := range s.Claims() {
		start, err := startOf(s, c)
		if err != nil {
			return err
		}
		l := e.newLane(s, c, ids, partitions)
		if l.next, err = e.refill(s, c, l, start, asked); err != nil {
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

// startOf is where a claim starts (R2): at the group's commit, or at the start of the log when there is no commit, or when
// retention has taken what is at it. A commit beyond the end of the log means that the log is not the one it was; to start
// anywhere in it would skip what was acknowledged.
func startOf(s *group.Session, c group.Claim) (int64, error) {
	commit, ok, err := s.Committed(c.Topic, c.Partition)
	if err != nil {
		return 0, err
	}
	log, err := s.LogRange(c.Topic, c.Partition)
	switch {
	case err != nil:
		return 0, err
	case ok && commit > log.End:
		return 0, group.Refusef("the log of %s/%d went backwards: the group's commit is %d, its end is %d", c.Topic, c.Partition, commit, log.End)
	case ok && commit >= log.Start:
		return commit, nil
	case newestOffset && !ok:
		return seek(s, c, log.End)
	}
	return seek(s, c, log.Start)
}
