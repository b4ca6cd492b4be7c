package group

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one group; every series has the label "group".
type metrics struct {
	sessions  *prometheus.CounterVec // ended: why it ended
	joins     prometheus.Counter
	restarts  prometheus.Counter
	errors    prometheus.Counter
	running   prometheus.Gauge
	claims    prometheus.Gauge
	duration  prometheus.Histogram
	rejoining prometheus.Histogram
	stall     prometheus.Histogram
}

func newMetrics(group string, r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "audittrail", Subsystem: "group", Name: name, Help: help,
			ConstLabels: prometheus.Labels{"group": group}}
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		o := opts(name, help)
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name,
			Help: o.Help, ConstLabels: o.ConstLabels, Buckets: buckets})
	}
	waits := []float64{.05, .1, .25, .5, 1, 2, 4, 8, 15, 30, 60, 120}
	m := &metrics{
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts(opts("sessions_total",
			"Sessions that ended, by reason: rebalance, owner (EndSession), failure, shutdown, refusal.")), []string{"ended"}),
		joins:     prometheus.NewCounter(prometheus.CounterOpts(opts("join_errors_total", "Attempts to get a session that failed."))),
		restarts:  prometheus.NewCounter(prometheus.CounterOpts(opts("restarts_total", "Processors that could not be built or died, and were built again."))),
		errors:    prometheus.NewCounter(prometheus.CounterOpts(opts("errors_total", "Errors sarama reported outside of a call: heartbeats, commits, fetches."))),
		running:   prometheus.NewGauge(prometheus.GaugeOpts(opts("running", "1 while a session delivers messages."))),
		claims:    prometheus.NewGauge(prometheus.GaugeOpts(opts("claims", "Partitions of the running session."))),
		duration:  histogram("session_seconds", "How long a session lasted.", []float64{1, 5, 15, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600}),
		rejoining: histogram("rejoin_seconds", "From the end of a session until the next one delivers.", waits),
		stall:     histogram("stall_seconds", "From the end of a session to the first message of the next; includes the idle time of a quiet topic.", waits),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.sessions, m.joins, m.restarts, m.errors, m.running, m.claims, m.duration, m.rejoining, m.stall} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
