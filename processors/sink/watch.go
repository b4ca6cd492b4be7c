package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// watch looks at the pipeline from outside, for one session: how far behind the sink is, whether a gap is to come (only alerted here: R13), and
// whether slots were lost between enricher and sink (R21).
func (b *batcher) watch() {
	ctx := b.session.Context()
	lags := make(map[int16]*lagClock)
	wedged := make(map[int16]bool)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(b.sink.cfg.WatchInterval):
		}
		if err := b.look(ctx, lags, wedged); err != nil && ctx.Err() == nil {
			b.log.Warn().Err(err).Msg("cannot look after the pipeline")
		}
	}
}

func (b *batcher) look(ctx context.Context, lags map[int16]*lagClock, wedged map[int16]bool) error {
	admin, err := b.sink.getAdmin(ctx)
	if err != nil {
		return err
	}
	// The enricher's commits first, then the ends of what it wrote: all that it had finished at the commits stands before the ends.
	commits, err := admin.GroupCommits(ctx, string(stream.EnricherGroup), stream.Events)
	if err != nil {
		return err
	}
	for _, log := range b.logs {
		p := int32(log)
		output, err := b.session.LogRange(stream.Records, p)
		if err != nil {
			return err
		}
		input, err := b.session.LogRange(stream.Events, p)
		if err != nil {
			return err
		}
		b.mu.Lock()
		at := b.seen[log]
		b.mu.Unlock()
		if lags[log] == nil {
			lags[log] = new(lagClock)
		}
		m := b.sink.metrics
		m.lag.WithLabelValues(partition(p)).Set(float64(max(0, output.End-at.position)))
		m.lagSeconds.WithLabelValues(partition(p)).Set(lags[log].observe(output.End, at.position, time.Now()).Seconds())
		m.expired.WithLabelValues(partition(p)).Set(number(at.next.before(slot{input.Start, 0})))
		is := isWedged(at, output, commitOf(commits, p))
		m.wedged.WithLabelValues(partition(p)).Set(number(is))
		b.request(p, at, is, wedged)
	}
	return nil
}

func commitOf(commits []int64, p int32) int64 {
	if int(p) < len(commits) {
		return commits[p]
	}
	return stream.NoCommit
}

// isWedged is R21: the sink has read to the end of audit-records as it was after the enricher's commit was read, and a slot below that commit is
// still open. Its output is lost; no time will bring it. (Open slots inside declared gaps are known and not meant.)
func isWedged(at seen, output group.LogRange, commit int64) bool {
	return at.position >= output.End && commit != stream.NoCommit && at.next.before(slot{commit, 0})
}

// request alerts, and puts the first open slot where enrichers can read it: into the metadata of the sink's commit. Nothing answers it yet.
func (b *batcher) request(p int32, at seen, is bool, wedged map[int16]bool) {
	if is == wedged[int16(p)] {
		return
	}
	wedged[int16(p)] = is
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
