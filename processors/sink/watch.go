package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/proto/stream"
)

// watch looks at the pipeline from outside, for one session: how far behind the sink is, whether a gap is to come (only alerted here: R13), and
// whether slots were lost between enricher and sink (R21).
func (b *batcher) watch() {
	ctx := b.session.Context()
	logs := make(map[int16]*watched)
	for _, log := range b.logs {
		logs[log] = new(watched)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(b.sink.cfg.WatchInterval):
		}
		if err := b.look(ctx, logs); err != nil && ctx.Err() == nil {
			b.log.Warn().Err(err).Msg("cannot look after the pipeline")
		}
	}
}

// watched is what the watch remembers of one log.
type watched struct {
	lag       lagClock
	wedge     wedgeDetector
	requested bool
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
	at := b.seen[int16(p)]
	b.mu.Unlock()
	m := b.sink.metrics
	m.lag.WithLabelValues(partition(p)).Set(float64(max(0, output.End-at.position)))
	m.lagSeconds.WithLabelValues(partition(p)).Set(w.lag.observe(output.End, at.position, time.Now()).Seconds())
	m.expired.WithLabelValues(partition(p)).Set(number(at.next.before(slot{input.Start, 0})))
	is := w.wedge.observe(at, commit, output.End)
	m.wedged.WithLabelValues(partition(p)).Set(number(is))
	if is != w.requested {
		w.requested = is
		b.request(p, at, is)
	}
	return nil
}

func commitOf(commits []int64, p int32) int64 {
	if int(p) < len(commits) {
		return commits[p]
	}
	return stream.NoCommit
}

// wedgeDetector is R21 for one log: it remembers what the enricher had finished at one look, and where audit-records ended after that. When the sink
// has read up to there, however long that takes, a slot below that commit that is still open has lost its output; no time will bring it. (Open slots
// inside declared gaps are known and not meant.) To compare with the end of now alone would find nothing while outputs keep coming.
type wedgeDetector struct {
	commit, end int64
	pending     bool
	wedged      bool
}

// observe says whether the log is wedged as far as is known. commit was read before end, and end before at.
func (w *wedgeDetector) observe(at seen, commit, end int64) bool {
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

// request alerts, and puts the first open slot where enrichers can read it: into the metadata of the sink's commit. Nothing answers it yet.
func (b *batcher) request(p int32, at seen, is bool) {
	metadata := ""
	if is {
		metadata = fmt.Sprintf("refill %s", at.next)
		b.log.Error().Int32("partition", p).Stringer("first_open_slot", at.next).
			Msg("wedged: slots that the enricher has finished are missing from audit-records; events are kept waiting until it sends them again (reset the enricher group to that offset)")
	}
	b.session.SetMetadata(stream.Records, p, metadata)
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
