package emitters

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Reasons why an event was not accepted: the values of the label `reason`.
const (
	reasonInvalid     = "invalid"     // the producer must correct it
	reasonOverloaded  = "overloaded"  // MaxInFlightBytes
	reasonUnavailable = "unavailable" // the broker is not there, or refused
	reasonLate        = "late"        // no ack within AckTimeout
	reasonGone        = "gone"        // the caller's deadline passed, or it went away
	reasonDraining    = "draining"    // the emitter is shutting down
)

type metrics struct {
	accepted      prometheus.Counter
	rejected      *prometheus.CounterVec
	remembered    prometheus.Counter
	redisErrors   prometheus.Counter
	ackSeconds    prometheus.Histogram
	messageEvents prometheus.Histogram
	messageBytes  prometheus.Histogram
	requestEvents prometheus.Histogram
	streams       prometheus.Gauge
}

// newMetrics registers all metrics; inFlight is read at each scrape.
func newMetrics(r prometheus.Registerer, inFlight func() float64) *metrics {
	f := promauto.With(r)
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "audittrail", Subsystem: "emitter", Name: name, Help: help}
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Namespace: "audittrail", Subsystem: "emitter", Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		accepted:    f.NewCounter(prometheus.CounterOpts(opts("events_accepted_total", "Events that Kafka has acknowledged."))),
		rejected:    f.NewCounterVec(prometheus.CounterOpts(opts("events_rejected_total", "Events that were answered with an error.")), []string{"reason"}),
		remembered:  f.NewCounter(prometheus.CounterOpts(opts("events_remembered_total", "Events answered from the memory of a request_id."))),
		redisErrors: f.NewCounter(prometheus.CounterOpts(opts("redis_errors_total", "Failed look-ups or writes of a request_id."))),
		ackSeconds: histogram("ack_seconds", "Time from sealing a message to its acknowledgement.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}),
		messageEvents: histogram("message_events", "Events in one Kafka message.", []float64{1, 2, 5, 10, 25, 50, 100, 200, 350, 500}),
		messageBytes:  histogram("message_bytes", "Length of the value of one Kafka message.", prometheus.ExponentialBuckets(256, 4, 6)),
		requestEvents: histogram("request_events", "Events in one EmitEvent or BatchEmitEvents.", []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000}),
		streams:       f.NewGauge(prometheus.GaugeOpts(opts("streams", "Open streams."))),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts(opts("in_flight_bytes", "Bytes of events that the producer has not resolved, with overhead.")), inFlight)
	for _, reason := range []string{reasonInvalid, reasonOverloaded, reasonUnavailable, reasonLate, reasonGone, reasonDraining} {
		m.rejected.WithLabelValues(reason)
	}
	return m
}

func (m *metrics) reject(reason string, n int) {
	if n > 0 {
		m.rejected.WithLabelValues(reason).Add(float64(n))
	}
}
