package sink

import (
	"context"
	"errors"
	"time"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// watch looks at the pipeline from outside, for one session: how far behind the sink is, whether a gap is to come (only alerted here: R13), whether
// slots were lost between enricher and sink (R21), and whether the topics are the same (R18).
func (b *batcher) watch() {
	ctx := b.session.Context()
	logs := make(map[int16]*watched)
	for _, log := range b.logs {
		logs[log] = &watched{note: "unknown"}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(b.sink.cfg.WatchInterval):
		}
		err := b.sameTopics(ctx)
		if err == nil {
			err = b.look(ctx, logs)
		}
		if err != nil && ctx.Err() == nil {
			b.log.Warn().Err(err).Msg("cannot look after the pipeline")
		}
	}
}

var errReplaced = errors.New("a topic was deleted and made again, or got partitions")

// sameTopics ends the session when a topic was replaced under it: fetching goes by name, so it would read on, somewhere in the new one. The next
// session's claim then refuses, or goes on when the new topics were accepted meanwhile.
func (b *batcher) sameTopics(ctx context.Context) error {
	now, err := b.sink.topics(ctx)
	var refusal group.Refusal
	switch {
	case errors.As(err, &refusal):
		b.session.End(err)
	case err == nil && now != b.topics:
		b.session.End(errReplaced)
	}
	return err
}

// watched is what the watch remembers of one log.
type watched struct {
	lag    lagClock
	wedge  wedgeDetector
	wedged bool
	note   string // last left beside the commit
}

func (b *batcher) look(ctx context.Context, logs map[int16]*watched) error {
	admin, err := b.sink.getAdmin(ctx)
	if err != nil {
		return err
	}
	// The enricher's commits first, then the ends of what it wrote: all that it had finished at the commits stands before the ends.
	commits, err := admin.GroupCommits(ctx, string(stream.EnricherGroup), stream.Events)
	if err != nil {
		return err
	}
	var errs []error
	for log, w := range logs {
		// A partition without a leader must not hide the others.
		errs = append(errs, b.lookAt(int32(log), w, commitOf(commits, int32(log))))
	}
	return errors.Join(errs...)
}

func (b *batcher) lookAt(p int32, w *watched, commit int64) error {
	output, err := b.session.LogRange(stream.Records, p)
	if err != nil {
		return err
	}
	input, err := b.session.LogRange(stream.Events, p)
	if err != nil {
		return err
	}
	b.mu.Lock()
	at, gaps := b.seen[int16(p)], b.gaps[int16(p)]
	b.mu.Unlock()
	m := b.sink.metrics
	m.lag.WithLabelValues(partition(p)).Set(float64(max(0, output.End-at.position)))
	m.lagSeconds.WithLabelValues(partition(p)).Set(w.lag.observe(output.End, at.position, time.Now()).Seconds())
	m.expired.WithLabelValues(partition(p)).Set(number(at.next.before(slot{input.Start, 0})))
	is := w.wedge.observe(at, commit, output.End)
	m.wedged.WithLabelValues(partition(p)).Set(number(is))
	b.request(p, at, is, missing(at, is, gaps, input.Start, commit), w)
	return nil
}

func commitOf(commits []int64, p int32) int64 {
	if int(p) < len(commits) {
		return commits[p]
	}
	return stream.NoCommit
}

// request alerts, and puts what is missing where enrichers read it: into the metadata of the sink's commit. It is withdrawn when the slots are
// there, when the enricher has started again (its commit is back), and when nothing of it can be made again.
func (b *batcher) request(p int32, at seen, is bool, note stream.SinkNote, w *watched) {
	if is && !w.wedged {
		b.log.Error().Int32("partition", p).Stringer("first_open_slot", at.next).Bool("refill", note.Refill != stream.NoCommit).
			Msg("wedged: slots that the enricher has finished are missing from audit-records; events wait until it has made them again")
	}
	w.wedged = is
	if n := note.String(); n != w.note {
		if note.Refill != stream.NoCommit {
			b.log.Warn().Int32("partition", p).Int64("from", note.Refill).Msg("enrichers are asked for a refill")
			b.sink.metrics.refills.Inc()
		}
		w.note = n
		b.session.SetMetadata(stream.Records, p, n)
	}
}

// lagClock tells for how long a position has been behind: since the oldest observed end that it has not reached.
type lagClock struct {
	ends []observed
}

type observed struct {
	end int64
	at  time.Time
}

func (l *lagClock) observe(end, position int64, now time.Time) time.Duration {
	reached := 0
	for reached < len(l.ends) && l.ends[reached].end <= position {
		reached++
	}
	l.ends = append(l.ends[:0], l.ends[reached:]...)
	if end > position && (len(l.ends) == 0 || l.ends[len(l.ends)-1].end < end) && len(l.ends) < maxObserved {
		l.ends = append(l.ends, observed{end, now})
	}
	if len(l.ends) == 0 {
		return 0
	}
	return now.Sub(l.ends[0].at)
}

// maxObserved bounds a lagClock; beyond it, later ends count as seen when the earlier ones are reached.
const maxObserved = 10_000

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
