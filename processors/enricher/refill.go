package enricher

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// A refill (R21) is a session that starts further back than the group's commit, because outputs are missing from audit-records or slots from the
// log. All else is as ever: messages are decided by the same rule, the sink skips what it has and takes what it misses. If the process dies before
// the moved commit is written, the request is still there; after that, the next session goes on from the commit.

// requests is what is asked for on each partition.
type requests struct {
	sinks     []stream.Commit // of the sinks' group, on audit-records
	operators []stream.Commit // of the group without members, on audit-events
}

func (r requests) of(p int32) (note stream.SinkNote, operator stream.RefillRequest) {
	note = stream.SinkNote{Refill: stream.NoCommit}
	if int(p) < len(r.sinks) {
		note = stream.ParseSinkNote(r.sinks[p].Metadata)
	}
	if int(p) < len(r.operators) {
		operator, _ = stream.ParseRefillRequest(r.operators[p])
	}
	return note, operator
}

func (e *Enricher) readRequests(ctx context.Context) (r requests, err error) {
	err = e.ask(ctx, func(admin *stream.Admin) (err error) {
		if r.sinks, err = admin.GroupNotes(ctx, string(stream.SinkGroup), stream.Records); err == nil {
			r.operators, err = admin.GroupNotes(ctx, stream.RefillGroup, stream.Events)
		}
		return err
	})
	return r, err
}

const (
	// requestAge is how old an operator's request may be: one that nobody has read for so long was forgotten.
	requestAge = 24 * time.Hour
	// refillWait is how long a sink's request for the offset that was answered last is not answered again, if it still stands; it doubles with each
	// answer. A sink needs some seconds to withdraw it; one that still stands later was no help.
	refillWait    = 30 * time.Second
	maxRefillWait = time.Hour
)

// due decides where to start again: at from, when a request says so that was not answered yet. at is where the partition stands. next is the mark
// to commit from then on. It is a pure function.
func due(mark stream.RefillMark, at int64, note stream.SinkNote, operator stream.RefillRequest, now time.Time) (from int64, next stream.RefillMark, ok bool) {
	from, next = math.MaxInt64, mark
	if note.Refill != stream.NoCommit && note.Refill < at {
		again := mark.Tries > 0 && mark.Offset == note.Refill
		if !again || !now.Before(mark.At.Add(waitAfter(mark.Tries))) {
			from = note.Refill
			next.Offset, next.At = note.Refill, now
			if next.Tries++; !again {
				next.Tries = 1
			}
		}
	}
	if operator.Asked.After(mark.Asked) && now.Sub(operator.Asked) < requestAge {
		next.Asked = operator.Asked
		if operator.Offset < at {
			from = min(from, operator.Offset)
		}
	}
	if from == math.MaxInt64 {
		return at, next, false
	}
	next.Until = max(at, mark.Until)
	return from, next, true
}

func waitAfter(tries int64) time.Duration {
	return min(refillWait<<min(tries-1, 10), maxRefillWait)
}

// refill moves the start of a claim back when that is due; start is where it would start. What the input does not have any more is not waited for:
// the first output then begins behind it, and the sink declares the gap (R13).
func (e *Enricher) refill(s *group.Session, c group.Claim, l *lane, start int64, mark stream.RefillMark, asked requests) (int64, error) {
	note, operator := asked.of(c.Partition)
	from, mark, ok := due(mark, start, note, operator, time.Now())
	l.mark = mark
	l.unsure.Store(note.Unsure)
	s.SetMetadata(c.Topic, c.Partition, mark.String())
	if !ok {
		return start, nil
	}
	began, err := seek(s, c, from)
	if err != nil {
		return 0, err
	}
	if began > from {
		// Slots that only the window knows, and nobody will see again.
		l.lost = began
		l.unsure.Store(max(note.Unsure, began))
	}
	e.metrics.refills.Inc()
	e.log.Warn().Int32("partition", c.Partition).Int64("asked", from).Int64("from", began).Int64("until", mark.Until).
		Msg("refill: starts again further back")
	return began, nil
}

// seek makes a claim start at from, or where the log starts if that is later.
func seek(s *group.Session, c group.Claim, from int64) (int64, error) {
	for {
		log, err := s.LogRange(c.Topic, c.Partition)
		if err != nil {
			return 0, err
		}
		at := max(from, log.Start)
		err = s.SetPosition(c.Topic, c.Partition, at)
		var outside *group.OutOfLogError
		if !errors.As(err, &outside) {
			return at, err
		}
		// Retention has moved on meanwhile.
		if err := context.Cause(s.Context()); err != nil {
			return 0, err
		}
	}
}

var (
	errRefill   = errors.New("a refill is asked for")
	errReplaced = errors.New("a topic was deleted and made again")
)

// attend looks for requests while a session runs, and ends it when one is due: a claim cannot be moved back, a new session starts where it is asked to.
// It ends the session, too, when a topic was replaced under it: fetching goes by name, so a session that reads on would call slots of the new
// audit-events those of the old one (R18).
func (e *Enricher) attend(s *group.Session, g *generation) {
	tick := time.NewTicker(e.config.RefillInterval)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-s.Context().Done():
			return
		case <-tick.C:
		}
		asked, err := e.readRequests(s.Context())
		if err == nil {
			var now topicIDs
			var partitions int32
			now, partitions, err = e.topicIDs(s.Context())
			switch {
			case err != nil:
			case now != g.topics:
				s.End(errReplaced)
				return
			case partitions != g.partitions:
				s.End(group.Refusal{Err: stream.CountChanged(stream.Events, g.partitions, partitions)})
				return
			}
		}
		if err != nil {
			if err.Error() != last && s.Context().Err() == nil {
				e.log.Warn().Err(err).Msg("cannot look for requests for a refill, and whether the topics are the same")
			}
			last = err.Error()
			continue
		}
		last = ""
		for p, l := range g.lanes {
			note, operator := asked.of(p)
			l.unsure.Store(max(note.Unsure, l.lost))
			if _, _, ok := due(l.mark, l.at.Load(), note, operator, time.Now()); ok {
				s.End(errRefill)
				return
			}
		}
	}
}
