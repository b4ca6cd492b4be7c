package indexer

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/maxviazov/audittrail/internal/termindex"
)

type metrics struct {
	active   prometheus.Gauge
	backlog  prometheus.Gauge
	runs     prometheus.Gauge
	bytes    prometheus.Gauge
	segments prometheus.Counter
	merges   prometheus.Counter
	failures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(n, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "audittrail", Subsystem: "indexer", Name: n, Help: help})
	}
	counter := func(n, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "audittrail", Subsystem: "indexer", Name: n, Help: help})
	}
	m := &metrics{
		active:   gauge("active", "1: this process is making or merging term runs; of several sinks one does."),
		backlog:  gauge("lag_segments", "Complete segments that are in no term run."),
		runs:     gauge("runs", "Term runs."),
		bytes:    gauge("run_bytes", "Bytes in their blocks."),
		segments: counter("segments_total", "Segments that were indexed."),
		merges:   counter("merges_total", "Merges of term runs."),
		failures: counter("failures_total", "Steps that failed, to be tried again."),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.active, m.backlog, m.runs, m.bytes, m.segments, m.merges, m.failures} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) observe(runs []*termindex.Run, backlog int64) {
	bytes := int64(0)
	for _, r := range runs {
		bytes += r.Bytes
	}
	m.backlog.Set(float64(backlog))
	m.runs.Set(float64(len(runs)))
	m.bytes.Set(float64(bytes))
}
