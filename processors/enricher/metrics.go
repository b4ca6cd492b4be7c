package enricher

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the enrichers of one process.
type metrics struct {
	messages    prometheus.Counter
	replays     prometheus.Counter
	events      prometheus.Counter
	kept        prometheus.Counter
	duplicates  prometheus.Counter
	deadLetters *prometheus.CounterVec // reason
	batch       prometheus.Histogram
	processing  prometheus.Histogram
	lag         *prometheus.GaugeVec // partition
	windowIDs   *prometheus.GaugeVec // partition
	snapshotAt  *prometheus.GaugeVec // partition
	recovery    prometheus.Histogram
	recovered   prometheus.Counter
	rewritten   prometheus.Counter
	badValues   prometheus.Counter
	refills     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "audittrail", Subsystem: "enricher", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts(opts(name, help)), []string{"partition"})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "audittrail", Subsystem: "enricher", Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		messages:   counter("messages_total", "Messages of audit-events processed, replays included."),
		replays:    counter("replayed_messages_total", "Messages that the state of their source had folded in before."),
		events:     counter("events_total", "Events in them."),
		kept:       counter("kept_events_total", "Events passed on as records."),
		duplicates: counter("duplicate_events_total", "Events dropped because an earlier slot holds the same."),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts(opts("dead_letters_total",
			"Events and whole messages that could not be processed, by reason.")), []string{"reason"}),
		batch:      histogram("message_events", "Events in a message.", []float64{1, 2, 5, 10, 20, 50, 100, 200, 500}),
		processing: histogram("processing_seconds", "From the start of a callback to its last send being queued.", prometheus.ExponentialBuckets(20e-6, 2, 14)),
		lag:        gauge("lag_seconds", "Age of the last processed message when it was processed."),
		windowIDs:  gauge("window_ids", "Ids in the dedup window."),
		snapshotAt: gauge("snapshot_timestamp_seconds", "When the last local snapshot was made."),
		recovery:   histogram("recovery_seconds", "How long the table of a partition took to recover.", []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}),
		recovered:  counter("recovered_values_total", "Values read from the changelog of the table to recover it."),
		rewritten:  counter("rewritten_states_total", "States written again because an older one stood last in the changelog."),
		badValues:  counter("bad_values_total", "Values of the table or of the registry that were left out because they do not decode."),
		refills:    counter("refills_total", "Refills: partitions that started again further back because it was asked for."),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.messages, m.replays, m.events, m.kept, m.duplicates, m.deadLetters, m.batch, m.processing,
		m.lag, m.windowIDs, m.snapshotAt, m.recovery, m.recovered, m.rewritten, m.badValues, m.refills} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func label(partition int32) string { return strconv.Itoa(int(partition)) }
