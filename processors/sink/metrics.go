package sink

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/maxviazov/audittrail/internal/clock"
	"github.com/maxviazov/audittrail/proto/event"
)

// metrics of the sink. Labels are bounded: partitions, and the reasons of dead letters.
type metrics struct {
	records     prometheus.Counter
	duplicates  prometheus.Counter
	drops       prometheus.Counter
	dead        *prometheus.CounterVec // reason
	gaps        prometheus.Counter
	fills       prometheus.Counter
	refills     prometheus.Counter
	discarded   prometheus.Counter
	skipped     prometheus.Counter
	malformed   prometheus.Counter
	conflicts   prometheus.Counter
	batchRows   prometheus.Histogram
	batchBytes  prometheus.Histogram
	batchAge    prometheus.Histogram
	flush       prometheus.Histogram
	transaction prometheus.Histogram
	endToEnd    prometheus.Histogram
	lag         *prometheus.GaugeVec // partition
	lagSeconds  *prometheus.GaugeVec // partition
	wedged      *prometheus.GaugeVec // partition
	expired     *prometheus.GaugeVec // partition
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "audittrail", Subsystem: "sink", Name: n, Help: help}
	}
	counter := func(n, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(name(n, help)))
	}
	histogram := func(n, help string, buckets []float64) prometheus.Histogram {
		o := name(n, help)
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name, Help: o.Help, Buckets: buckets})
	}
	gauge := func(n, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts(name(n, help)), []string{"partition"})
	}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 16) // 1 ms to 33 s
	m := &metrics{
		records:     counter("records_total", "Events stored."),
		duplicates:  counter("duplicates_total", "Events that were stored already: retries that got past the enricher's window."),
		drops:       counter("drops_total", "Duplicates that the enricher dropped."),
		dead:        prometheus.NewCounterVec(prometheus.CounterOpts(name("dead_letters_total", "Dead letters stored.")), []string{"reason"}),
		gaps:        counter("gaps_total", "Gaps declared: events were lost before they could be stored."),
		fills:       counter("gap_fills_total", "Parts of gaps that were filled late."),
		refills:     counter("refill_requests_total", "Requests to enrichers to make outputs again that are missing."),
		discarded:   counter("discarded_outputs_total", "Outputs that came before the slots ahead of them, and come again."),
		skipped:     counter("skipped_outputs_total", "Outputs that covered nothing new: replays of an enricher."),
		malformed:   counter("malformed_outputs_total", "Values of audit-records that no enricher writes, left out."),
		conflicts:   counter("conflict_batches_total", "Batches that were written again because an id was taken."),
		batchRows:   histogram("batch_records", "Records of a batch.", prometheus.ExponentialBuckets(1, 4, 9)),
		batchBytes:  histogram("batch_bytes", "Bytes of the messages of a batch.", prometheus.ExponentialBuckets(1024, 4, 9)),
		batchAge:    histogram("batch_age_seconds", "Age of the first message of a batch when it is stored.", seconds),
		flush:       histogram("flush_seconds", "Time from a collected batch to its commit.", seconds),
		transaction: histogram("transaction_seconds", "Time of a transaction.", seconds),
		endToEnd:    histogram("end_to_end_seconds", "Time from the emitter's receipt to the commit, of the first event of each message.", prometheus.ExponentialBuckets(0.01, 2, 18)),
		lag:         gauge("lag_records", "Messages of audit-records not stored yet."),
		lagSeconds:  gauge("lag_seconds", "For how long at least the oldest of them has been waiting."),
		wedged:      gauge("wedged", "1: slots the enricher has finished are missing from audit-records; a refill is asked for."),
		expired:     gauge("input_expired", "1: the start of audit-events is beyond the next slot to be stored; a gap is to come."),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.records, m.duplicates, m.drops, m.dead, m.gaps, m.fills, m.refills, m.discarded, m.skipped, m.malformed, m.conflicts, m.batchRows,
		m.batchBytes, m.batchAge, m.flush, m.transaction, m.endToEnd, m.lag, m.lagSeconds, m.wedged, m.expired} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// forget drops the series of partitions that are no longer ours.
func (m *metrics) forget() {
	for _, g := range []*prometheus.GaugeVec{m.lag, m.lagSeconds, m.wedged, m.expired} {
		g.Reset()
	}
}

func partition(p int32) string { return strconv.Itoa(int(p)) }

// reasonLabel keeps the label bounded: a newer enricher may know reasons that this program does not.
func reasonLabel(reason string) string {
	switch reason {
	case event.ReasonOversize, event.ReasonEmpty, event.ReasonUndecodable, event.ReasonWrongPartition, event.ReasonWrongSource,
		event.ReasonUnexpectedEnrichment, event.ReasonInvalidEvent, event.ReasonConflict, event.ReasonExpired, ReasonOtherTopic:
		return reason
	}
	return "OTHER"
}

// report counts and logs a batch that was stored.
func (b *batcher) report(items []*item, took time.Duration, attempts int) {
	m, now := b.sink.metrics, clock.Now()
	var total folded
	var records, retries, dead, gaps int64
	for _, l := range b.batch.logs {
		records, retries, dead, gaps = records+l.records, retries+l.retries, dead+l.dead, gaps+l.gaps
		total.drops, total.discarded, total.skipped = total.drops+l.dropped, total.discarded+l.discarded, total.skipped+l.skipped
		m.fills.Add(float64(len(l.fills)))
		for i := range l.stored() {
			d := &l.decisions[i]
			switch {
			case d.kind == takeGap:
				b.log.Error().Int16("log", l.head.log).Stringer("from", d.gap.from).Stringer("end", d.gap.end).Stringer("reason", d.gap.reason).
					Msg("gap declared: events were lost before they could be stored")
			case d.dead != nil:
				m.dead.WithLabelValues(reasonLabel(d.dead.letter.Reason)).Inc()
			}
		}
	}
	bytes := 0
	for _, it := range items {
		bytes += it.bytes
		if len(it.records) > 0 && it.records[0].ReceivedSeconds > 0 {
			s := &it.records[0]
			m.endToEnd.Observe(now.Sub(time.Unix(s.ReceivedSeconds, int64(s.ReceivedNanos))).Seconds())
		}
	}
	m.records.Add(float64(records))
	m.duplicates.Add(float64(retries))
	m.drops.Add(float64(total.drops))
	m.gaps.Add(float64(gaps))
	m.discarded.Add(float64(total.discarded))
	m.skipped.Add(float64(total.skipped))
	m.batchRows.Observe(float64(records))
	m.batchBytes.Observe(float64(bytes))
	var age time.Duration
	if len(items) > 0 {
		age = now.Sub(items[0].arrived)
		m.batchAge.Observe(age.Seconds())
	}
	m.flush.Observe(took.Seconds())
	b.log.Info().Int("messages", len(items)).Int64("records", records).Int64("drops", total.drops).Int64("duplicates", retries).Int64("dead_letters", dead).
		Int64("gaps", gaps).Int64("discarded", total.discarded).Int("bytes", bytes).Int("attempts", attempts).Dur("took", took).Dur("age", age).Msg("batch stored")
}
